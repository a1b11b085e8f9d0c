package keydelivery

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Authority is the cloud's IAM identity in one profile: IAMCERT with IAMPK. It signs LBCERTs and answers; that of
// profile 2 also seals USERPKs at rest.
type Authority struct {
	cert    *x509.Certificate
	certPEM []byte
	key     crypto.Signer // *ecdsa.PrivateKey on P-256, or *rsa.PrivateKey
}

// authorityLife is how long an IAMCERT is valid.
const authorityLife = 10 * 365 * 24 * time.Hour

// backdate lets clocks of guests and nodes run a little behind the cloud's.
const backdate = 5 * time.Minute

// NewAuthority makes profile 2's P-256 identity, valid for ten years from now.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make IAM key: %w", err)
	}
	return newAuthority(key, now)
}

// NewRSAAuthority makes profile 1's RSA 3072 identity, valid for ten years from now. It takes up to a few seconds.
func NewRSAAuthority(now time.Time) (*Authority, error) {
	key, err := rsa.GenerateKey(rand.Reader, authorityBits)
	if err != nil {
		return nil, fmt.Errorf("make IAM key: %w", err)
	}
	return newAuthority(key, now)
}

func newAuthority(key crypto.Signer, now time.Time) (*Authority, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"cloudtwin"}, CommonName: "iam"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if ProfileOf(key.Public()) == Profile2 {
		template.KeyUsage |= x509.KeyUsageKeyAgreement // USERPKs are sealed to it
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign IAM certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back IAM certificate: %w", err)
	}
	return &Authority{cert: cert, certPEM: encodeCertificate(der), key: key}, nil
}

// LoadAuthority takes up an identity that was kept; the key must be the certificate's and tells the profile.
func LoadAuthority(certPEM []byte, keyPEM Secret) (*Authority, error) {
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("IAM certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("IAM key: %w", err)
	}
	if !belongs(key, cert) {
		return nil, errors.New("IAM key does not belong to the IAM certificate")
	}
	return &Authority{cert: cert, certPEM: encodeCertificate(cert.Raw), key: key}, nil
}

// Profile returns the profile that the identity is for.
func (a *Authority) Profile() Profile { return ProfileOf(a.key.Public()) }

// CertificatePEM returns IAMCERT.
func (a *Authority) CertificatePEM() []byte { return append([]byte(nil), a.certPEM...) }

// Certificate returns IAMCERT; the caller must not change it.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// KeyPEM returns IAMPK, for sealing into the store and nothing else.
func (a *Authority) KeyPEM() (Secret, error) { return encodeKey(a.key) }

// Serial returns IAMCERT's serial number in hex, by which people and records name the identity.
func (a *Authority) Serial() string { return a.cert.SerialNumber.Text(16) }

// SignLBCert signs an LBCERT: CN is the instance, CA:FALSE, for client authentication only. The key must be of the
// identity's profile. An LBCERT ends with its IAMCERT if not before.
func (a *Authority) SignLBCert(instanceID string, pub crypto.PublicKey, notBefore, notAfter time.Time) ([]byte, error) {
	if instanceID == "" {
		return nil, errors.New("sign LBCERT: instance id is empty")
	}
	if notAfter.After(a.cert.NotAfter) {
		notAfter = a.cert.NotAfter
	}
	if !notAfter.After(notBefore) {
		return nil, fmt.Errorf("sign LBCERT of %s: it would end at %s before it begins", instanceID, notAfter)
	}
	if ProfileOf(pub) != a.Profile() {
		return nil, fmt.Errorf("sign LBCERT of %s: its key is not one of profile %d", instanceID, a.Profile())
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: instanceID},
		NotBefore: notBefore.Add(-backdate), NotAfter: notAfter, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign LBCERT of %s: %w", instanceID, err)
	}
	return encodeCertificate(der), nil
}

// sign returns the signature of IAMPK over SHA-256 of text: ECDSA in ASN.1 or RSA PKCS#1 v1.5.
func (a *Authority) sign(text []byte) ([]byte, error) { return sign(a.key, text) }

// newSerial returns a positive random serial of at most 127 bits.
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// parseCertificate reads the one certificate of a PEM text, with nothing but space after it.
func parseCertificate(text []byte) (*x509.Certificate, error) {
	if len(text) > maxField {
		return nil, fmt.Errorf("PEM text of %d bytes is too long", len(text))
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a PEM certificate")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("more than one PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return cert, nil
}
