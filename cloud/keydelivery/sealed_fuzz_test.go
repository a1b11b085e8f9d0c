package keydelivery

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// FuzzOpenSealed: whatever a sealed message's header and parts say, what opens is what was sealed, and everything
// else is one and the same error.
func FuzzOpenSealed(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	plaintext, own := Secret("a secret text"), binding{purpose: purposeKey, node: "node-1", instance: "i-1"}
	for _, b := range []binding{
		own, {purpose: purposeKey}, {purpose: purposeAnswer, arn: "a", nonce: "n", instance: "i-1"},
	} {
		message, err := seal(&key.PublicKey, b, plaintext)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
		f.Add(message[:len(message)-3])
		f.Add(strings.Replace(message, ".", "..", 1))
	}
	// Headers by hand: other algorithms, a critical header, compression, a point that is not on the curve.
	for _, header := range []string{
		"eyJhbGciOiJub25lIn0", "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0",
		"eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1ciLCJwMmMiOjJlOX0",
		"eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJjcml0IjpbIngiXX0", "e30", "",
	} {
		f.Add(header + ".AAAA.AAAA.AAAA.AAAA")
	}
	f.Fuzz(func(t *testing.T, message string) {
		bounded.Memory(t, len(message), func() {
			got, err := open(key, own, message)
			if err == nil && !bytes.Equal(got, plaintext) {
				t.Errorf("opened as %q", []byte(got))
			}
			if err != nil && !errors.Is(err, errUnseal) {
				t.Errorf("the error tells more than that it failed: %v", err)
			}
		})
	})
}

// FuzzUnwrap is the same for profile 1's two lines.
func FuzzUnwrap(f *testing.F) {
	key, err := rsa.GenerateKey(rand.Reader, lbKeyBits)
	if err != nil {
		f.Fatal(err)
	}
	message, err := wrap(&key.PublicKey, Secret("a secret text"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add(message + "=\n\n")
	f.Add(strings.Replace(message, "\n", "", 1))
	f.Add("\n")
	f.Add("AAAA\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, message string) {
		bounded.Memory(t, len(message), func() {
			if _, err := unwrap(key, message); err != nil && !errors.Is(err, errUnseal) {
				t.Errorf("the error tells more than that it failed: %v", err)
			}
		})
	})
}

// FuzzParseUserData: user data is either plain and untouched, or asks for a credential of an allowed length.
func FuzzParseUserData(f *testing.F) {
	for _, text := range []string{
		"", "#!/bin/sh\n", Keyword, Keyword + "\n", Keyword + ":365\npayload", Keyword + ":0\n", Keyword + ":3651\n",
		Keyword + ":1e3\n", Keyword + ":-1\n", Keyword + " : 7\r\nx", " " + Keyword + ":7\n", Keyword + "x:7\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Memory(t, len(data), func() {
			payload, days, wanted, err := ParseUserData(data)
			switch {
			case !wanted && (err != nil || !bytes.Equal(payload, data)):
				t.Errorf("plain user data became %q, %v", payload, err)
			case wanted && !bytes.HasPrefix(data, []byte(Keyword)):
				t.Errorf("a credential for %q", data)
			case wanted && err == nil && (days < 1 || days > MaxDays || !bytes.HasSuffix(data, payload)):
				t.Errorf("%d days, payload %q", days, payload)
			}
			if payload, days, wanted, err := ParseUserData(WithKeyword(7, data)); err != nil || !wanted || days != 7 ||
				!bytes.Equal(payload, data) {
				t.Errorf("with the keyword: %q, %d, %t, %v", payload, days, wanted, err)
			}
		})
	})
}
