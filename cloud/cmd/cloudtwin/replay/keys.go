package replay

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// maxRSA bounds the keys that are made for a replay, in bits: a recording may come from anybody.
const maxRSA = 8192

// material is what takes the place of a certificate, its chain and its key.
type material struct{ certificate, chain, key string }

// reissue makes a certificate for the same names and by the same names, with keys of the same kind, and its key. What
// is valid at the time of recording is valid now for as long. A certificate or chain that cannot be read stays as it
// is: the cloud could not either.
func reissue(certificate, chain string, recorded, now time.Time) (material, error) {
	out := material{certificate: certificate, chain: chain}
	leaf := readCertificates(certificate)
	issuers := readCertificates(chain)
	if len(leaf) != 1 {
		key, err := newKey(nil)
		if err != nil {
			return out, err
		}
		out.key, err = encodeKey(key)
		return out, err
	}
	all := append(leaf, issuers...)
	certs := make([]*x509.Certificate, len(all))
	keys := make([]crypto.Signer, len(all))
	for i := len(all) - 1; i >= 0; i-- {
		like := all[i].PublicKey
		if i > 0 {
			like = nil // an issuer's key is nobody's concern
		}
		var err error
		if keys[i], err = newKey(like); err != nil {
			return out, err
		}
		// One that was not signed by the next is not now either.
		parent, signer := (*x509.Certificate)(nil), keys[i]
		if i+1 < len(all) && all[i].CheckSignatureFrom(all[i+1]) == nil {
			parent, signer = certs[i+1], keys[i+1]
		}
		if certs[i], err = again(all[i], parent, keys[i].Public(), signer, now.Sub(recorded)); err != nil {
			return out, err
		}
	}
	var err error
	if out.key, err = encodeKey(keys[0]); err != nil {
		return out, err
	}
	out.certificate = encodeCertificates(certs[:1])
	if len(issuers) > 0 {
		out.chain = encodeCertificates(certs[1:])
	}
	return out, nil
}

// again makes a certificate like another, by shift later. Without a parent it signs itself, in the name that the other
// was issued by.
func again(like, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer, shift time.Duration) (
	*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: like.SerialNumber, RawSubject: like.RawSubject, NotBefore: like.NotBefore.Add(shift),
		NotAfter: like.NotAfter.Add(shift), KeyUsage: like.KeyUsage, ExtKeyUsage: like.ExtKeyUsage,
		UnknownExtKeyUsage: like.UnknownExtKeyUsage, BasicConstraintsValid: like.BasicConstraintsValid, IsCA: like.IsCA,
		MaxPathLen: like.MaxPathLen, MaxPathLenZero: like.MaxPathLenZero, DNSNames: like.DNSNames,
		EmailAddresses: like.EmailAddresses, IPAddresses: like.IPAddresses, URIs: like.URIs,
	}
	if parent == nil {
		parent = &x509.Certificate{RawSubject: like.RawIssuer, PublicKey: signer.Public()}
		// One that signed itself is known by its own key.
		if string(like.RawIssuer) != string(like.RawSubject) {
			stranger, err := newKey(nil)
			if err != nil {
				return nil, err
			}
			parent.PublicKey, signer = stranger.Public(), stranger
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("make a certificate like that of %s: %w", like.Subject, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back certificate: %w", err)
	}
	return cert, nil
}

// newKey makes a key of the same kind and size, P-256 where there is nothing to be like.
func newKey(like crypto.PublicKey) (key crypto.Signer, err error) {
	switch k := like.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		if bits > maxRSA {
			return nil, fmt.Errorf("make an RSA key of %d bits: at most %d are made for a replay", bits, maxRSA)
		}
		key, err = rsa.GenerateKey(rand.Reader, bits)
	case *ecdsa.PublicKey:
		key, err = ecdsa.GenerateKey(k.Curve, rand.Reader)
	case ed25519.PublicKey:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key for the replay: %w", err)
	}
	return key, nil
}

// readCertificates reads PEM; none when it is not certificates alone.
func readCertificates(text string) []*x509.Certificate {
	var certs []*x509.Certificate
	rest := []byte(strings.TrimSpace(text))
	for len(rest) > 0 {
		block, more := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		certs, rest = append(certs, cert), more
	}
	return certs
}

func encodeCertificates(certs []*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.String()
}

func encodeKey(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encode a key for the replay: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}
