package keydelivery

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"testing"
	"time"
)

// TestRememberedSignature alters each byte of an LBCERT that is remembered as signed: none of them is taken for it.
func TestRememberedSignature(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	a, err := NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.SignLBCert("i-0123456789abcdef0", key.Public(), now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	good, err := parseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	var signed signedCache
	for range 2 {
		if err := signed.by(good, a.Certificate()); err != nil || len(signed.known) != 1 {
			t.Fatalf("control: %v, %d remembered", err, len(signed.known))
		}
	}
	tried := 0
	for i := range good.Raw {
		der := append([]byte(nil), good.Raw...)
		der[i] ^= 1
		bad, err := parseCertificate(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if err != nil {
			continue
		}
		tried++
		if err := signed.by(bad, a.Certificate()); err == nil {
			t.Errorf("byte %d altered, and taken for signed", i)
		}
	}
	if tried < 100 {
		t.Errorf("only %d altered certificates could be parsed", tried)
	}
	if err := signed.by(good, good); err == nil {
		t.Error("taken for signed by another certificate")
	}
	if len(signed.known) != 1 {
		t.Errorf("%d remembered, want the good one alone", len(signed.known))
	}
}

func TestRememberedSignaturesAreBounded(t *testing.T) {
	a, err := NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	own := a.Certificate()
	if err := own.CheckSignatureFrom(own); err != nil {
		t.Fatal(err)
	}
	signed := signedCache{known: map[[sha256.Size]byte]struct{}{}}
	for i := range maxSigned {
		var pair [sha256.Size]byte
		binary.BigEndian.PutUint64(pair[:], uint64(i))
		signed.known[pair] = struct{}{}
	}
	if err := signed.by(own, own); err != nil || len(signed.known) != 1 {
		t.Errorf("%v, %d remembered", err, len(signed.known))
	}
}
