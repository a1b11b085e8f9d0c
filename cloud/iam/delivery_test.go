package iam_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

func TestDeliveryGranted(t *testing.T) {
	s := newScene(t)
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	got, err := s.download(t, s.caller, s.identity, r.Form(), r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(s.pair.cert), strings.TrimSpace(string(got.CertificatePEM))); diff != "" {
		t.Errorf("certificate (-want +got):\n%s", diff)
	}
	if strings.TrimSpace(string(got.Key)) != strings.TrimSpace(s.pair.key) {
		t.Error("the delivered key is not the uploaded one")
	}
	lbCert, err := s.identity.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(r.Signature)
	certificate := must(s.root(t, demoAccount), t, s.GetServerCertificate,
		&iammodel.GetServerCertificateInput{ServerCertificateName: model.Ptr("www")})
	want := map[string]string{
		"requestId": "req-1", "caller": s.caller.ARN, "instance": instanceA, "arn": s.arn, "role": lbRole,
		"accessKeyId": s.caller.AccessKeyID, "profile": "2", "nonce": r.Nonce, "timestamp": r.Timestamp,
		"signatureSha256": hex.EncodeToString(digest[:]), "lbcert": instanceA, "lbcertSerial": lbCert.SerialNumber.Text(16),
		"certificate": *certificate.ServerCertificate.ServerCertificateMetadata.ServerCertificateId,
	}
	ev := s.lastEvent(t)
	if ev.Kind != "delivery.granted" || ev.Subject != instanceA {
		t.Errorf("event %s about %s", ev.Kind, ev.Subject)
	}
	if diff := cmp.Diff(want, ev.Attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}

// attempt is one request that a case has altered in one way.
type attempt struct {
	caller   authn.Caller
	identity keydelivery.Identity
	arn      string
	at       time.Time
	// form, when set, alters the signed form.
	form func(url.Values)
}

// TestDeliveryDenied breaks each of the protocol's checks alone. Its control is the same attempt with nothing
// altered, which must succeed in the same world right after.
func TestDeliveryDenied(t *testing.T) {
	const denied = "NotAuthorized"
	tests := []struct {
		name   string
		alter  func(t *testing.T, s *scene, a *attempt)
		code   string
		reason keydelivery.Reason
	}{
		{"2 nobody", func(_ *testing.T, _ *scene, a *attempt) { a.caller = authn.Caller{} },
			denied, keydelivery.ReasonNotRoleSession},
		{"2 root of the system account", func(t *testing.T, s *scene, a *attempt) {
			a.caller = authn.CallerFrom(s.root(t, systemAccount))
		}, denied, keydelivery.ReasonNotRoleSession},
		{"2 user with every permission", func(t *testing.T, s *scene, a *attempt) {
			a.caller = s.user(t, "admin", allowAll)
		}, denied, keydelivery.ReasonNotRoleSession},
		{"2 role session of a user account", func(t *testing.T, s *scene, a *attempt) {
			ctx := s.root(t, demoAccount)
			must(ctx, t, s.CreateRole, &iammodel.CreateRoleInput{
				RoleName: model.Ptr("mine"), AssumeRolePolicyDocument: model.Ptr(trustEC2),
			})
			must(ctx, t, s.PutRolePolicy, &iammodel.PutRolePolicyInput{
				RoleName: model.Ptr("mine"), PolicyName: model.Ptr("p"), PolicyDocument: model.Ptr(allowAll),
			})
			creds, err := s.InstanceCredentials(t.Context(), demoAccount, "mine", instanceA)
			if err != nil {
				t.Fatal(err)
			}
			a.caller = s.identify(t, creds.AccessKeyID, creds.Token)
		}, denied, keydelivery.ReasonNotRoleSession},
		{"3 certificate of another authority", func(t *testing.T, s *scene, a *attempt) {
			other, err := keydelivery.NewAuthority(s.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			a.identity = identityFrom(t, other, instanceA, s.clock.Now(), s.clock.Now().Add(time.Hour))
		}, denied, keydelivery.ReasonIssuer},
		{"3 self-signed certificate", func(t *testing.T, s *scene, a *attempt) {
			a.identity = selfSigned(t, instanceA, false, s.clock.Now())
		}, denied, keydelivery.ReasonIssuer},
		{"3 CA certificate", func(t *testing.T, s *scene, a *attempt) {
			a.identity = selfSigned(t, instanceA, true, s.clock.Now())
		}, denied, keydelivery.ReasonCertificateKind},
		{"3 certificate is no PEM", func(_ *testing.T, _ *scene, a *attempt) {
			a.form = func(f url.Values) { f.Set("DelegationCertificate", base64.StdEncoding.EncodeToString([]byte("x"))) }
		}, denied, keydelivery.ReasonCertificateMalformed},
		{"3 certificate expired", func(t *testing.T, s *scene, a *attempt) {
			key, text, err := keydelivery.NewLBKey()
			if err != nil {
				t.Fatal(err)
			}
			cert, _, err := s.SignLBCert(t.Context(), instanceA, key.Public(), 24*time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			s.clock.Advance(25 * time.Hour)
			a.identity, a.at = keydelivery.Identity{CertPEM: cert, Key: text}, s.clock.Now()
			a.caller = s.instanceCaller(t, lbRole, instanceA)
		}, denied, keydelivery.ReasonValidity},
		{"4 certificate of another instance", func(t *testing.T, s *scene, a *attempt) {
			a.identity = s.lbIdentity(t, instanceB)
		}, denied, keydelivery.ReasonInstanceMismatch},
		{"4 role session of another instance", func(t *testing.T, s *scene, a *attempt) {
			a.caller = s.instanceCaller(t, lbRole, instanceB)
		}, denied, keydelivery.ReasonInstanceMismatch},
		{"4 session named like the instance through AssumeRole", func(t *testing.T, s *scene, a *attempt) {
			creds, caller, err := s.MintSession(t.Context(), iam.Session{
				AccountID: systemAccount, RoleName: lbRole, Name: instanceA, Life: time.Hour,
			})
			if err != nil {
				t.Fatal(err)
			}
			if caller.InstanceID != "" {
				t.Errorf("InstanceID %q", caller.InstanceID)
			}
			a.caller = s.identify(t, creds.AccessKeyID, creds.Token)
		}, denied, keydelivery.ReasonInstanceMismatch},
		{"5 stale", func(_ *testing.T, s *scene, a *attempt) { a.at = s.clock.Now().Add(-10*time.Minute - time.Second) },
			denied, keydelivery.ReasonTimestamp},
		{"5 from the future", func(_ *testing.T, s *scene, a *attempt) { a.at = s.clock.Now().Add(61 * time.Second) },
			denied, keydelivery.ReasonTimestamp},
		{"6 ARN altered", func(t *testing.T, s *scene, a *attempt) {
			second := s.upload(t, "second", s.pair)
			a.form = func(f url.Values) { f.Set("CertificateArn", second) }
		}, denied, keydelivery.ReasonSignature},
		{"6 nonce altered", func(_ *testing.T, _ *scene, a *attempt) {
			a.form = func(f url.Values) { f.Set("Nonce", base64.StdEncoding.EncodeToString(make([]byte, 32))) }
		}, denied, keydelivery.ReasonSignature},
		{"6 signed by another key", func(t *testing.T, s *scene, a *attempt) {
			own := a.identity.CertPEM
			a.identity = s.lbIdentity(t, instanceA)
			a.form = func(f url.Values) { f.Set("DelegationCertificate", base64.StdEncoding.EncodeToString(own)) }
		}, denied, keydelivery.ReasonSignature},
		{"8 certificate that is not granted", func(t *testing.T, s *scene, a *attempt) {
			a.arn = s.upload(t, "second", s.pair)
		}, denied, keydelivery.ReasonPolicy},
		{"8 role of another load balancer", func(t *testing.T, s *scene, a *attempt) {
			s.serviceRole(t, "loadbalancer-vm-123456789012-other", s.upload(t, "second", s.pair))
			a.caller = s.instanceCaller(t, "loadbalancer-vm-123456789012-other", instanceA)
		}, denied, keydelivery.ReasonPolicy},
		{"9 no such certificate", func(t *testing.T, s *scene, a *attempt) {
			a.arn = s.arn + "-missing"
			if err := s.PutServiceRolePolicy(t.Context(), systemAccount, lbRole, "second",
				allow(iam.ActionDownload, a.arn)); err != nil {
				t.Fatal(err)
			}
		}, "NoSuchEntity", keydelivery.ReasonNoSuchCertificate},
		{"missing field", func(_ *testing.T, _ *scene, a *attempt) {
			a.form = func(f url.Values) { f.Del("Timestamp") }
		}, "ValidationError", keydelivery.ReasonMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			a := attempt{caller: s.caller, identity: s.identity, arn: s.arn, at: s.clock.Now()}
			tt.alter(t, s, &a)
			r := s.request(t, a.arn, a.identity, a.at)
			form := r.Form()
			if a.form != nil {
				a.form(form)
			}
			_, err := s.download(t, a.caller, a.identity, form, r)
			wantCode(t, err, tt.code)
			ev := s.lastEvent(t)
			if ev.Kind != "delivery.denied" || ev.Attributes["reason"] != string(tt.reason) {
				t.Errorf("event %s, reason %q, want %q: %v", ev.Kind, ev.Attributes["reason"], tt.reason, ev.Attributes)
			}
			if err != nil && strings.Contains(err.Error(), string(tt.reason)) {
				t.Errorf("the caller learns the reason: %v", err)
			}
			control := s.request(t, s.arn, s.identity, s.clock.Now())
			caller := s.instanceCaller(t, lbRole, instanceA)
			if _, err := s.download(t, caller, s.identity, control.Form(), control); err != nil {
				t.Errorf("control: %v", err)
			}
		})
	}
}

func TestDeliveryReplay(t *testing.T) {
	s := newScene(t)
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
		t.Fatal(err)
	}
	_, err := s.download(t, s.caller, s.identity, r.Form(), r)
	wantCode(t, err, "NotAuthorized")
	if got := s.lastEvent(t).Attributes["reason"]; got != string(keydelivery.ReasonReplay) {
		t.Errorf("reason %q", got)
	}
}

func TestDeliveryRevoked(t *testing.T) {
	var revoked string
	s := newScene(t, func(c *iam.Config) {
		c.Revoked = func(context.Context, *x509.Certificate) (string, error) { return revoked, nil }
	})
	revoked = "by a test"
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	_, err := s.download(t, s.caller, s.identity, r.Form(), r)
	wantCode(t, err, "NotAuthorized")
	if got := s.lastEvent(t).Attributes["reason"]; got != string(keydelivery.ReasonRevoked) {
		t.Errorf("reason %q", got)
	}
	revoked = ""
	r = s.request(t, s.arn, s.identity, s.clock.Now())
	if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
		t.Errorf("control: %v", err)
	}
}

// TestDeliveryGrantWithdrawn shows that a grant ends with the answer to its withdrawal, whatever was cached.
func TestDeliveryGrantWithdrawn(t *testing.T) {
	s := newScene(t)
	try := func() error {
		r := s.request(t, s.arn, s.identity, s.clock.Now())
		_, err := s.download(t, s.caller, s.identity, r.Form(), r)
		return err
	}
	if err := try(); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteServiceRolePolicy(t.Context(), systemAccount, lbRole, "grant"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, try(), "NotAuthorized")
	s.serviceRole(t, lbRole, s.arn)
	if err := try(); err != nil {
		t.Errorf("granted again: %v", err)
	}
	if err := s.DeleteServiceRole(t.Context(), systemAccount, lbRole); err != nil {
		t.Fatal(err)
	}
	wantCode(t, try(), "NotAuthorized")
	_, _, err := s.Identify(t.Context(), s.caller.AccessKeyID, "")
	wantCode(t, err, "InvalidClientTokenId")
}

// TestDeliverySameARNNewKey: after delete and upload under one name the new key is delivered and the revision differs.
func TestDeliverySameARNNewKey(t *testing.T) {
	s := newScene(t)
	before, err := s.ServerCertificateRevision(t.Context(), s.arn)
	if err != nil {
		t.Fatal(err)
	}
	must(s.root(t, demoAccount), t, s.DeleteServerCertificate,
		&iammodel.DeleteServerCertificateInput{ServerCertificateName: model.Ptr("www")})
	_, err = s.ServerCertificateRevision(t.Context(), s.arn)
	wantCode(t, err, "NoSuchEntity")
	next := newPair(t, pairSpec{now: s.clock.Now()})
	if arn := s.upload(t, "www", next); arn != s.arn {
		t.Fatalf("ARN %s, want %s", arn, s.arn)
	}
	after, err := s.ServerCertificateRevision(t.Context(), s.arn)
	if err != nil || after == before {
		t.Errorf("revision %q after %q, %v", after, before, err)
	}
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	got, err := s.download(t, s.caller, s.identity, r.Form(), r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(got.Key)) != strings.TrimSpace(next.key) {
		t.Error("the delivered key is not the new one")
	}
}

func TestNoKeyInJournal(t *testing.T) {
	s := newScene(t)
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(s.pair.key))
	for _, secret := range []string{strings.Split(s.pair.key, "\n")[1], base64.StdEncoding.EncodeToString(block.Bytes)} {
		if strings.Contains(s.log.String(), secret) {
			t.Error("the journal holds key material")
		}
	}
}

func TestSignLBCert(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		id   string
		life time.Duration
		ok   bool
	}{
		{"usual", instanceA, 365 * 24 * time.Hour, true},
		{"shortest", instanceA, iam.MinLBCertLife, true},
		{"longest", instanceA, iam.MaxLBCertLife, true},
		{"none", instanceA, 0, false},
		{"negative", instanceA, -time.Hour, false},
		{"too short", instanceA, iam.MinLBCertLife - 1, false},
		{"too long", instanceA, iam.MaxLBCertLife + 1, false},
		{"no instance", "", time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lbCert, iamCert, err := w.SignLBCert(t.Context(), tt.id, key.Public(), tt.life)
			if (err == nil) != tt.ok {
				t.Fatalf("error %v", err)
			}
			if !tt.ok {
				return
			}
			signed, err := keydelivery.Identity{CertPEM: lbCert}.Certificate()
			if err != nil {
				t.Fatal(err)
			}
			signer, err := keydelivery.Identity{CertPEM: iamCert}.Certificate()
			if err != nil {
				t.Fatal(err)
			}
			if err := signed.CheckSignatureFrom(signer); err != nil {
				t.Errorf("the IAMCERT beside LBCERT did not sign it: %v", err)
			}
		})
	}
}

func BenchmarkDelivery(b *testing.B) {
	s := newScene(b)
	ctx := authn.WithCaller(b.Context(), s.caller)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		r, err := keydelivery.NewRequest(s.arn, s.identity, s.clock.Now())
		if err != nil {
			b.Fatal(err)
		}
		form := r.Form()
		b.StartTimer()
		if _, _, err := s.DownloadServerCertificate(ctx, form); err != nil {
			b.Fatal(err)
		}
	}
}
