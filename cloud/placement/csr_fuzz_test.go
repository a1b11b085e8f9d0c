package placement

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// FuzzNodeRequest gives the CA what a node may send to have its certificate signed: it signs nothing but a request for
// that node's name by a P-256 key that signed it.
func FuzzNodeRequest(f *testing.F) {
	const id = "node-1"
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	long, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	for _, key := range []any{own, long, old} {
		for _, name := range []string{id, "node-2", ""} {
			der, err := x509.CreateCertificateRequest(rand.Reader,
				&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(der)
			f.Add(der[:len(der)/2])
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		bounded.Memory(t, len(der), func() {
			pub, err := checkNodeRequest(der, id)
			if err != nil {
				if !errors.Is(err, ErrRequest) {
					t.Errorf("error %v is not the sender's", err)
				}
				return
			}
			csr, err := x509.ParseCertificateRequest(der)
			if err != nil || csr.CheckSignature() != nil || csr.Subject.CommonName != id || pub.Curve != elliptic.P256() {
				t.Errorf("a request is accepted that is not the node's: %v", err)
			}
		})
	})
}
