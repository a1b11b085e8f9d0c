package iam_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// pair is a certificate and its key as PEM.
type pair struct {
	cert, key string
	leaf      *x509.Certificate
	signer    crypto.Signer
}

// pairSpec says what kind of pair newPair makes. The zero spec is a self-signed P-256 server certificate.
type pairSpec struct {
	now    time.Time
	name   string // www.example.test when empty
	signer crypto.Signer
	ca     bool
	parent *pair
	from   time.Time // an hour before now when zero
	to     time.Time // a year after now when zero
}

func newPair(t testing.TB, spec pairSpec) pair {
	t.Helper()
	var err error
	if spec.signer == nil {
		if spec.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if spec.name == "" {
		spec.name = "www.example.test"
	}
	if spec.from.IsZero() {
		spec.from = spec.now.Add(-time.Hour)
	}
	if spec.to.IsZero() {
		spec.to = spec.now.Add(365 * 24 * time.Hour)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: spec.name}, NotBefore: spec.from, NotAfter: spec.to,
		DNSNames: []string{spec.name}, BasicConstraintsValid: true, IsCA: spec.ca,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if spec.ca {
		template.KeyUsage |= x509.KeyUsageCertSign
	}
	parent, by := template, spec.signer
	if spec.parent != nil {
		parent, by = spec.parent.leaf, spec.parent.signer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, spec.signer.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(spec.signer)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})),
		leaf: leaf, signer: spec.signer,
	}
}

func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEC(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
