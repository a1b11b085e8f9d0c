package testkeys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

func TestStandInsAreOfTheSameKind(t *testing.T) {
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	first, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, public := range []crypto.PublicKey{own.Public(), first.Public(), second.Public(), edwards} {
		var made [2][]byte
		for i := range made { // in two makers: what a key's stand-in is follows from the seed alone
			m := &maker{seed: SeedFrom([]byte("a cloud")), made: map[string]crypto.Signer{}}
			key, err := m.standIn(public)
			if err != nil {
				t.Fatal(err)
			}
			if _, made[i], err = encode(key); err != nil {
				t.Fatal(err)
			}
			if before, ok := public.(*rsa.PublicKey); ok {
				if now, ok := key.Public().(*rsa.PublicKey); !ok || now.N.BitLen() != before.N.BitLen() || now.Equal(before) {
					t.Errorf("the stand-in of an RSA key is a %T", key)
				}
			}
			if before, ok := public.(*ecdsa.PublicKey); ok {
				if now, ok := key.Public().(*ecdsa.PublicKey); !ok || now.Curve != before.Curve {
					t.Errorf("the stand-in of a key on %s is a %T", before.Curve.Params().Name, key)
				}
			}
		}
		if !bytes.Equal(made[0], made[1]) {
			t.Errorf("two stand-ins of one %T", public)
		}
		if seen[string(made[0])] {
			t.Errorf("two keys have one stand-in of a %T", public)
		}
		seen[string(made[0])] = true
	}
	m := &maker{seed: SeedFrom([]byte("another cloud")), made: map[string]crypto.Signer{}}
	key, err := m.standIn(first.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, der, err := encode(key); err != nil || seen[string(der)] {
		t.Errorf("another seed gives the same key, %v", err)
	}
	if _, err := m.standIn("no key"); err == nil {
		t.Error("a stand-in of what is no key")
	}
}

func TestReplace(t *testing.T) {
	ca, err := pki.NewAuthority("CA")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server(pki.P256, "www.example.test")
	if err != nil {
		t.Fatal(err)
	}
	record := func(fields map[string]any) []byte {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	r := New(SeedFrom(nil))
	for name, c := range map[string]struct {
		in         map[string]any
		has, hasNo string
	}{
		"plain": {map[string]any{"ID": "i-1", "N": json.Number("12345678901234567890")},
			`12345678901234567890`, "null"},
		"a secret": {map[string]any{"LoginPassword": "hunter2hunter2"}, `"LoginPassword"`, "hunter2"},
		"a key in clear": {map[string]any{"x": string(pair.KeyPEM)},
			"PRIVATE KEY", strings.Split(string(pair.KeyPEM), "\n")[1]},
		"a certificate": {map[string]any{"x": string(pair.CertPEM)},
			"BEGIN CERTIFICATE", strings.Split(string(pair.CertPEM), "\n")[4]},
		"sealed, unknown": {map[string]any{"x": "eyJhbGciOiJkaXIifQ..aaaa.bbbb.cccc", "y": "1"}, `"y"`, "cccc"},
		"sealed": {map[string]any{"x": "eyJhbGciOiJkaXIiLCJwdXJwb3NlIjoiYWNjZXNzLWtleS9BIn0..aaaa.bbbb.cccc"},
			`"eyJ`, "cccc"},
		"in a list": {map[string]any{"l": []any{map[string]any{"Secret": "abcdef"}}}, `"Secret"`, "abcdef"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := r.Replace(record(c.in))
			if err != nil || !strings.Contains(string(out), c.has) || strings.Contains(string(out), c.hasNo) {
				t.Errorf("%s, %v: want %q and not %q", out, err, c.has, c.hasNo)
			}
		})
	}
	if _, err := r.Replace([]byte("{")); err == nil {
		t.Error("what is no JSON was taken")
	}
}

// TestReissue holds a new certificate against the old one.
func TestReissue(t *testing.T) {
	ca, err := pki.NewAuthority("CA")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server(pki.RSA2048, "www.example.test")
	if err != nil {
		t.Fatal(err)
	}
	der := certificates(string(pair.CertPEM))[0]
	before, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	r := New(SeedFrom(nil))
	again, err := r.reissue(before, authorities{})
	if err != nil {
		t.Fatal(err)
	}
	after, err := x509.ParseCertificate(again)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(after.RawSubject, before.RawSubject) || !bytes.Equal(after.RawIssuer, before.RawIssuer) ||
		after.SerialNumber.Cmp(before.SerialNumber) != 0 || !after.NotAfter.Equal(before.NotAfter) ||
		after.VerifyHostname("www.example.test") != nil || after.PublicKeyAlgorithm != x509.RSA {
		t.Errorf("%+v", after)
	}
	if r.fingerprints[fingerprint(before.Raw)] != fingerprint(after.Raw) {
		t.Error("its fingerprint is not known")
	}
}
