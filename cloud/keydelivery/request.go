package keydelivery

import (
	"crypto/rand"
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
	iamToken        = "NULL"
)

// Request asks for the certificate and key behind an ARN. Make one with NewRequest or ParseRequest.
type Request struct {
	ARN       string
	CertPEM   []byte // LBCERT
	Timestamp string
	Nonce     string // base64, profile 2 only
	Signature []byte
	Profile   Profile
}

// ErrRequest means that a request lacks a field or holds a malformed one; the wrapping error names it.
var ErrRequest = errors.New("bad request")

// NewRequest makes a request of the identity's profile, signed with LBPK. In profile 2 every request has a fresh nonce
// and is sent once.
func NewRequest(arn string, id Identity, now time.Time) (*Request, error) {
	_, key, err := id.parse()
	if err != nil {
		return nil, err
	}
	r := &Request{
		ARN: arn, CertPEM: id.CertPEM, Profile: ProfileOf(key.Public()), Timestamp: now.UTC().Format(timestampLayout),
	}
	if r.Profile == Profile2 {
		nonce := make([]byte, nonceSize)
		if _, err := rand.Read(nonce); err != nil {
			return nil, fmt.Errorf("make nonce: %w", err)
		}
		r.Nonce = base64.StdEncoding.EncodeToString(nonce)
	}
	if r.Signature, err = sign(key, r.canonical()); err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	return r, nil
}

// canonical is the text that LBPK signs.
func (r *Request) canonical() []byte {
	if r.Profile == Profile1 {
		return []byte(r.ARN + "&" + r.Timestamp)
	}
	return []byte(strings.Join([]string{"2", r.ARN, r.Timestamp, r.Nonce}, "&"))
}

// Form returns the request as form fields, Action and Version among them. AuthSignature is the medium's iam_token,
// which has been NULL since the protocol's beginning: nothing hangs on it.
func (r *Request) Form() url.Values {
	form := url.Values{
		"Action":                {Action},
		"Version":               {Version},
		"CertificateArn":        {r.ARN},
		"DelegationCertificate": {base64.StdEncoding.EncodeToString(r.CertPEM)},
		"AuthSignature":         {iamToken},
		"Timestamp":             {r.Timestamp},
		"Signature":             {base64.StdEncoding.EncodeToString(r.Signature)},
	}
	if r.Profile != Profile1 {
		form.Set("Profile", strconv.Itoa(int(r.Profile)))
		form.Set("Nonce", r.Nonce)
	}
	return form
}

// ParseRequest reads a request's form fields. It checks that they are there, not their truth: that is Checker's.
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
	// What cannot be decoded fails the check that it is for, in that check's turn.
	r.CertPEM, _ = decodeBase64(form.Get("DelegationCertificate"))
	r.Signature, _ = decodeBase64(form.Get("Signature"))
	if r.Profile == Profile2 {
		// The exact text is signed and cached, so only one spelling of a nonce may pass. Even a strict decoder forgives
		// line ends.
		nonce, err := base64.StdEncoding.DecodeString(r.Nonce)
		if err != nil || len(nonce) != nonceSize || base64.StdEncoding.EncodeToString(nonce) != r.Nonce {
			return nil, fmt.Errorf("%w: Nonce must be base64 of %d bytes", ErrRequest, nonceSize)
		}
	}
	return r, nil
}
