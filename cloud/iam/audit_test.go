package iam_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestAuditIsWholeAndOrdered makes deliveries and denials in turn, then everything with which the API could touch what
// they were about: the records stay as they were written, one for each decision, in the order of the decisions.
func TestAuditIsWholeAndOrdered(t *testing.T) {
	s := newScene(t)
	var want []string
	for i := range 20 {
		caller := s.caller
		caller.RequestID = "request-" + strconv.Itoa(i)
		r := s.request(t, s.arn, s.identity, s.clock.Now())
		form, kind := r.Form(), iam.EventDelivered
		if i%3 == 1 {
			form.Set("Timestamp", "yesterday")
			kind = iam.EventDenied
		}
		_, _, err := s.DownloadServerCertificate(authn.WithCaller(t.Context(), caller), form)
		if (err != nil) != (kind == iam.EventDenied) {
			t.Fatalf("delivery %d: %v", i, err)
		}
		want = append(want, kind+" "+caller.RequestID)
	}
	before := s.log.String()
	var got []string
	for line := range strings.Lines(before) {
		var ev journal.Event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(ev.Kind, "delivery.") {
			continue
		}
		got = append(got, ev.Kind+" "+ev.Attributes[journal.RequestID])
		for _, name := range strings.Fields("caller accessKeyId instance arn profile nonce lbcert lbcertSerial") {
			if ev.Attributes[name] == "" {
				t.Errorf("%s of %s has no %s", ev.Kind, ev.Attributes[journal.RequestID], name)
			}
		}
		if ev.Kind == iam.EventDenied && (ev.Attributes["reason"] == "" || ev.Attributes["wanted"] == "") {
			t.Errorf("a denial without its reason: %v", ev.Attributes)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the audit is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	root := s.root(t, demoAccount)
	must(root, t, s.UpdateServerCertificate, &iammodel.UpdateServerCertificateInput{
		ServerCertificateName: model.Ptr("www"), NewServerCertificateName: model.Ptr("renamed")})
	must(root, t, s.DeleteServerCertificate,
		&iammodel.DeleteServerCertificateInput{ServerCertificateName: model.Ptr("renamed")})
	if err := s.DeleteServiceRole(t.Context(), systemAccount, lbRole); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.log.String(), before) {
		t.Error("records of the audit were changed after they were written")
	}
}

// TestNoAuditNoDelivery takes the disk away under the audit.
func TestNoAuditNoDelivery(t *testing.T) {
	disk := &failingWriter{}
	s := newScene(t, func(c *iam.Config) { c.Journal = journal.New(disk) })
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	disk.err = errors.New("no space left on device")
	contentType, body, err := s.DownloadServerCertificate(authn.WithCaller(t.Context(), s.caller), r.Form())
	wantCode(t, err, "InternalFailure")
	if contentType != "" || body != nil {
		t.Error("an answer left without its record")
	}
	disk.err = nil
	r = s.request(t, s.arn, s.identity, s.clock.Now())
	if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
		t.Errorf("control: %v", err)
	}
}

type failingWriter struct{ err error }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// TestCallerLearnsTheCodeAlone compares the answers to denials of every kind: code, status and words are the same.
func TestCallerLearnsTheCodeAlone(t *testing.T) {
	s := newScene(t)
	other := s.lbIdentity(t, instanceB)
	answers := map[string]bool{}
	for name, try := range map[string]func() error{
		"another's LBCERT": func() error {
			r := s.request(t, s.arn, other, s.clock.Now())
			_, err := s.download(t, s.caller, other, r.Form(), r)
			return err
		},
		"no LBCERT": func() error {
			r := s.request(t, s.arn, s.identity, s.clock.Now())
			form := r.Form()
			form.Set("DelegationCertificate", "!")
			_, err := s.download(t, s.caller, s.identity, form, r)
			return err
		},
		"no grant": func() error {
			r := s.request(t, s.arn+"2", s.identity, s.clock.Now())
			_, err := s.download(t, s.caller, s.identity, r.Form(), r)
			return err
		},
		"profile 1": func() error {
			r := s.request(t, s.arn, s.identity, s.clock.Now())
			form := r.Form()
			form.Del("Profile")
			_, err := s.download(t, s.caller, s.identity, form, r)
			return err
		},
	} {
		var answer *model.Error
		err := try()
		if !errors.As(err, &answer) || answer.Code != "NotAuthorized" || answer.Status != http.StatusForbidden {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answers[answer.Message] = true
	}
	if len(answers) != 1 {
		t.Errorf("denials are worded apart: %v", answers)
	}
}

// TestProfile1Refused: a cloud that was not asked for profile 1 has no identity for it and answers none of it.
func TestProfile1Refused(t *testing.T) {
	s := newScene(t)
	key, _, err := keydelivery.NewRSALBKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.SignLBCert(t.Context(), instanceA, key.Public(), time.Hour); !errors.Is(err, iam.ErrProfileRefused) {
		t.Errorf("sign an RSA LBCERT: %v, want ErrProfileRefused", err)
	}
	if _, err := s.IAMCertificateOf(keydelivery.Profile1); !errors.Is(err, iam.ErrProfileRefused) {
		t.Errorf("profile 1's IAMCERT: %v, want ErrProfileRefused", err)
	}
	form := s.request(t, s.arn, s.identity, s.clock.Now()).Form()
	form.Del("Profile")
	_, _, err = s.DownloadServerCertificate(authn.WithCaller(t.Context(), s.caller), form)
	wantCode(t, err, "NotAuthorized")
	if got := s.lastEvent(t).Attributes["reason"]; got != string(keydelivery.ReasonProfile) {
		t.Errorf("reason %q", got)
	}
}
