package replay

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

func TestReissue(t *testing.T) {
	root, err := pki.NewAuthority("root CA")
	if err != nil {
		t.Fatal(err)
	}
	middle, err := root.Intermediate("middle CA")
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []pki.Algorithm{pki.P256, pki.P384, pki.RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			pair, err := middle.Server(algorithm, "www.example.test", "example.test")
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			m, err := reissue(string(pair.CertPEM), string(middle.PEM)+string(root.PEM), now.Add(-time.Hour), now)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tls.X509KeyPair([]byte(m.certificate), []byte(m.key)); err != nil {
				t.Error(err)
			}
			leaf, chain := readCertificates(m.certificate)[0], readCertificates(m.chain)
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			between.AddCert(chain[0])
			roots.AddCert(chain[1])
			if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "example.test", Roots: roots, Intermediates: between,
				CurrentTime: now}); err != nil {
				t.Error(err)
			}
			if leaf.Subject.String() != pair.Leaf.Subject.String() || leaf.Issuer.String() != pair.Leaf.Issuer.String() ||
				leaf.SerialNumber.Cmp(pair.Leaf.SerialNumber) != 0 || !leaf.NotAfter.Equal(pair.Leaf.NotAfter.Add(time.Hour)) {
				t.Errorf("certificate %v by %v until %v", leaf.Subject, leaf.Issuer, leaf.NotAfter)
			}
			if leaf.Equal(pair.Leaf) || !sameKind(leaf.PublicKey, pair.Leaf.PublicKey) {
				t.Errorf("key %T", leaf.PublicKey)
			}
		})
	}
}

func sameKind(a, b any) bool {
	switch a := a.(type) {
	case *ecdsa.PublicKey:
		b, ok := b.(*ecdsa.PublicKey)
		return ok && a.Curve == b.Curve && !a.Equal(b)
	case *rsa.PublicKey:
		b, ok := b.(*rsa.PublicKey)
		return ok && a.N.BitLen() == b.N.BitLen() && !a.Equal(b)
	}
	return false
}

// TestReissueOfWhatWasRefused shows that what was wrong with a certificate is wrong again.
func TestReissueOfWhatWasRefused(t *testing.T) {
	root, err := pki.NewAuthority("root CA")
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewAuthority("another CA")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := root.Server(pki.P256, "www.example.test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := reissue(string(pair.CertPEM), string(other.PEM), begin, begin)
	if err != nil {
		t.Fatal(err)
	}
	leaf, chain := readCertificates(m.certificate), readCertificates(m.chain)
	if leaf[0].CheckSignatureFrom(chain[0]) == nil {
		t.Error("a chain is whole that was not")
	}
	for _, text := range []string{"", "hello", string(pair.KeyPEM), string(pair.CertPEM) + "x", string(pair.CertPEM) +
		string(root.PEM)} {
		if m, err := reissue(text, "", begin, begin); err != nil || m.certificate != text || m.key == "" {
			t.Errorf("certificate %q became %q (%v)", text, m.certificate, err)
		}
	}
}
