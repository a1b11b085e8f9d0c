package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRefusedBySignature has an operation told of the requests that its front door refuses, and of no others.
func TestRefusedBySignature(t *testing.T) {
	var told []Refusal
	var fault error
	tw := newTwin(t, func(c *Config) {
		for i := range c.Services {
			if c.Services[i].Service.Name == "iam" {
				c.Services[i].Raw = map[string]RawHandler{"Fetch": func(context.Context, url.Values) (string, []byte, error) {
					return "text/xml", []byte("<ok/>"), nil
				}}
				c.Services[i].Refused = map[string]RefusedFunc{"Fetch": func(_ context.Context, r Refusal) error {
					told = append(told, r)
					return fault
				}}
			}
		}
	})
	ask := func(action string, change func(*http.Request)) int {
		r := signed(t, tw.url+"/", form("Action", action, "CertificateArn", "arn:of:it"), "iam", nil)
		r.RemoteAddr = "127.0.0.1:1"
		if change != nil {
			change(r)
		}
		answer := httptest.NewRecorder()
		tw.handler.ServeHTTP(answer, r)
		return answer.Code
	}
	unsign := func(r *http.Request) { r.Header.Del("Authorization") }
	forge := func(r *http.Request) {
		signed, _, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
		r.Header.Set("Authorization", signed+"Signature="+strings.Repeat("0", 64))
	}
	if status := ask("Fetch", nil); status != http.StatusOK || len(told) != 0 {
		t.Fatalf("a request that is signed: %d, told %v", status, told)
	}
	if status := ask("ListUsers", unsign); status != http.StatusForbidden || len(told) != 0 {
		t.Fatalf("an operation that is not audited: %d, told %v", status, told)
	}
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		want   Refusal
	}{
		{"unsigned", unsign, Refusal{Code: "MissingAuthenticationToken"}},
		{"forged", forge, Refusal{Code: "SignatureDoesNotMatch", AccessKeyID: testKey}},
	} {
		told = nil
		if status := ask("Fetch", tt.change); status != http.StatusForbidden || len(told) != 1 {
			t.Errorf("%s: %d, told %v", tt.name, status, told)
			continue
		}
		tt.want.SourceIP, tt.want.CertificateARN = "127.0.0.1", "arn:of:it"
		got := told[0]
		if got.RequestID == "" || got.Message == "" {
			t.Errorf("%s: told without its id or what was wrong: %+v", tt.name, got)
		}
		got.RequestID, got.Message = "", ""
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	// Without its record no refusal is answered as one.
	fault = errors.New("the disk is gone")
	if status := ask("Fetch", unsign); status != http.StatusInternalServerError {
		t.Errorf("without an audit: %d", status)
	}
}
