package keydelivery_test

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/fixtures/delivery"
)

// TestProfile1OpenRefuses alters one thing in an answer that opens as it came. Whatever is wrong, the error is one:
// nobody learns whether it was the signature, the RSA padding, the CBC padding or the text within.
func TestProfile1OpenRefuses(t *testing.T) {
	g := newGolden(t, keydelivery.Profile1)
	r, err := keydelivery.NewRequest(arn, g.identity, now)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(t *testing.T, a *keydelivery.Authority) *keydelivery.Answer {
		t.Helper()
		g.reset()
		received, err := keydelivery.ParseRequest(r.Form())
		if err != nil {
			t.Fatal(err)
		}
		verified, err := g.checker.Verify(t.Context(), received, session)
		if err != nil {
			t.Fatal(err)
		}
		out, err := a.Answer(verified, delivery.PEM("user-cert.pem"), delivery.PEM("user-test-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := answer(t, g.authority)
	if _, err := r.Open(good, g.authority.CertificatePEM(), g.identity); err != nil {
		t.Fatalf("control: %v", err)
	}
	stranger, err := keydelivery.NewRSAAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(text string, at int) string {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		data[(at+len(data))%len(data)] ^= 1
		return base64.StdEncoding.EncodeToString(data)
	}
	lines := strings.Split(good.ServerPk, "\n")
	tests := []struct {
		name  string
		alter func(a *keydelivery.Answer)
	}{
		{"another cloud's answer", func(a *keydelivery.Answer) { *a = *answer(t, stranger) }},
		{"another ARN", func(a *keydelivery.Answer) { a.CertificateARN += "2" }},
		{"certificate altered", func(a *keydelivery.Answer) { a.ServerCertificate = flip(a.ServerCertificate, 9) }},
		{"wrapped key altered", func(a *keydelivery.Answer) { a.ServerPk = flip(lines[0], 9) + "\n" + lines[1] }},
		{"IV altered", func(a *keydelivery.Answer) { a.ServerPk = lines[0] + "\n" + flip(lines[1], 0) }},
		{"padding altered", func(a *keydelivery.Answer) { a.ServerPk = lines[0] + "\n" + flip(lines[1], -17) }},
		{"one line", func(a *keydelivery.Answer) { a.ServerPk = lines[0] }},
		{"signature altered", func(a *keydelivery.Answer) { a.Signature = flip(a.Signature, 9) }},
		{"signature empty", func(a *keydelivery.Answer) { a.Signature = "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := *good
			tt.alter(&a)
			_, err := r.Open(&a, g.authority.CertificatePEM(), g.identity)
			if !errors.Is(err, keydelivery.ErrAnswer) || err.Error() != keydelivery.ErrAnswer.Error() {
				t.Errorf("error %v, want ErrAnswer and no more", err)
			}
		})
	}
}

// TestProfilesDoNotMix: an identity, a request and an answer of one profile are nothing in the other.
func TestProfilesDoNotMix(t *testing.T) {
	one, two := newGolden(t, keydelivery.Profile1), newGolden(t, keydelivery.Profile2)
	checker := keydelivery.NewChecker(keydelivery.CheckerConfig{IAMCert: two.authority.Certificate(),
		RSAIAMCert: one.authority.Certificate(), Now: func() time.Time { return now }})
	verify := func(g *golden, alter func(*keydelivery.Request)) (*keydelivery.Verified, error) {
		r, err := keydelivery.NewRequest(arn, g.identity, now)
		if err != nil {
			t.Fatal(err)
		}
		if alter != nil {
			alter(r)
		}
		return checker.Verify(t.Context(), r, session)
	}
	for _, g := range []*golden{one, two} {
		v, err := verify(g, nil)
		if err != nil || v.Profile() != g.profile {
			t.Fatalf("control of profile %d: %v", g.profile, err)
		}
		other := one
		if g == one {
			other = two
		}
		if _, err := other.authority.Answer(v, nil, nil); err == nil {
			t.Errorf("profile %d's identity answers profile %d", other.profile, g.profile)
		}
		_, err = verify(g, func(r *keydelivery.Request) { r.Profile = other.profile })
		if d, ok := errors.AsType[*keydelivery.Denial](err); !ok || d.Reason != keydelivery.ReasonCertificateMalformed {
			t.Errorf("profile %d's LBCERT in profile %d: %v", g.profile, other.profile, err)
		}
		if _, err := other.authority.SignLBCert(instance, publicOf(t, g.identity.Key), now, now.Add(time.Hour)); err == nil {
			t.Errorf("profile %d's identity signs an LBCERT of profile %d", other.profile, g.profile)
		}
	}
	if _, err := one.authority.SealAtRest("x", keydelivery.Secret("y")); err == nil {
		t.Error("profile 1's identity seals at rest")
	}
}

func TestProfile1Medium(t *testing.T) {
	g := newGolden(t, keydelivery.Profile1)
	boot := keydelivery.Boot{FormatVersion: keydelivery.BootFormat, InstanceID: instance,
		Entropy:   make([]byte, keydelivery.EntropySize),
		Endpoints: map[string]string{"iam": "https://cloud/services/Euare/", "elb": "https://cloud/"}}
	files, err := boot.Files()
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{keydelivery.CredentialFile: {Data: append(g.credential, "   \x00"...)}}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	medium, err := keydelivery.ReadMedium(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := medium.Identity().Profile(); err != nil || p != keydelivery.Profile1 {
		t.Errorf("profile %d, %v", p, err)
	}
}

// TestLenientForm sends a request as old tools write base64.
func TestLenientForm(t *testing.T) {
	g := newGolden(t, keydelivery.Profile1)
	for name, change := range map[string]func(string) string{
		"windows line ends": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"spaces":            func(s string) string { return " " + strings.ReplaceAll(s, "\n", " ") },
		"no padding":        func(s string) string { return strings.TrimRight(s, "=\n") },
	} {
		g.reset()
		form := g.guest(t).request(now)
		changed := url.Values{}
		for field := range form {
			changed.Set(field, form.Get(field))
		}
		for _, field := range []string{"DelegationCertificate", "Signature"} {
			changed.Set(field, change(form.Get(field)))
		}
		if _, err := g.serve(t, changed, session); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkProfile1(b *testing.B) {
	authority, err := keydelivery.LoadAuthority(delivery.PEM("iam1-cert.pem"), delivery.PEM("iam1-test-key.pem"))
	if err != nil {
		b.Fatal(err)
	}
	key, text, err := keydelivery.NewRSALBKey()
	if err != nil {
		b.Fatal(err)
	}
	cert, err := authority.SignLBCert(instance, key.Public(), now, now.Add(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	checker := keydelivery.NewChecker(keydelivery.CheckerConfig{IAMCert: authority.Certificate(),
		RSAIAMCert: authority.Certificate(), Now: func() time.Time { return now }})
	r, err := keydelivery.NewRequest(arn, keydelivery.Identity{CertPEM: cert, Key: text}, now)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		v, err := checker.Verify(b.Context(), r, session)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := authority.Answer(v, delivery.PEM("user-cert.pem"), delivery.PEM("user-test-key.pem")); err != nil {
			b.Fatal(err)
		}
	}
}
