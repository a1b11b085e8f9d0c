package authn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// DefaultSkew is how far a client's clock may be off, in AWS as here.
const DefaultSkew = 15 * time.Minute

const unsignedPayload = "UNSIGNED-PAYLOAD"

// Lookup finds the secret of an access key and whose it is. sessionToken is empty for long-lived keys. An unknown
// key, or a token that is not that key's, is an *Error with CodeUnknownKey; a session that has ended one with
// CodeExpiredToken. Any other error is the cloud's own fault.
type Lookup func(ctx context.Context, accessKeyID, sessionToken string) (secret string, caller Caller, err error)

// Verifier verifies requests. The zero Verifier is usable; it must not be copied once it was used.
type Verifier struct {
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
	// Skew is how far the time of signing may be from now, either way; 0 means DefaultSkew.
	Skew time.Duration
	// AllowUnsignedPayload accepts X-Amz-Content-Sha256: UNSIGNED-PAYLOAD, which leaves the body to transport
	// security. Form APIs, whose parameters are the body, must not.
	AllowUnsignedPayload bool

	keys signingKeys
}

// Verify returns the caller who signed r. body is r's whole body, read by the caller of Verify within its own bound;
// r.Body is not touched. An *Error says what is wrong with the request; other errors come from lookup.
func (v *Verifier) Verify(ctx context.Context, r *http.Request, body []byte, lookup Lookup) (Caller, error) {
	var query url.Values
	if r.URL.RawQuery != "" {
		var err error
		if query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			// What this parser drops would not be covered by the signature.
			return Caller{}, Errorf(CodeMalformedQuery, "The query string is malformed.")
		}
	}
	s, err := parse(r, query)
	if err != nil {
		return Caller{}, err
	}
	if err := v.checkTime(s); err != nil {
		return Caller{}, err
	}
	if err := unsigned(s, r.Header); err != nil {
		return Caller{}, err
	}
	payload, err := v.payloadHash(s, r.Header, body)
	if err != nil {
		return Caller{}, err
	}
	secret, caller, err := lookup(ctx, s.accessKeyID, s.token)
	if err != nil {
		return Caller{}, err
	}
	if secret == "" { // an empty secret would make signatures that anybody can make
		return Caller{}, fmt.Errorf("look up access key: %s has no secret", s.accessKeyID)
	}
	if !s.isPlain(r) || !v.plainGood(s, r, payload, secret) {
		if err := s.check(ctx, r, query, payload, secret); err != nil {
			return Caller{}, err
		}
	}
	caller.AccessKeyID = s.accessKeyID
	return caller, nil
}

func (v *Verifier) checkTime(s *signature) error {
	now, skew := time.Now, v.Skew
	if v.Clock != nil {
		now = v.Clock
	}
	if skew == 0 {
		skew = DefaultSkew
	}
	t := now().UTC()
	valid := skew
	if s.expires > 0 {
		valid = s.expires
	}
	if oldest := t.Add(-valid); s.date.Before(oldest) {
		return Errorf(CodeRequestExpired, "Signature expired: %s is now earlier than %s (%s - %s.)",
			s.date.Format(timeFormat), oldest.Format(timeFormat), t.Format(timeFormat), valid)
	}
	if newest := t.Add(skew); s.date.After(newest) {
		return Errorf(CodeRequestExpired, "Signature not yet current: %s is still later than %s (%s + %s.)",
			s.date.Format(timeFormat), newest.Format(timeFormat), t.Format(timeFormat), skew)
	}
	return nil
}

// unsigned refuses X-Amz- headers outside the signature: whoever stands between could add or change them.
func unsigned(s *signature, h http.Header) error {
	const prefix = "x-amz-"
	for name := range h {
		if len(name) < len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) {
			continue
		}
		if lower := strings.ToLower(name); !slices.Contains(s.signedHeaders, lower) {
			return Errorf(CodeSignatureMismatch, "The header '%.80s' is present and not signed.", lower)
		}
	}
	return nil
}

// payloadHash returns what stands for the body in the canonical request.
func (v *Verifier) payloadHash(s *signature, h http.Header, body []byte) (string, error) {
	sum := sha256.Sum256(body)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	actual := string(digits[:])
	stated, err := single(h, "X-Amz-Content-Sha256")
	if err != nil {
		return "", err
	}
	switch {
	case stated == "", stated == actual:
		return actual, nil
	case stated == unsignedPayload && v.AllowUnsignedPayload:
		return unsignedPayload, nil
	case stated == unsignedPayload:
		return "", Errorf(CodeIncomplete, "This service does not accept an unsigned body (X-Amz-Content-Sha256: %s).",
			unsignedPayload)
	default:
		return "", Errorf(CodeSignatureMismatch, "The value of 'X-Amz-Content-Sha256' is not the SHA-256 of the body.")
	}
}

// check re-signs and compares. Clients differ in one thing: whether they normalise the path that they sign. A path
// as sent is tried first, its normal form after it.
func (s *signature) check(ctx context.Context, r *http.Request, query url.Values, payload, secret string) error {
	paths := []string{r.URL.EscapedPath()}
	if n := normalise(paths[0]); n != paths[0] {
		paths = append(paths, n)
	}
	for _, p := range paths {
		want, err := s.resign(ctx, s.replica(r, query, p), payload, secret)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(s.value)) == 1 {
			return nil
		}
	}
	return Errorf(CodeSignatureMismatch, "The request signature we calculated does not match the signature you "+
		"provided."+
		" Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// replica makes the request that the client signed: the headers that it names and no others.
//
// Header names are put in lower case by hand: the signer leaves out User-Agent and a few others, which some clients
// sign, by their canonical spelling. X-Amz-Date it adds itself, and the length only if there is one.
func (s *signature) replica(r *http.Request, query url.Values, escapedPath string) *http.Request {
	q := url.Values{}
	for name, values := range query {
		if s.presigned && name == "X-Amz-Signature" {
			continue
		}
		q[name] = values
	}
	// Opaque carries the path as it was escaped. Without a scheme the signer leaves a default port in Host alone.
	u := &url.URL{Opaque: "//host" + escapedPath, RawQuery: q.Encode()}
	replica := &http.Request{Method: r.Method, URL: u, Host: r.Host, Header: http.Header{}}
	for _, name := range s.signedHeaders {
		switch name {
		case "host":
		case "x-amz-date":
			if s.presigned { // the signer adds it to the query instead
				replica.Header[name] = r.Header.Values(name)
			}
		case "content-length":
			replica.ContentLength = max(r.ContentLength, 0)
		default:
			if values := r.Header.Values(name); len(values) > 0 {
				replica.Header[name] = values
			}
		}
	}
	return replica
}

// resign returns the signature that the holder of secret makes for the replica. Each call has a signer of its own:
// the signer's cache of derived keys never shrinks, and clients choose its keys.
func (s *signature) resign(ctx context.Context, replica *http.Request, payload, secret string) (string, error) {
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableHeaderHoisting = true })
	credentials := aws.Credentials{AccessKeyID: s.accessKeyID, SecretAccessKey: secret}
	if s.presigned {
		uri, _, err := signer.PresignHTTP(ctx, credentials, replica, payload, s.service, s.region, s.date)
		if err != nil {
			return "", fmt.Errorf("sign presigned request again: %w", err)
		}
		_, value, _ := strings.Cut(uri, "&X-Amz-Signature=")
		return value, nil
	}
	if err := signer.SignHTTP(ctx, credentials, replica, payload, s.service, s.region, s.date); err != nil {
		return "", fmt.Errorf("sign request again: %w", err)
	}
	_, value, _ := strings.Cut(replica.Header.Get("Authorization"), "Signature=")
	return value, nil
}

// normalise removes empty and dot segments, as RFC 3986 section 6 and the SDKs for Python and Java do.
func normalise(escapedPath string) string {
	if escapedPath == "" {
		return "/"
	}
	n := path.Clean("/" + escapedPath)
	if n != "/" && strings.HasSuffix(escapedPath, "/") {
		n += "/"
	}
	return n
}
