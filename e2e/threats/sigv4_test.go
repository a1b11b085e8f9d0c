package threats

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// keys are credentials of the API in the attacker's hands.
type keys struct{ id, secret, token string }

// signer signs requests by Signature Version 4. The server verifies with the SDK's signer, so this one is written from
// the "AWS General Reference, Create a signed AWS API request" alone.
type signer struct {
	keys
	region, service string
	at              time.Time
	// payload stands for the body's hash when it is not empty.
	payload string
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// sign adds the headers of the signature to a request without a query.
func (s signer) sign(r *http.Request, body []byte) {
	stamp := s.at.UTC().Format("20060102T150405Z")
	payload := s.payload
	if payload == "" {
		payload = hexSum(body)
	}
	r.Header.Set("X-Amz-Date", stamp)
	r.Header.Set("X-Amz-Content-Sha256", payload)
	if s.token != "" {
		r.Header.Set("X-Amz-Security-Token", s.token)
	}
	names := []string{"host"}
	for name := range r.Header {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	lines := []string{r.Method, r.URL.EscapedPath(), ""}
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.URL.Host
		}
		lines = append(lines, name+":"+strings.TrimSpace(value))
	}
	signed := strings.Join(names, ";")
	lines = append(lines, "", signed, payload)
	scope := strings.Join([]string{stamp[:8], s.region, s.service, "aws4_request"}, "/")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, scope, hexSum([]byte(strings.Join(lines, "\n")))}, "\n")
	key := []byte("AWS4" + s.secret)
	for _, part := range strings.Split(scope, "/") {
		key = mac(key, part)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.id+"/"+scope+", SignedHeaders="+signed+
		", Signature="+hex.EncodeToString(mac(key, text)))
}
