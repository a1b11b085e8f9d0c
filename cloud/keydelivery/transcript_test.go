package keydelivery_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/fixtures/delivery"
)

var update = flag.Bool("update", false, "rewrite the golden transcripts in fixtures/delivery")

// golden is a delivery with the fixtures' keys at a fixed time.
type golden struct {
	profile    keydelivery.Profile
	authority  *keydelivery.Authority
	identity   keydelivery.Identity
	credential []byte // the medium's file
	clock      time.Time
	checker    *keydelivery.Checker
}

func newGolden(t *testing.T, profile keydelivery.Profile) *golden {
	t.Helper()
	n := fmt.Sprint(int(profile))
	authority, err := keydelivery.LoadAuthority(delivery.PEM("iam"+n+"-cert.pem"), delivery.PEM("iam"+n+"-test-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	g := &golden{profile: profile, authority: authority, clock: now}
	keyPEM := delivery.PEM("lbvm" + n + "-test-key.pem")
	cert, err := authority.SignLBCert(instance, publicOf(t, keyPEM), now, now.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	g.identity = keydelivery.Identity{CertPEM: cert, Key: keyPEM}
	medium := keydelivery.Medium{
		LBCertPEM: cert, LBKey: keyPEM, IAMCertPEM: authority.CertificatePEM(),
		CloudCertPEM: delivery.PEM("iam2-cert.pem"),
		Boot: keydelivery.Boot{
			FormatVersion: keydelivery.BootFormat, InstanceID: instance, Entropy: make([]byte, keydelivery.EntropySize),
			Endpoints: map[string]string{"iam": "https://cloud/services/Euare/", "elb": "https://cloud/"},
		},
	}
	files, err := medium.Files()
	if err != nil {
		t.Fatal(err)
	}
	g.credential = files[keydelivery.CredentialFile]
	g.reset()
	return g
}

// reset forgets which requests were seen.
func (g *golden) reset() {
	cfg := keydelivery.CheckerConfig{Now: func() time.Time { return g.clock }}
	if g.profile == keydelivery.Profile1 {
		cfg.RSAIAMCert = g.authority.Certificate()
	} else {
		cfg.IAMCert = g.authority.Certificate()
	}
	g.checker = keydelivery.NewChecker(cfg)
}

func publicOf(t *testing.T, keyPEM []byte) any {
	t.Helper()
	block, _ := pem.Decode(keyPEM)
	if block.Type == "RSA PRIVATE KEY" {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return key.Public()
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer).Public()
}

// serve is the cloud's side, from a form to a body.
func (g *golden) serve(t *testing.T, form url.Values, by keydelivery.Session) ([]byte, error) {
	t.Helper()
	request, err := keydelivery.ParseRequest(form)
	if err != nil {
		return nil, err
	}
	verified, err := g.checker.Verify(t.Context(), request, by)
	if err != nil {
		return nil, err
	}
	answer, err := g.authority.Answer(verified, delivery.PEM("user-cert.pem"), delivery.PEM("user-test-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := answer.MarshalXMLBody("11111111-2222-4333-8444-555555555555")
	if err != nil {
		t.Fatal(err)
	}
	return body, nil
}

// guest is a reference client of either profile.
type guest struct {
	request func(at time.Time) url.Values
	open    func(body []byte, form url.Values) (*delivery.Opened, error)
}

func (g *golden) guest(t *testing.T) guest {
	t.Helper()
	credential, err := delivery.ReadCredential(g.credential)
	if err != nil {
		t.Fatal(err)
	}
	must := func(form url.Values, err error) url.Values {
		if err != nil {
			t.Fatal(err)
		}
		return form
	}
	if g.profile == keydelivery.Profile1 {
		c, err := delivery.NewClient1(credential)
		if err != nil {
			t.Fatal(err)
		}
		return guest{
			request: func(at time.Time) url.Values { return must(c.Request(arn, at)) },
			open:    func(body []byte, _ url.Values) (*delivery.Opened, error) { return c.Open(body, arn) },
		}
	}
	c, err := delivery.NewClient2(credential)
	if err != nil {
		t.Fatal(err)
	}
	return guest{request: func(at time.Time) url.Values { return must(c.Request(arn, at)) }, open: c.Open}
}

// credentialText shows a medium's file decoded, the private key by its digest alone.
func credentialText(t *testing.T, data []byte) string {
	t.Helper()
	c, err := delivery.ReadCredential(data)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(c.LBKey)
	form := url.Values{
		"instance_pub_key": {string(c.LBCert)}, "iam_pub_key": {string(c.IAMCert)}, "iam_token": {c.Token},
		"euca_pub_key": {string(c.CloudCert)}, "instance_pk": {"PEM " + block.Type + ", SHA-256 " + digest(c.LBKey)},
	}
	return delivery.FormText(form)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// alterations are what somebody between guest and cloud may do to a request. Each is denied.
func (g *golden) alterations(form url.Values) []struct{ field, value string } {
	flip := func(text string) string {
		data, _ := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", ""))
		data[len(data)/2] ^= 1
		return base64.StdEncoding.EncodeToString(data)
	}
	list := []struct{ field, value string }{
		{"CertificateArn", arn + "2"},
		{"Timestamp", now.Add(time.Second).Format("2006-01-02T15:04:05Z")},
		{"Timestamp", now.Add(-time.Hour).Format("2006-01-02T15:04:05Z")},
		{"Timestamp", "now"},
		{"DelegationCertificate", "!"},
		{"DelegationCertificate", base64.StdEncoding.EncodeToString(g.authority.CertificatePEM())},
		{"Signature", flip(form.Get("Signature"))},
		{"Signature", "!"},
	}
	if g.profile == keydelivery.Profile2 {
		list = append(list, struct{ field, value string }{"Nonce", flip(form.Get("Nonce"))},
			struct{ field, value string }{"Nonce", "c2hvcnQ="}, struct{ field, value string }{"Profile", "1"})
	} else {
		list = append(list, struct{ field, value string }{"Profile", "2"})
	}
	return list
}

func (g *golden) denials(t *testing.T, form url.Values) string {
	t.Helper()
	var b strings.Builder
	tell := func(what string, err error) {
		denial, ok := errors.AsType[*keydelivery.Denial](err)
		switch {
		case ok:
			fmt.Fprintf(&b, "%s\n    check %d, %s\n    found  %s\n    wanted %s\n", what, denial.Reason.Check(), denial.Reason,
				denial.Detail, denial.Wanted)
		case errors.Is(err, keydelivery.ErrRequest):
			fmt.Fprintf(&b, "%s\n    %v\n", what, err)
		default:
			t.Errorf("%s: %v, want a denial", what, err)
		}
	}
	for _, a := range g.alterations(form) {
		altered := url.Values{}
		for name := range form {
			altered.Set(name, form.Get(name))
		}
		altered.Set(a.field, a.value)
		shown := a.value
		if len(shown) > 60 {
			shown = shown[:60] + "..."
		}
		_, err := g.serve(t, altered, session)
		tell(a.field+" altered to "+shown, err)
	}
	_, err := g.serve(t, form, keydelivery.Session{ID: session.ID, InstanceID: "i-0123456789abcdef1"})
	tell("sent by another instance", err)
	return b.String()
}

func (g *golden) replays(t *testing.T, form url.Values) string {
	t.Helper()
	other := keydelivery.Session{ID: "ASIAOTHER", InstanceID: instance}
	var b strings.Builder
	for _, try := range []struct {
		what  string
		by    keydelivery.Session
		after time.Duration
	}{
		{"the same session at once", session, 0},
		{"the same session after 60 s", session, time.Minute},
		{"the same session after 61 s", session, 61 * time.Second},
		{"another session of the instance", other, 0},
	} {
		g.reset()
		g.clock = now
		if _, err := g.serve(t, form, session); err != nil {
			t.Fatal(err)
		}
		g.clock = now.Add(try.after)
		_, err := g.serve(t, form, try.by)
		verdict := "answered"
		if denial, ok := errors.AsType[*keydelivery.Denial](err); ok {
			verdict = "denied, " + string(denial.Reason)
		}
		fmt.Fprintf(&b, "sent again by %s: %s\n", try.what, verdict)
	}
	g.clock = now
	return b.String()
}

// TestTranscript writes both profiles down, byte for byte: keys, time and randomness are fixed. Rewrite the files with
// -update, and read their diff.
func TestTranscript(t *testing.T) {
	for _, profile := range []keydelivery.Profile{keydelivery.Profile1, keydelivery.Profile2} {
		t.Run(fmt.Sprint("profile ", int(profile)), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 1)
			g := newGolden(t, profile)
			c := g.guest(t)
			form := c.request(now)
			body, err := g.serve(t, form, session)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := c.open(body, form)
			if err != nil {
				t.Fatal(err)
			}
			tr := &delivery.Transcript{}
			tr.Add("clock", now.Format(time.RFC3339))
			tr.Add("role session", session.ID+" of "+session.InstanceID)
			tr.Add("user data asked for", string(keydelivery.WithKeyword(365, []byte("payload"))))
			tr.Add("floppy: credential", credentialText(t, g.credential))
			tr.Add("request: POST /services/Euare/", delivery.FormText(form))
			tr.Add("answer", strings.ReplaceAll(string(body), "><", ">\n<"))
			tr.Add("opened", "certificate SHA-256 "+digest(opened.Certificate)+"\nkey         SHA-256 "+digest(opened.Key))
			g.reset()
			tr.Add("denied", g.denials(t, form))
			tr.Add("again", g.replays(t, form))
			compare(t, fmt.Sprintf("profile%d.txt", profile), tr.String())
		})
	}
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("..", "..", "fixtures", "delivery", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-file +now); rewrite it with -update if the protocol was meant to change:\n%s", name, diff)
	}
}

// TestRecorded plays the recorded transcripts: today's cloud answers yesterday's guest, and yesterday's answer opens,
// whatever randomness either uses.
func TestRecorded(t *testing.T) {
	for _, profile := range []keydelivery.Profile{keydelivery.Profile1, keydelivery.Profile2} {
		t.Run(fmt.Sprint("profile ", int(profile)), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "..", "fixtures", "delivery", fmt.Sprintf("profile%d.txt", profile)))
			if err != nil {
				t.Fatal(err)
			}
			tr := delivery.ParseTranscript(string(text))
			g := newGolden(t, profile)
			c := g.guest(t)
			form := delivery.ParseForm(tr.Section("request: POST /services/Euare/"))
			if form.Get("DelegationCertificate") == "" {
				t.Fatal("the transcript holds no request")
			}
			if _, err := g.serve(t, form, session); err != nil {
				t.Errorf("the recorded request: %v", err)
			}
			opened, err := c.open([]byte(tr.Section("answer")), form)
			if err != nil {
				t.Fatalf("the recorded answer: %v", err)
			}
			if string(opened.Key) != string(delivery.PEM("user-test-key.pem")) {
				t.Error("the recorded answer holds another key")
			}
			// The product's own reading of the same bytes.
			request, err := keydelivery.ParseRequest(form)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := keydelivery.ParseAnswer([]byte(tr.Section("answer")))
			if err != nil {
				t.Fatal(err)
			}
			own, err := request.Open(answer, g.authority.CertificatePEM(), g.identity)
			if err != nil || string(own.Key) != string(opened.Key) {
				t.Errorf("the product's client: %v", err)
			}
		})
	}
}
