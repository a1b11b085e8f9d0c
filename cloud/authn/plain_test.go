package authn

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// plainBase is a request as SDKs send most.
func plainBase() plan {
	p := base()
	p.header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	return p
}

// TestPlain shows which requests are known by less work, and that nothing but the signed request is.
func TestPlain(t *testing.T) {
	tests := []struct {
		name   string
		change func(*plan)
		alter  func(*http.Request)
		want   bool
	}{
		{name: "form", want: true},
		{name: "session", change: func(p *plan) { p.id, p.token = "ASIA", token }, want: true},
		{name: "odd scope", change: func(p *plan) { p.scopeService, p.region = "127", "undefined" }, want: true},
		{name: "no body", change: func(p *plan) { p.body = "" }, want: true},
		{name: "without slash", change: func(p *plan) { p.url = "http://127.0.0.1:4566" }, want: true},
		{name: "a header that is signed after trimming", change: func(p *plan) {
			p.header.Set("X-Amz-Extra", "a  b")
		}},
		{name: "a header of two values", change: func(p *plan) { p.header["X-Amz-Extra"] = []string{"a", "b"} }},
		{name: "default port", change: func(p *plan) { p.url = "http://h:80/" }, want: true},
		{name: "query", change: func(p *plan) { p.url += "?a=1" }},
		{name: "path", change: func(p *plan) { p.url += "services/Euare/" }},
		{name: "presigned", change: func(p *plan) { p.presign = true }},
		{name: "method altered", alter: func(r *http.Request) { r.Method = "PUT" }},
		{name: "host altered", alter: func(r *http.Request) { r.Host = "other" }},
		{name: "length altered", alter: func(r *http.Request) { r.ContentLength++ }},
		{name: "header altered", alter: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }},
		{name: "header gone", alter: func(r *http.Request) { r.Header.Del("Content-Type") }},
		{name: "header twice", alter: func(r *http.Request) { r.Header.Add("Content-Type", "text/plain") }},
		{name: "header empty", alter: func(r *http.Request) { r.Header.Set("Content-Type", "") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := plainBase()
			if tt.change != nil {
				tt.change(&p)
			}
			r, body := received(t, p.sign(t))
			if tt.alter != nil {
				tt.alter(r)
			}
			v := verifier(signingTime)
			for _, turn := range []string{"first", "with a derived key at hand"} {
				if got := knownPlain(t, v, r, body, secret); got != tt.want {
					t.Errorf("%s: known as plain is %t, want %t", turn, got, tt.want)
				}
			}
			if knownPlain(t, v, r, body, secret+"x") {
				t.Error("another secret's signature is good")
			}
			if knownPlain(t, v, r, append(body, 'x'), secret) {
				t.Error("another body's signature is good")
			}
			kept := 0
			if tt.want {
				kept = 1
			}
			if n := v.keys.len(); n != kept {
				t.Errorf("%d derived keys are kept, want %d", n, kept)
			}
		})
	}
}

func knownPlain(t testing.TB, v *Verifier, r *http.Request, body []byte, secret string) bool {
	t.Helper()
	s, err := parse(r, r.URL.Query())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := v.payloadHash(s, r.Header, body)
	if err != nil {
		t.Fatal(err)
	}
	return s.isPlain(r) && v.plainGood(s, r, payload, secret)
}

// TestSigningKeysBounded shows that clients cannot fill the memory with scopes, whatever they sign for.
func TestSigningKeysBounded(t *testing.T) {
	var k signingKeys
	scope := func(i int) scopeKey { return scopeKey{secret, "20150830", strconv.Itoa(i), "iam"} }
	for i := range keptKeys + 10 {
		k.put(scope(i), scope(i).derive())
		if k.get(scope(0)) == nil {
			t.Fatalf("the key that is used most is gone after %d others", i)
		}
	}
	if n := k.len(); n != keptKeys || len(k.byKey) != keptKeys {
		t.Errorf("%d keys and %d names are kept, want %d", n, len(k.byKey), keptKeys)
	}
	if k.get(scope(1)) != nil {
		t.Error("the key that nobody used is still there")
	}
}

// FuzzPlain holds the short way against the SDK's signer: it knows what that signed, and nothing that it did not.
func FuzzPlain(f *testing.F) {
	f.Add("127.0.0.1:4566", "Action=ListUsers", "us-east-1", "iam", "a", "b")
	f.Add("[::1]:4566", "", "", "s", " a", "a  b")
	f.Add("h:80", "\x00", "é", "127", "\t", "")
	f.Fuzz(func(t *testing.T, host, body, region, service, value, other string) {
		if strings.ContainsAny(region+service, "/,\r\n ") || region == "" || service == "" {
			return // it would end the scope early
		}
		p := plainBase()
		p.body, p.region, p.scopeService = body, region, service
		p.header.Set("X-Amz-Extra", value)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+"/", nil)
		if err != nil || r.URL.Host != host || host == "" || r.URL.Path != "/" {
			return
		}
		p.url = r.URL.String()
		got, sent := received(t, p.sign(t))
		v := verifier(signingTime)
		s, err := parse(got, got.URL.Query())
		if err != nil {
			return
		}
		payload, err := v.payloadHash(s, got.Header, sent)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.canonical(nil, got, payload); ok && !v.plainGood(s, got, payload, secret) {
			t.Errorf("what the SDK signed is not known: %+v", s)
		}
		got.Header.Set("X-Amz-Extra", other)
		signed := strings.TrimSpace(strings.Join(strings.FieldsFunc(value, func(c rune) bool { return c == ' ' }), " "))
		if good := v.plainGood(s, got, payload, secret); good && other != signed {
			t.Errorf("the signature of %q is good for %q", value, other)
		}
	})
}
