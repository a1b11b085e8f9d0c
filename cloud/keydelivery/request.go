package keydelivery

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Action and Version of the request, as form fields.
const (
	Action  = "DownloadServerCertificate"
	Version = "2010-05-08"
)

const (
	timestampLayout = "2006-01-02T15:04:05Z"
	nonceSize       = 32
)

// Request asks for the certificate and key behind an ARN. Make one with NewRequest or ParseRequest.
type Request struct {
	ARN       string
	CertPEM   []byte // LBCERT
	Timestamp string
	Nonce     string // base64, profile 2
	Signature []byte
	Profile   Profile
}

// ErrRequest means that a request lacks a field or holds a malformed one; the wrapping error names it.
var ErrRequest = errors.New("bad request")

// NewRequest makes a profile 2 request signed with LBPK. Every request has a fresh nonce and is sent once.
func NewRequest(arn string, id Identity, now time.Time) (*Request, error) {
	_, key, err := id.parse()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("make nonce: %w", err)
	}
	r := &Request{
		ARN: arn, CertPEM: id.CertPEM, Profile: Profile2,
		Timestamp: now.UTC().Format(timestampLayout), Nonce: base64.StdEncoding.EncodeToString(nonce),
	}
	digest := sha256.Sum256(r.canonical())
	if r.Signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	return r, nil
}

// canonical is the text that LBPK signs.
func (r *Request) canonical() []byte {
	return []byte(strings.Join([]string{"2", r.ARN, r.Timestamp, r.Nonce}, "&"))
}

// Form returns the request as form fields, Action and Version among them.
func (r *Request) Form() url.Values {
	return url.Values{
		"Action":                {Action},
		"Version":               {Version},
		"CertificateArn":        {r.ARN},
		"DelegationCertificate": {base64.StdEncoding.EncodeToString(r.CertPEM)},
		"AuthSignature":         {"NULL"},
		"Timestamp":             {r.Timestamp},
		"Signature":             {base64.StdEncoding.EncodeToString(r.Signature)},
		"Profile":               {strconv.Itoa(int(r.Profile))},
		"Nonce":                 {r.Nonce},
	}
}

// ParseRequest reads a request's form fields. It checks their form, not their truth: that is Checker's.
func ParseRequest(form url.Values) (*Request, error) {
	r := &Request{ARN: form.Get("CertificateArn"), Timestamp: form.Get("Timestamp"), Nonce: form.Get("Nonce")}
	for _, name := range []string{"CertificateArn", "DelegationCertificate", "Timestamp", "Signature"} {
		switch n := len(form.Get(name)); {
		case n == 0:
			return nil, fmt.Errorf("%w: %s is missing", ErrRequest, name)
		case n > maxField:
			return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrRequest, name, maxField)
		}
	}
	switch p := form.Get("Profile"); p {
	case "", "1":
		r.Profile = Profile1
	case "2":
		r.Profile = Profile2
	default:
		return nil, fmt.Errorf("%w: Profile must be 1 or 2", ErrRequest)
	}
	var err error
	if r.CertPEM, err = decodeBase64(form.Get("DelegationCertificate")); err != nil {
		return nil, fmt.Errorf("%w: DelegationCertificate is not base64", ErrRequest)
	}
	if r.Signature, err = decodeBase64(form.Get("Signature")); err != nil {
		return nil, fmt.Errorf("%w: Signature is not base64", ErrRequest)
	}
	if r.Profile == Profile2 {
		// The exact text is signed and cached, so only one spelling of a nonce may pass.
		nonce, err := base64.StdEncoding.Strict().DecodeString(r.Nonce)
		if err != nil || len(nonce) != nonceSize {
			return nil, fmt.Errorf("%w: Nonce must be base64 of %d bytes", ErrRequest, nonceSize)
		}
	}
	return r, nil
}
