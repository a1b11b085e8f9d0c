package testkeys

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// sealedText is a compact JWE: five parts in base64 for URLs, the first one JSON.
var sealedText = regexp.MustCompile(
	`^eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+$`)

// errDropped means that nothing can take the place of a sealed text, which is then left out.
var errDropped = errors.New("nothing can take its place")

// header is what a sealed text says of itself in clear.
type header struct {
	Alg, Enc, Purpose string
}

// beside is what a record holds beside a sealed text.
type beside struct {
	certificate []byte // DER, the first one of the same object: the key in the text is that of its public half
	sealedTo    string // serial number of the IAMCERT that it is sealed to, hexadecimal; empty: the current one
}

// seal makes a text with the same purpose, sealed to the stand-in of what sealed it, with a test key in it.
func (r *Replacer) seal(text string, b beside) (string, error) {
	parts := strings.Split(text, ".")
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return "", errDropped
	}
	var h header
	if err := json.Unmarshal(raw, &h); err != nil || h.Purpose == "" {
		return "", errDropped
	}
	length := base64.RawURLEncoding.DecodedLen(len(parts[3]))
	var recipient jose.Recipient
	switch {
	case h.Alg == string(jose.DIRECT):
		recipient = jose.Recipient{Algorithm: jose.DIRECT, Key: r.root}
	case strings.HasPrefix(h.Purpose, atRest) && r.iamCerts[b.sealedTo] != nil:
		own, err := r.keys.standIn(r.iamCerts[b.sealedTo])
		if err != nil {
			return "", err
		}
		public, ok := isP256(own.Public())
		if !ok {
			return "", errDropped
		}
		recipient = jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: public}
	default: // sealed to a node, whose key only it has
		return "", errDropped
	}
	plain, err := r.content(h.Purpose, length, b)
	if err != nil {
		return "", err
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM, recipient,
		&jose.EncrypterOptions{ExtraHeaders: map[jose.HeaderKey]any{"purpose": h.Purpose}})
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", h.Purpose, err)
	}
	object, err := encrypter.Encrypt(plain)
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", h.Purpose, err)
	}
	return object.CompactSerialize()
}

// The beginnings of purposes, as iam and placement name them.
const (
	atRest    = "at-rest:"
	accessKey = "access-key/"
	authority = "authority" // and authority-rsa
	cloudCA   = "external/cloud-ca"
)

// content is what a sealed text holds: the stand-in of the key that belongs to the certificate beside it, or bytes of
// the same length.
func (r *Replacer) content(purpose string, length int, b beside) ([]byte, error) {
	ofCertificate := strings.HasPrefix(purpose, atRest) || strings.HasPrefix(purpose, authority) || purpose == cloudCA
	if !ofCertificate {
		if strings.HasPrefix(purpose, accessKey) {
			return []byte(r.keys.seed.Text(purpose, length)), nil
		}
		return r.keys.seed.Bytes(purpose, length), nil
	}
	public, err := publicKey(b.certificate)
	if err != nil {
		return nil, errDropped
	}
	own, err := r.keys.standIn(public)
	if err != nil {
		return nil, err
	}
	kind, der, err := encode(own)
	if err != nil || purpose == cloudCA {
		return der, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), nil
}
