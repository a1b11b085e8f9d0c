package authn

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// FuzzPresigned gives the verifier queries that claim to be signed. None but the SDK's own may pass, and each refusal
// has a code.
func FuzzPresigned(f *testing.F) {
	p := base()
	p.presign = true
	good := p.sign(f)
	f.Add(good.URL.RawQuery)
	f.Add(good.URL.RawQuery + "&X-Amz-Signature=" + strings.Repeat("0", 64))
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fiam%2Faws4_request" +
		"&X-Amz-Date=20150830T123600Z&X-Amz-Expires=-1&X-Amz-SignedHeaders=host&X-Amz-Signature=" + strings.Repeat("a", 64))
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=99999999999999999999&X-Amz-SignedHeaders=;;;")
	f.Add("X-Amz-Signature=%zz&X-Amz-Credential=%00")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		r.Host = good.URL.Host
		bounded.Memory(t, len(query), func() {
			_, err := verifier(signingTime).Verify(t.Context(), r, nil, lookup)
			var known *Error
			switch {
			case err == nil && query != good.URL.RawQuery && !sameQuery(query, good.URL.RawQuery):
				t.Errorf("accepted %q", query)
			case err != nil && !errors.As(err, &known):
				t.Errorf("error %v has no code", err)
			}
		})
	})
}

// sameQuery says whether two queries hold the same parameters, however they are spelled and in whatever order.
func sameQuery(one, two string) bool {
	a, err := url.ParseQuery(one)
	b, other := url.ParseQuery(two)
	return err == nil && other == nil && a.Encode() == b.Encode()
}

// FuzzPath holds the canonical path against the SDK's signer: whatever path a client signs is known, and its signature
// is good for no other path.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/", "/services/Euare/", "//", "/a/../b", "/%2e%2E/", "/a%20b", "/é", "/a//b/", "/%2F",
		"/;,=+:@~*"} {
		f.Add(path, "/")
	}
	f.Fuzz(func(t *testing.T, path, other string) {
		parsed, err := url.ParseRequestURI(path)
		elsewhere, otherErr := url.ParseRequestURI(other)
		if err != nil || otherErr != nil || parsed.RawQuery != "" || parsed.Host != "" || elsewhere.Host != "" ||
			!strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, "?") {
			return // no path of a request line
		}
		p := base()
		p.url = "http://127.0.0.1:4566" + path
		if _, err := url.Parse(p.url); err != nil {
			return
		}
		r, body := received(t, p.sign(t))
		bounded.Memory(t, len(path), func() {
			v := verifier(signingTime)
			if _, err := v.Verify(t.Context(), r, body, lookup); err != nil {
				t.Errorf("what the SDK signed for %q is refused: %v", path, err)
			}
			was := r.URL.EscapedPath()
			r.URL.Path, r.URL.RawPath = elsewhere.Path, elsewhere.RawPath
			if _, err := v.Verify(t.Context(), r, body, lookup); err == nil && r.URL.EscapedPath() != was &&
				elsewhere.Path != parsed.Path {
				t.Errorf("the signature for %q is good for %q", path, other)
			}
		})
	})
}
