package agent

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// errCertificate means that a delivery was genuine, but what was in it cannot serve. No error wraps what a parser said
// of a key.
var errCertificate = errors.New("certificate cannot be used")

// usable makes of a delivery what a TLS server shows, and wipes the delivered key whatever comes of it. What the
// parsers of the standard library copied is out of reach, as is the parsed key itself: it is needed while serving.
func usable(delivered *keydelivery.ServerCertificate) (*tls.Certificate, error) {
	defer delivered.Key.Wipe()
	out := &tls.Certificate{}
	for rest := delivered.CertificatePEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			out.Certificate = append(out.Certificate, block.Bytes)
		}
	}
	if len(out.Certificate) == 0 {
		return nil, fmt.Errorf("%w: no certificate in it", errCertificate)
	}
	leaf, err := x509.ParseCertificate(out.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("%w: malformed leaf", errCertificate)
	}
	key, err := parseKey(delivered.Key)
	if err != nil {
		return nil, err
	}
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, fmt.Errorf("%w: key of another certificate", errCertificate)
	}
	out.Leaf, out.PrivateKey = leaf, key
	return out, nil
}

// parseKey reads a PEM key in any of the forms that users upload: PKCS#8, PKCS#1, SEC 1. Blocks before it, such as EC
// parameters, are passed over.
func parseKey(text keydelivery.Secret) (crypto.Signer, error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("%w: no private key in it", errCertificate)
		}
		defer clear(block.Bytes)
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
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: malformed private key", errCertificate)
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, nil
		case *ecdsa.PrivateKey:
			return key, nil
		default:
			return nil, fmt.Errorf("%w: unsupported kind of key", errCertificate)
		}
	}
}

// fingerprint is the SHA-256 of the leaf in hex, by which anybody outside compares what is served with what was
// uploaded.
func fingerprint(certificate *tls.Certificate) string {
	sum := sha256.Sum256(certificate.Certificate[0])
	return hex.EncodeToString(sum[:])
}
