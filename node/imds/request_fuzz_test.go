package imds

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// FuzzRequest: no method, path and headers make the service fail, or give credentials for a token that it did not
// make; none that came through a proxy gets a token.
func FuzzRequest(f *testing.F) {
	src := newSource()
	h := newHandler(src)
	for _, s := range [][5]string{
		{"PUT", "/latest/api/token", "60", "", ""}, {"PUT", "/latest/api/token", "21601", "", ""},
		{"PUT", "/latest/api/token", "-1", "", ""}, {"PUT", "/latest/api/token", "60", "", "10.0.0.1"},
		{"GET", "/latest/meta-data/", "", "AQAAAA==", ""}, {"GET", "/latest/user-data", "", "", "x"},
		{"HEAD", "/latest/meta-data/iam/security-credentials/loadbalancer-vm-1-web", "", "x", ""},
		{"DELETE", "/latest/api/token", "", "", ""}, {"OPTIONS", "*", "1", "1", "1"},
	} {
		f.Add(s[0], s[1], s[2], s[3], s[4])
	}
	f.Fuzz(func(t *testing.T, method, path, ttl, token, forwarded string) {
		bounded.Memory(t, len(method)+len(path)+len(ttl)+len(token)+len(forwarded), func() {
			r := httptest.NewRequestWithContext(context.WithValue(t.Context(), idKey{}, fullID), http.MethodGet, "/", nil)
			r.Method, r.URL.Path = method, path
			for name, value := range map[string]string{ttlHeader: ttl, tokenHeader: token, "X-Forwarded-For": forwarded} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= http.StatusInternalServerError {
				t.Errorf("status %d", w.Code)
			}
			if token != "" && strings.Contains(w.Body.String(), secret) {
				t.Errorf("credentials for the token %q", token)
			}
			if method == http.MethodPut && w.Code == http.StatusOK && forwarded != "" {
				t.Error("a token for a request that was forwarded")
			}
		})
	})
}
