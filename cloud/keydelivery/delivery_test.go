package keydelivery_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

const (
	arn      = "arn:aws:iam::123456789012:server-certificate/www"
	instance = "i-0123456789abcdef0"
)

var (
	now     = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	session = keydelivery.Session{ID: "ASIAEXAMPLE", InstanceID: instance}
)

// world is the cast of one delivery.
type world struct {
	authority *keydelivery.Authority
	checker   *keydelivery.Checker
	id        keydelivery.Identity
	certPEM   []byte
	keyPEM    keydelivery.Secret
}

func newWorld(t testing.TB) *world {
	t.Helper()
	authority, err := keydelivery.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{authority: authority, checker: keydelivery.NewChecker(keydelivery.CheckerConfig{
		IAMCert: authority.Certificate(), Now: func() time.Time { return now },
	})}
	w.id = w.newIdentity(t, authority, instance, now, now.Add(24*time.Hour))
	w.certPEM, w.keyPEM = newPair(t, "www.example.test", false)
	return w
}

func (w *world) newIdentity(
	t testing.TB,
	a *keydelivery.Authority,
	id string,
	from, to time.Time,
) keydelivery.Identity {
	t.Helper()
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.SignLBCert(id, key.Public(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	return keydelivery.Identity{CertPEM: cert, Key: text}
}

func (w *world) request(t testing.TB, id keydelivery.Identity, at time.Time) *keydelivery.Request {
	t.Helper()
	r, err := keydelivery.NewRequest(arn, id, at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newPair makes a self-signed certificate; ca makes it one that may sign.
func newPair(t testing.TB, name string, ca bool) ([]byte, keydelivery.Secret) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now,
		NotAfter: now.Add(time.Hour), IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// deliver runs the cloud's side for a request that came over the wire.
func (w *world) deliver(t testing.TB, r *keydelivery.Request) (*keydelivery.Answer, error) {
	t.Helper()
	received, err := keydelivery.ParseRequest(r.Form())
	if err != nil {
		return nil, err
	}
	verified, err := w.checker.Verify(t.Context(), received, session)
	if err != nil {
		return nil, err
	}
	answer, err := w.authority.Answer(verified, w.certPEM, w.keyPEM)
	if err != nil {
		return nil, err
	}
	body, err := answer.MarshalXMLBody("request-id")
	if err != nil {
		return nil, err
	}
	return keydelivery.ParseAnswer(body)
}

func TestDelivery(t *testing.T) {
	w := newWorld(t)
	r := w.request(t, w.id, now)
	answer, err := w.deliver(t, r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Open(answer, w.authority.CertificatePEM(), w.id)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.CertificatePEM, w.certPEM) || !bytes.Equal(got.Key, w.keyPEM) {
		t.Error("what arrived is not what was sent")
	}
}

// altered is base64 with another first character.
func altered(text string) string {
	if text[0] == 'A' {
		return "B" + text[1:]
	}
	return "A" + text[1:]
}

// TestVerifyDenies alters one thing in a delivery that TestDelivery shows to work.
func TestVerifyDenies(t *testing.T) {
	w := newWorld(t)
	stranger, err := keydelivery.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	selfSigned := func(ca bool) keydelivery.Identity {
		cert, key := newPair(t, instance, ca)
		return keydelivery.Identity{CertPEM: cert, Key: key}
	}
	tests := []struct {
		name   string
		id     keydelivery.Identity
		at     time.Time
		alter  func(*keydelivery.Request)
		caller string
		want   keydelivery.Reason
	}{
		{
			name:  "profile 1",
			alter: func(r *keydelivery.Request) { r.Profile = 1; r.Nonce = "" },
			want:  keydelivery.ReasonProfile,
		},
		{
			name:  "no PEM",
			alter: func(r *keydelivery.Request) { r.CertPEM = []byte("hello") },
			want:  keydelivery.ReasonCertificateMalformed,
		},
		{name: "CA:TRUE", id: selfSigned(true), want: keydelivery.ReasonCertificateKind},
		{name: "self-signed", id: selfSigned(false), want: keydelivery.ReasonIssuer},
		{
			name: "another IAM's",
			id:   w.newIdentity(t, stranger, instance, now, now.Add(time.Hour)),
			want: keydelivery.ReasonIssuer,
		},
		{name: "expired LBCERT", id: w.newIdentity(t, w.authority, instance, now.Add(-2*time.Hour), now.Add(-time.Hour)),
			want: keydelivery.ReasonValidity},
		{name: "LBCERT not valid yet", id: w.newIdentity(t, w.authority, instance, now.Add(time.Hour), now.Add(2*time.Hour)),
			want: keydelivery.ReasonValidity},
		{name: "another instance's LBCERT", id: w.newIdentity(t, w.authority, "i-other", now, now.Add(time.Hour)),
			want: keydelivery.ReasonInstanceMismatch},
		{name: "another instance calls", caller: "i-other", want: keydelivery.ReasonInstanceMismatch},
		{name: "nobody calls", caller: "-", want: keydelivery.ReasonInstanceMismatch},
		{name: "stale", at: now.Add(-keydelivery.MaxAge - time.Second), want: keydelivery.ReasonTimestamp},
		{name: "future", at: now.Add(keydelivery.MaxAhead + time.Second), want: keydelivery.ReasonTimestamp},
		{name: "timestamp altered", alter: func(r *keydelivery.Request) {
			r.Timestamp = now.Add(time.Second).Format("2006-01-02T15:04:05Z")
		}, want: keydelivery.ReasonSignature},
		{
			name:  "timestamp malformed",
			alter: func(r *keydelivery.Request) { r.Timestamp = "now" },
			want:  keydelivery.ReasonTimestamp,
		},
		{
			name:  "timestamp with a fraction",
			alter: func(r *keydelivery.Request) { r.Timestamp = r.Timestamp[:len(r.Timestamp)-1] + ".5Z" },
			want:  keydelivery.ReasonTimestamp,
		},
		{name: "ARN altered", alter: func(r *keydelivery.Request) { r.ARN += "x" }, want: keydelivery.ReasonSignature},
		{
			name:  "nonce altered",
			alter: func(r *keydelivery.Request) { r.Nonce = altered(r.Nonce) },
			want:  keydelivery.ReasonSignature,
		},
		{
			name:  "signature altered",
			alter: func(r *keydelivery.Request) { r.Signature[10] ^= 1 },
			want:  keydelivery.ReasonSignature,
		},
		{
			name:  "signature empty",
			alter: func(r *keydelivery.Request) { r.Signature = nil },
			want:  keydelivery.ReasonSignature,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, at, caller := w.id, now, instance
			if tt.id.CertPEM != nil {
				id = tt.id
			}
			if !tt.at.IsZero() {
				at = tt.at
			}
			switch tt.caller {
			case "":
			case "-":
				caller = ""
			default:
				caller = tt.caller
			}
			r := w.request(t, id, at)
			if tt.alter != nil {
				tt.alter(r)
			}
			_, err := w.checker.Verify(t.Context(), r, keydelivery.Session{ID: "session", InstanceID: caller})
			denial, ok := errors.AsType[*keydelivery.Denial](err)
			if !ok || denial.Reason != tt.want {
				t.Errorf("got %v, want reason %s", err, tt.want)
			}
		})
	}
}

func TestReplayIsDenied(t *testing.T) {
	w := newWorld(t)
	r := w.request(t, w.id, now)
	if _, err := w.deliver(t, r); err != nil {
		t.Fatal(err)
	}
	_, err := w.deliver(t, r)
	if denial, ok := errors.AsType[*keydelivery.Denial](err); !ok || denial.Reason != keydelivery.ReasonReplay {
		t.Errorf("second time: %v, want %s", err, keydelivery.ReasonReplay)
	}
}

func TestNonceCacheIsBoundedAndForgets(t *testing.T) {
	w, clock := newWorld(t), now
	checker := keydelivery.NewChecker(keydelivery.CheckerConfig{
		IAMCert: w.authority.Certificate(), Now: func() time.Time { return clock }, MaxNonces: 2,
	})
	verify := func() error {
		_, err := checker.Verify(t.Context(), w.request(t, w.id, clock), session)
		return err
	}
	for range 2 {
		if err := verify(); err != nil {
			t.Fatal(err)
		}
	}
	if denial, ok := errors.AsType[*keydelivery.Denial](verify()); !ok || denial.Reason != keydelivery.ReasonOverload {
		t.Errorf("third: %v, want %s", denial, keydelivery.ReasonOverload)
	}
	clock = clock.Add(time.Hour)
	if err := verify(); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestRevoked(t *testing.T) {
	w := newWorld(t)
	checker := keydelivery.NewChecker(keydelivery.CheckerConfig{
		IAMCert: w.authority.Certificate(), Now: func() time.Time { return now }, Revoked: revokeAll,
	})
	_, err := checker.Verify(t.Context(), w.request(t, w.id, now), session)
	if denial, ok := errors.AsType[*keydelivery.Denial](err); !ok || denial.Reason != keydelivery.ReasonRevoked {
		t.Errorf("got %v, want %s", err, keydelivery.ReasonRevoked)
	}
}

// TestOpenRefuses alters one thing in an answer that TestDelivery shows to open.
func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	r, other := w.request(t, w.id, now), w.request(t, w.id, now)
	answer, err := w.deliver(t, r)
	if err != nil {
		t.Fatal(err)
	}
	otherAnswer, err := w.deliver(t, other)
	if err != nil {
		t.Fatal(err)
	}
	sibling := w.newIdentity(t, w.authority, instance, now, now.Add(time.Hour))
	stranger, err := keydelivery.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		alter func(*keydelivery.Answer)
		id    keydelivery.Identity
		cert  []byte
	}{
		{name: "answer to another request", alter: func(a *keydelivery.Answer) { *a = *otherAnswer }},
		{name: "key of another answer", alter: func(a *keydelivery.Answer) { a.ServerPk = otherAnswer.ServerPk }},
		{name: "another ARN", alter: func(a *keydelivery.Answer) { a.CertificateARN += "x" }},
		{
			name:  "certificate altered",
			alter: func(a *keydelivery.Answer) { a.ServerCertificate = altered(a.ServerCertificate) },
		},
		{name: "signature altered", alter: func(a *keydelivery.Answer) { a.Signature = altered(a.Signature) }},
		{name: "signature no base64", alter: func(a *keydelivery.Answer) { a.Signature = "!" }},
		{name: "another LBPK", id: sibling},
		{name: "another IAMCERT", cert: stranger.CertificatePEM()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			altered, id, cert := *answer, w.id, w.authority.CertificatePEM()
			if tt.alter != nil {
				tt.alter(&altered)
			}
			if tt.id.CertPEM != nil {
				id = tt.id
			}
			if tt.cert != nil {
				cert = tt.cert
			}
			if _, err := r.Open(&altered, cert, id); !errors.Is(err, keydelivery.ErrAnswer) {
				t.Errorf("got %v, want %v", err, keydelivery.ErrAnswer)
			}
		})
	}
}

func BenchmarkDelivery(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		r := w.request(b, w.id, now)
		if _, err := w.deliver(b, r); err != nil {
			b.Fatal(err)
		}
	}
}
