package testkeys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// authorities are the public keys of certificates that may sign others, by their subject.
type authorities map[string]crypto.PublicKey

func (a authorities) learn(cert *x509.Certificate) {
	if _, known := a[string(cert.RawSubject)]; cert.IsCA && !known {
		a[string(cert.RawSubject)] = cert.PublicKey
	}
}

// reissue makes a certificate that says the same of a test key, signed by the stand-in of who signed it.
func (r *Replacer) reissue(cert *x509.Certificate, near authorities) ([]byte, error) {
	own, err := r.keys.standIn(cert.PublicKey)
	if err != nil {
		return nil, err
	}
	signer, err := r.issuer(cert, own, near)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: cert.SerialNumber, RawSubject: cert.RawSubject, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		KeyUsage: cert.KeyUsage, ExtKeyUsage: cert.ExtKeyUsage, UnknownExtKeyUsage: cert.UnknownExtKeyUsage,
		BasicConstraintsValid: cert.BasicConstraintsValid, IsCA: cert.IsCA, MaxPathLen: cert.MaxPathLen,
		MaxPathLenZero: cert.MaxPathLenZero, DNSNames: cert.DNSNames, EmailAddresses: cert.EmailAddresses,
		IPAddresses: cert.IPAddresses, URIs: cert.URIs, OCSPServer: cert.OCSPServer,
		IssuingCertificateURL: cert.IssuingCertificateURL, CRLDistributionPoints: cert.CRLDistributionPoints,
		PolicyIdentifiers: cert.PolicyIdentifiers,
	}
	// Without randomness a signature follows from its key and text (RFC 6979), so a bundle made again is the same.
	der, err := x509.CreateCertificate(nil, template, &x509.Certificate{RawSubject: cert.RawIssuer}, own.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate of %s again: %w", cert.Subject, err)
	}
	r.fingerprints[fingerprint(cert.Raw)] = fingerprint(der)
	return der, nil
}

// issuer is the stand-in of the key that signed a certificate. Where only its name is known, it is of the same kind.
func (r *Replacer) issuer(cert *x509.Certificate, own crypto.Signer, near authorities) (crypto.Signer, error) {
	if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
		return own, nil
	}
	for _, known := range []authorities{near, r.authorities} {
		if public := known[string(cert.RawIssuer)]; public != nil {
			return r.keys.standIn(public)
		}
	}
	name := fmt.Sprintf("issuer-%x", sha256.Sum256(cert.RawIssuer))
	return r.keys.keep(name, func(name string) (crypto.Signer, error) {
		switch cert.SignatureAlgorithm {
		case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA1WithRSA, x509.MD5WithRSA,
			x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
			return newRSA(r.keys.seed.stream(name, nil), 2048)
		default:
			return newEC(r.keys.seed.stream(name, nil), elliptic.P256())
		}
	})
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// encode writes a key as the cloud does: PKCS#1 for RSA, PKCS#8 for others.
func encode(key crypto.Signer) (kind string, der []byte, err error) {
	if own, ok := key.(*rsa.PrivateKey); ok {
		return "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(own), nil
	}
	der, err = x509.MarshalPKCS8PrivateKey(key)
	return "PRIVATE KEY", der, err
}

// isP256 says whether messages can be sealed to the key.
func isP256(key crypto.PublicKey) (*ecdsa.PublicKey, bool) {
	own, ok := key.(*ecdsa.PublicKey)
	return own, ok && own.Curve == elliptic.P256()
}
