package iam_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/fixtures/delivery"
)

// guest is an LBVM that shares no code with the server's side: a reference client of one profile.
type guest struct {
	iamCert []byte
	caller  authn.Caller
	request func(arn string, now time.Time) (url.Values, error)
	open    func(body []byte, arn string, form url.Values) (*delivery.Opened, error)
}

// newGuest makes an LBVM as ec2 and the medium do, by the IAMCERT that signs now.
func (s *scene) newGuest(t testing.TB, p keydelivery.Profile, instanceID string) *guest {
	t.Helper()
	key, text, err := lbKeyOf(p)
	if err != nil {
		t.Fatal(err)
	}
	lbCert, iamCert, err := s.SignLBCert(t.Context(), instanceID, key, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{iamCert: iamCert, caller: s.instanceCaller(t, lbRole, instanceID)}
	c := &delivery.Credential{LBCert: lbCert, LBKey: text, IAMCert: iamCert}
	if p == keydelivery.Profile1 {
		client, err := delivery.NewClient1(c)
		if err != nil {
			t.Fatal(err)
		}
		g.request = client.Request
		g.open = func(body []byte, arn string, _ url.Values) (*delivery.Opened, error) { return client.Open(body, arn) }
		return g
	}
	client, err := delivery.NewClient2(c)
	if err != nil {
		t.Fatal(err)
	}
	g.request = client.Request
	g.open = func(body []byte, _ string, form url.Values) (*delivery.Opened, error) { return client.Open(body, form) }
	return g
}

func lbKeyOf(p keydelivery.Profile) (public any, text []byte, err error) {
	if p == keydelivery.Profile1 {
		key, text, err := keydelivery.NewRSALBKey()
		if err != nil {
			return nil, nil, err
		}
		return key.Public(), text, nil
	}
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		return nil, nil, err
	}
	return key.Public(), text, nil
}

// fetch has a guest fetch the scene's certificate from a replica, and returns why it could not.
func (s *scene) fetch(t testing.TB, from *iam.Service, g *guest) error {
	t.Helper()
	form, err := g.request(s.arn, s.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, body, err := from.DownloadServerCertificate(authn.WithCaller(t.Context(), g.caller), form)
	if err != nil {
		return err
	}
	opened, err := g.open(body, s.arn, form)
	if err != nil {
		return err
	}
	if !strings.Contains(string(opened.Key), strings.TrimSpace(s.pair.key)) {
		return errors.New("the key is not the one that was uploaded")
	}
	return nil
}

func (s *scene) list(t testing.TB) map[string]iam.IAMCertificate {
	t.Helper()
	list, err := s.IAMCertificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bySerial := map[string]iam.IAMCertificate{}
	for _, c := range list {
		bySerial[c.Serial] = c
	}
	return bySerial
}

func (s *scene) current(t testing.TB, p keydelivery.Profile) iam.IAMCertificate {
	t.Helper()
	for _, c := range s.list(t) {
		if c.Profile == p && c.State == iam.IAMCurrent {
			return c
		}
	}
	t.Fatalf("no current IAMCERT of profile %d", p)
	return iam.IAMCertificate{}
}

func (s *scene) settle(t testing.TB) bool {
	t.Helper()
	left, err := s.SettleKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// TestIAMCertificateRotation goes through the overlap of a rotation in both profiles, with reference clients.
func TestIAMCertificateRotation(t *testing.T) {
	for _, p := range []keydelivery.Profile{keydelivery.Profile1, keydelivery.Profile2} {
		t.Run(map[keydelivery.Profile]string{1: "profile 1", 2: "profile 2"}[p], func(t *testing.T) {
			s := newScene(t, func(c *iam.Config) { c.MinDeliveryProfile = keydelivery.Profile1 })
			var users atomic.Int64
			users.Store(1)
			var rotations atomic.Int64
			s.OnRotation(func() { rotations.Add(1) })
			before, old := s.current(t, p), s.newGuest(t, p, instanceA)
			s.SetIAMCertificateUse(func(_ context.Context, c *x509.Certificate) (int, error) {
				if c.SerialNumber.Text(16) == before.Serial {
					return int(users.Load()), nil
				}
				return 0, nil
			})
			fresh, err := s.RotateIAMCertificate(t.Context(), p, "a test")
			if err != nil || fresh.State != iam.IAMCurrent || fresh.Serial == before.Serial || fresh.Profile != p {
				t.Fatalf("rotated to %+v, %v", fresh, err)
			}
			if rotations.Load() != 1 {
				t.Errorf("told of %d rotations, want 1", rotations.Load())
			}
			next := s.newGuest(t, p, instanceB)
			if string(next.iamCert) == string(old.iamCert) {
				t.Error("a new LBCERT is still signed by the former IAMCERT")
			}
			for name, g := range map[string]*guest{"old guest": old, "new guest": next} {
				if err := s.fetch(t, s.Service, g); err != nil {
					t.Errorf("%s in the overlap: %v", name, err)
				}
			}
			if p == keydelivery.Profile2 {
				s.settle(t)
				if list := s.list(t); list[before.Serial].SealedKeys != 0 || list[fresh.Serial].SealedKeys != 1 {
					t.Errorf("USERPKs are sealed to %+v", list)
				}
			}
			// Neither the time alone nor the lack of users alone retires it.
			s.clock.Advance(12 * time.Minute)
			if left := s.settle(t); !left || s.list(t)[before.Serial].State != iam.IAMFormer {
				t.Errorf("retired with a user: %+v", s.list(t)[before.Serial])
			}
			_, err = s.RetireIAMCertificate(t.Context(), before.Serial, false, "a test")
			if !errors.Is(err, iam.ErrIAMCertificateInUse) {
				t.Errorf("retire one that is in use: %v", err)
			}
			users.Store(0)
			if left := s.settle(t); left || s.list(t)[before.Serial].State != iam.IAMRetired {
				t.Errorf("not retired without a user: %+v", s.list(t)[before.Serial])
			}
			wantCode(t, s.fetch(t, s.Service, old), "NotAuthorized")
			ev := s.lastEvent(t)
			if ev.Attributes["reason"] != string(keydelivery.ReasonIssuer) ||
				!strings.Contains(ev.Attributes["detail"], before.Serial+", which was retired") ||
				!strings.Contains(ev.Attributes["wanted"], fresh.Serial) {
				t.Errorf("the audit says %v", ev.Attributes)
			}
			if err := s.fetch(t, s.Service, next); err != nil {
				t.Errorf("new guest after the retirement: %v", err)
			}
		})
	}
}

// TestIAMCertificateOverlap: a former IAMCERT that nobody uses is still accepted for a while.
func TestIAMCertificateOverlap(t *testing.T) {
	s := newScene(t)
	s.SetIAMCertificateUse(func(context.Context, *x509.Certificate) (int, error) { return 0, nil })
	before, g := s.current(t, 2), s.newGuest(t, 2, instanceA)
	if _, err := s.RotateIAMCertificate(t.Context(), 2, "a test"); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(10 * time.Minute)
	if left := s.settle(t); !left || s.list(t)[before.Serial].State != iam.IAMFormer {
		t.Error("retired before its time")
	}
	if err := s.fetch(t, s.Service, g); err != nil {
		t.Errorf("in the overlap: %v", err)
	}
	s.clock.Advance(time.Minute)
	if left := s.settle(t); left || s.list(t)[before.Serial].State != iam.IAMRetired {
		t.Error("not retired after its time")
	}
}

func TestIAMCertificateRefusals(t *testing.T) {
	s := newScene(t)
	if _, err := s.RotateIAMCertificate(t.Context(), 1, "a test"); !errors.Is(err, iam.ErrProfileRefused) {
		t.Errorf("rotate a profile that is refused: %v", err)
	}
	first := s.current(t, 2)
	_, err := s.RetireIAMCertificate(t.Context(), first.Serial, true, "a test")
	if !errors.Is(err, iam.ErrIAMCertificateInUse) {
		t.Errorf("retire the current one: %v", err)
	}
	if _, err := s.RetireIAMCertificate(t.Context(), "12ab", true, "a test"); !errors.Is(err, iam.ErrNoIAMCertificate) {
		t.Errorf("retire one that never was: %v", err)
	}
	for range 4 {
		if _, err := s.RotateIAMCertificate(t.Context(), 2, "a test"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.RotateIAMCertificate(t.Context(), 2, "a test"); !errors.Is(err, iam.ErrTooManyIAMCertificate) {
		t.Errorf("a fifth rotation without a retirement: %v", err)
	}
	// Nobody can tell who uses it: only by force.
	_, err = s.RetireIAMCertificate(t.Context(), first.Serial, false, "a test")
	if !errors.Is(err, iam.ErrIAMCertificateInUse) {
		t.Errorf("retire without knowing the users: %v", err)
	}
	for range 2 { // the second time it is done already
		c, err := s.RetireIAMCertificate(t.Context(), strings.ToUpper(first.Serial), true, "a test")
		if err != nil || c.State != iam.IAMRetired {
			t.Errorf("retire by force: %+v, %v", c, err)
		}
	}
	if _, err := s.RotateIAMCertificate(t.Context(), 2, "a test"); err != nil {
		t.Errorf("after a retirement: %v", err)
	}
}

// TestRotationCutOff ends the process at every step of a rotation; the next one goes on.
func TestRotationCutOff(t *testing.T) {
	s := newScene(t, func(c *iam.Config) { c.IAMCertOverlap = time.Nanosecond })
	s.upload(t, "other", newPair(t, pairSpec{now: s.clock.Now()}))
	before, g := s.current(t, 2), s.newGuest(t, 2, instanceA)
	type raw = map[string]any
	records := store.NewTable[raw](s.store, "iam-server-certificates")
	sealed := func(name string) raw {
		rec, err := records.Get(t.Context(), demoAccount+"/"+name)
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	oldOther := sealed("other")

	// 1. The identity is there, and nothing is resealed: a service that is closed does no more.
	s.Close()
	if _, err := s.RotateIAMCertificate(t.Context(), 2, "a test"); err != nil {
		t.Fatal(err)
	}
	if got := sealed("www")["SealedTo"]; got != before.Serial {
		t.Fatalf("resealed by a service that is closed: to %v", got)
	}
	s.Service = startService(t, s.config)
	after := s.current(t, 2)
	if after.Serial == before.Serial {
		t.Fatal("the rotation is lost")
	}
	if err := s.fetch(t, s.Service, g); err != nil {
		t.Errorf("after step 1: %v", err)
	}
	s.settle(t)
	for _, name := range []string{"www", "other"} {
		if got := sealed(name)["SealedTo"]; got != after.Serial {
			t.Errorf("%s is sealed to %v after the restart, want %s", name, got, after.Serial)
		}
	}

	// 2. Half of the keys are resealed.
	s.Close()
	if err := records.Put(t.Context(), demoAccount+"/other", oldOther); err != nil {
		t.Fatal(err)
	}
	s.Service = startService(t, s.config)
	s.settle(t)
	if got := sealed("other")["SealedTo"]; got != after.Serial {
		t.Errorf("the other half is sealed to %v, want %s", got, after.Serial)
	}

	// 3. All are, and the former identity is still there: it goes as soon as somebody can tell that nobody uses it.
	s.clock.Advance(time.Minute)
	if left := s.settle(t); !left {
		t.Error("nothing is left though the former identity is there")
	}
	s.SetIAMCertificateUse(func(context.Context, *x509.Certificate) (int, error) { return 0, nil })
	if left := s.settle(t); left {
		t.Error("the former identity is not retired")
	}
	s.Close()
	s.Service = startService(t, s.config)
	wantCode(t, s.fetch(t, s.Service, g), "NotAuthorized")
	if err := s.fetch(t, s.Service, s.newGuest(t, 2, instanceA)); err != nil {
		t.Errorf("at the end: %v", err)
	}
}
