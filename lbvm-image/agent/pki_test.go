package agent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  signer
}

type signer interface {
	Public() any
	private() any
}

type rsaSigner struct{ *rsa.PrivateKey }

func (s rsaSigner) Public() any  { return s.PrivateKey.Public() }
func (s rsaSigner) private() any { return s.PrivateKey }

type ecSigner struct{ *ecdsa.PrivateKey }

func (s ecSigner) Public() any  { return s.PrivateKey.Public() }
func (s ecSigner) private() any { return s.PrivateKey }

func ecdsaKey(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ecSigner{key}
}

func rsaKey(t *testing.T) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return rsaSigner{key}
}

// newPair makes a certificate for a name, or for addresses, signed by issuer; nil makes a CA.
func newPair(t *testing.T, issuer *pair, name string, key signer, ips ...net.IP) *pair {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if name != "" {
		template.DNSNames = []string{name}
	}
	parent, signWith := template, key
	if issuer == nil {
		template.IsCA, template.KeyUsage, template.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
	} else {
		parent, signWith = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signWith.private())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pair{cert: cert, key: key}
}

func (p *pair) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

func (p *pair) keyPEM(t *testing.T) keydelivery.Secret {
	der, err := x509.MarshalPKCS8PrivateKey(p.key.private())
	if err != nil {
		t.Error(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (p *pair) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key.private(), Leaf: p.cert}
}

func (p *pair) fingerprint() string {
	sum := sha256.Sum256(p.cert.Raw)
	return hex.EncodeToString(sum[:])
}
