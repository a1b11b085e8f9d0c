package keydelivery

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// The sizes of profile 1's RSA keys, in bits.
const (
	authorityBits = 3072
	lbKeyBits     = 2048
)

// Identity is an LBVM's own: LBCERT with LBPK, as PKCS#8 PEM in profile 2 and PKCS#1 PEM in profile 1.
type Identity struct {
	CertPEM []byte
	Key     Secret
}

// NewLBKey makes profile 2's LBPK, on P-256.
func NewLBKey() (*ecdsa.PrivateKey, Secret, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make LBPK: %w", err)
	}
	text, err := encodeKey(key)
	return key, text, err
}

// NewRSALBKey makes profile 1's LBPK, RSA 2048. It takes about 0.1 s.
func NewRSALBKey() (*rsa.PrivateKey, Secret, error) {
	key, err := rsa.GenerateKey(rand.Reader, lbKeyBits)
	if err != nil {
		return nil, nil, fmt.Errorf("make LBPK: %w", err)
	}
	text, err := encodeKey(key)
	return key, text, err
}

// Profile returns the profile that the identity's LBCERT is of. The error is one of parsing.
func (id Identity) Profile() (Profile, error) {
	cert, err := parseCertificate(id.CertPEM)
	if err != nil {
		return 0, fmt.Errorf("LBCERT: %w", err)
	}
	p := ProfileOf(cert.PublicKey)
	if p == 0 {
		return 0, errors.New("LBCERT: its key is neither RSA nor P-256")
	}
	return p, nil
}

// Certificate returns LBCERT.
func (id Identity) Certificate() (*x509.Certificate, error) { return parseCertificate(id.CertPEM) }

// parse returns the identity's parts, which must belong together.
func (id Identity) parse() (*x509.Certificate, crypto.Signer, error) {
	cert, err := parseCertificate(id.CertPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("LBCERT: %w", err)
	}
	key, err := parseKey(id.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("LBPK: %w", err)
	}
	if !belongs(key, cert) {
		return nil, nil, errors.New("LBPK does not belong to LBCERT")
	}
	return cert, key, nil
}

// ProfileOf tells which profile a public key is for: RSA of at least 2048 bits is profile 1, P-256 profile 2. Any
// other key is of none, 0.
func ProfileOf(key crypto.PublicKey) Profile {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return Profile2
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= lbKeyBits && bits <= authorityBits {
			return Profile1
		}
	}
	return 0
}

func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// sign returns the key's signature over SHA-256 of text: ECDSA in ASN.1 or RSA PKCS#1 v1.5.
func sign(key crypto.Signer, text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	return key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// verify reports whether signature is one that sign made with the key to public.
func verify(public crypto.PublicKey, text, signature []byte) bool {
	digest := sha256.Sum256(text)
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest[:], signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

// encodeKey returns P-256 keys as PKCS#8 and RSA keys as PKCS#1, which is all that the original guest reads.
func encodeKey(key crypto.Signer) (Secret, error) {
	block := &pem.Block{Type: "PRIVATE KEY"}
	if rsaKey, ok := key.(*rsa.PrivateKey); ok {
		block.Type, block.Bytes = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)
	} else {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
		block.Bytes = der
	}
	defer clear(block.Bytes)
	return pem.EncodeToMemory(block), nil
}

// parseKey reads what encodeKey wrote. Its errors repeat nothing of the text: x509's own may quote what they read.
func parseKey(text Secret) (crypto.Signer, error) {
	if len(text) > maxField {
		return nil, errors.New("too long for a PEM key")
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not a PEM key")
	}
	defer clear(block.Bytes)
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("not a PKCS#8 key")
		}
		if key, ok := parsed.(*ecdsa.PrivateKey); ok && ProfileOf(key.Public()) == Profile2 {
			return key, nil
		}
		return nil, errors.New("not a P-256 key")
	case "RSA PRIVATE KEY":
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil || ProfileOf(key.Public()) != Profile1 {
			return nil, errors.New("not an RSA key of 2048 to 3072 bits in PKCS#1")
		}
		return key, nil
	}
	return nil, errors.New("neither a PKCS#8 nor a PKCS#1 PEM key")
}
