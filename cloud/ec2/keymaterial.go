package ec2

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/md5" //nolint:gosec // EC2's fingerprint of an imported RSA key, which is no proof of anything
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // EC2's fingerprint of an RSA key that it made
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

const (
	createdRSABits = 2048
	// maxPublicKey bounds what is imported, in bytes: a key of 4096 bits in any of the forms, with a comment.
	maxPublicKey = 16 << 10
)

// errKeyFormat means that a public key is in none of the forms that are taken.
var errKeyFormat = errors.New("not a public key in OpenSSH's format, RFC 4716, PEM or base64 of DER")

// errKeyKind means that a public key is of a kind or size that EC2 does not take.
var errKeyKind = errors.New("the key must be RSA of 1024, 2048 or 4096 bits, or ED25519")

// keyMaterial is a key pair's public half as instances and users are told it.
type keyMaterial struct {
	kind        string // rsa, ed25519
	fingerprint string
	line        string // OpenSSH's format, without a comment
}

// newKeyPair makes a key pair. The private key is for the caller alone and is kept nowhere.
func newKeyPair(kind, name string) (keyMaterial, []byte, error) {
	if kind == ec2model.KeyTypeEd25519 {
		return newED25519(name)
	}
	key, err := rsa.GenerateKey(rand.Reader, createdRSABits)
	if err != nil {
		return keyMaterial{}, nil, fmt.Errorf("make key pair: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyMaterial{}, nil, fmt.Errorf("make key pair: %w", err)
	}
	defer clear(der)
	sum := sha1.Sum(der) //nolint:gosec // as above
	line, err := authorizedLine(key.Public())
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return keyMaterial{ec2model.KeyTypeRsa, colons(sum[:]), line}, private, err
}

func newED25519(name string) (keyMaterial, []byte, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return keyMaterial{}, nil, fmt.Errorf("make key pair: %w", err)
	}
	defer clear(private)
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		return keyMaterial{}, nil, fmt.Errorf("make key pair: %w", err)
	}
	line, err := authorizedLine(public)
	if err != nil {
		return keyMaterial{}, nil, err
	}
	fingerprint, err := ed25519Fingerprint(line)
	return keyMaterial{ec2model.KeyTypeEd25519, fingerprint, line}, pem.EncodeToMemory(block), err
}

func authorizedLine(public crypto.PublicKey) (string, error) {
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

// parsePublicKey reads a key that a user imports.
func parsePublicKey(text []byte) (keyMaterial, error) {
	if len(text) > maxPublicKey {
		return keyMaterial{}, fmt.Errorf("%w: it has %d bytes, at most %d", errKeyFormat, len(text), maxPublicKey)
	}
	public, err := readPublicKey(bytes.TrimSpace(text))
	if err != nil {
		return keyMaterial{}, err
	}
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits != 1024 && bits != 2048 && bits != 4096 {
			return keyMaterial{}, fmt.Errorf("%w: it is RSA of %d bits", errKeyKind, bits)
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return keyMaterial{}, fmt.Errorf("%w: %w", errKeyFormat, err)
		}
		sum := md5.Sum(der) //nolint:gosec // as above
		line, err := authorizedLine(key)
		return keyMaterial{ec2model.KeyTypeRsa, colons(sum[:]), line}, err
	case ed25519.PublicKey:
		line, err := authorizedLine(key)
		if err != nil {
			return keyMaterial{}, err
		}
		fingerprint, err := ed25519Fingerprint(line)
		return keyMaterial{ec2model.KeyTypeEd25519, fingerprint, line}, err
	default:
		return keyMaterial{}, fmt.Errorf("%w: it is %T", errKeyKind, public)
	}
}

// readPublicKey tries the forms that EC2 takes.
func readPublicKey(text []byte) (crypto.PublicKey, error) {
	if key, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		return cryptoKey(key)
	}
	if body, ok := secshBody(text); ok {
		key, err := ssh.ParsePublicKey(body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errKeyFormat, err)
		}
		return cryptoKey(key)
	}
	der := []byte(nil)
	if block, _ := pem.Decode(text); block != nil && strings.HasSuffix(block.Type, "PUBLIC KEY") {
		der = block.Bytes
	} else if raw, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil))); err == nil {
		der = raw
	}
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return key, nil
	}
	return nil, errKeyFormat
}

func cryptoKey(key ssh.PublicKey) (crypto.PublicKey, error) {
	known, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is %.64s", errKeyKind, key.Type())
	}
	return known.CryptoPublicKey(), nil
}

// secshBody takes the key out of RFC 4716's file format: headers, which may go on in the next line after a backslash,
// and base64.
func secshBody(text []byte) ([]byte, bool) {
	const begin, end = "---- BEGIN SSH2 PUBLIC KEY ----", "---- END SSH2 PUBLIC KEY ----"
	inner, ok := strings.CutPrefix(string(text), begin)
	if !ok {
		return nil, false
	}
	inner, _, ok = strings.Cut(inner, end)
	if !ok {
		return nil, false
	}
	var body strings.Builder
	continued := false
	for line := range strings.Lines(inner) {
		line = strings.TrimSpace(line)
		header := continued || strings.Contains(line, ":")
		continued = header && strings.HasSuffix(line, `\`)
		if !header {
			body.WriteString(line)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(body.String())
	return raw, err == nil
}

// ed25519Fingerprint is OpenSSH's SHA-256 of the key, with base64's padding as EC2 gives it.
func ed25519Fingerprint(line string) (string, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return "", fmt.Errorf("fingerprint of public key: %w", err)
	}
	sum := sha256.Sum256(key.Marshal())
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// colons writes bytes as pairs of hexadecimal digits with colons in between.
func colons(b []byte) string {
	pairs := make([]string, len(b))
	for i := range b {
		pairs[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(pairs, ":")
}
