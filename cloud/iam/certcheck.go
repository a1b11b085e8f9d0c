package iam

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// The RSA sizes that a server certificate may have, in bits.
const (
	minRSA = 2048
	maxRSA = 4096
)

// maxChain bounds how many certificates a chain may have.
const maxChain = 10

// checkCertificate tests what is uploaded and returns the leaf: one PEM certificate within its validity, a PEM key
// without passphrase that is the certificate's, and a chain in which each certificate is signed by the next.
func checkCertificate(body, chain string, key keydelivery.Secret, now time.Time) (*x509.Certificate, error) {
	certs, err := readCertificates(body)
	if err != nil {
		return nil, iammodel.ErrMalformedCertificate("CertificateBody: %s", err)
	}
	if len(certs) != 1 {
		return nil, iammodel.ErrMalformedCertificate(
			"CertificateBody: it must hold one certificate; the others belong into CertificateChain")
	}
	leaf := certs[0]
	private, err := readPrivateKey(key)
	if err != nil {
		return nil, iammodel.ErrMalformedCertificate("PrivateKey: %s", err)
	}
	if err := checkPublicKey(leaf.PublicKey); err != nil {
		return nil, iammodel.ErrMalformedCertificate("CertificateBody: %s", err)
	}
	public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return nil, iammodel.ErrKeyPairMismatch("PrivateKey does not belong to the certificate in CertificateBody.")
	}
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil, iammodel.ErrInvalidInput("CertificateBody: the certificate is valid from %s to %s only.",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return leaf, checkChain(leaf, chain)
}

func checkChain(leaf *x509.Certificate, chain string) error {
	if strings.TrimSpace(chain) == "" {
		return nil
	}
	certs, err := readCertificates(chain)
	if err != nil {
		return iammodel.ErrMalformedCertificate("CertificateChain: %s", err)
	}
	child := leaf
	for i, parent := range certs {
		if err := child.CheckSignatureFrom(parent); err != nil {
			return iammodel.ErrMalformedCertificate("CertificateChain: it must start with the certificate that signed "+
				"the one in CertificateBody, each followed by its own signer; the first that is not has index %d", i)
		}
		child = parent
	}
	return nil
}

// readCertificates reads PEM text that holds certificates and white space only.
func readCertificates(text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := []byte(strings.TrimSpace(text)); len(rest) > 0; {
		if !strings.HasPrefix(string(rest), "-----BEGIN ") {
			return nil, errors.New("it is not in PEM format")
		}
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, errors.New("it is not in PEM format")
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("it holds a PEM block that is not a CERTIFICATE")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("it holds a certificate that cannot be parsed")
		}
		if certs = append(certs, cert); len(certs) > maxChain {
			return nil, errors.New("it holds too many certificates")
		}
		rest = []byte(strings.TrimSpace(string(after)))
	}
	if len(certs) == 0 {
		return nil, errors.New("it is empty")
	}
	return certs, nil
}

// readPrivateKey reads a key in PKCS#8, PKCS#1 or SEC 1. No error repeats anything of the key.
func readPrivateKey(text keydelivery.Secret) (crypto.Signer, error) {
	rest := []byte(text)
	block, rest := pem.Decode(rest)
	// openssl writes the curve's parameters in front of an EC key.
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("it is not in PEM format")
	}
	defer clear(block.Bytes)
	if strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("it must hold one private key and nothing else")
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("it is encrypted; remove its passphrase")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, errors.New("it is not a private key in PEM format")
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("it cannot be parsed")
	}
	return signer, checkPublicKey(signer.Public())
}

func checkPublicKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return errors.New("RSA keys must have 2048 to 4096 bits")
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	}
	return errors.New("the key must be RSA, P-256 or P-384")
}
