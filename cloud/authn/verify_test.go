package authn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	keyID  = "AKIDEXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	token  = "session-token+/="
)

// signingTime is that of AWS's published examples.
var signingTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

func lookup(_ context.Context, id, given string) (string, Caller, error) {
	switch {
	case id == keyID && given == "":
		return secret, Caller{Kind: KindUser, ARN: "arn:aws:iam::123456789012:user/u"}, nil
	case id == "ASIA" && given == token:
		return secret, Caller{Kind: KindRole}, nil
	case given == "old":
		return "", Caller{}, Errorf(CodeExpiredToken, "The security token included in the request is expired")
	case id == "EMPTY":
		return "", Caller{}, nil
	case id == "FAULT":
		return "", Caller{}, errors.New("store is closed")
	}
	return "", Caller{}, Errorf(CodeUnknownKey, "The security token included in the request is invalid.")
}

func verifier(now time.Time) *Verifier {
	return &Verifier{Clock: func() time.Time { return now }}
}

// received turns a client's request into what a server gets of it.
func received(t testing.TB, r *http.Request) (*http.Request, []byte) {
	t.Helper()
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewRequestWithContext(t.Context(), r.Method, r.URL.RequestURI(), bytes.NewReader(body))
	s.Host, s.Header = r.Host, r.Header.Clone()
	return s, body
}

// TestVectors are examples that AWS has published: of the user guide and of the signature test suite.
func TestVectors(t *testing.T) {
	const scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/"
	tests := []struct {
		name   string
		method string
		host   string
		target string
		header map[string]string
		body   string
		auth   string
	}{
		{
			name: "user guide", method: "GET", host: "iam.amazonaws.com",
			target: "/?Action=ListUsers&Version=2010-05-08",
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
			auth: scope + "iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, " +
				"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
		},
		{
			name: "get-vanilla", method: "GET", host: "example.amazonaws.com", target: "/",
			auth: scope + "service/aws4_request, SignedHeaders=host;x-amz-date, " +
				"Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		},
		{
			name: "get-vanilla-query-order-key-case", method: "GET", host: "example.amazonaws.com",
			target: "/?Param2=value2&Param1=value1",
			auth: scope + "service/aws4_request,SignedHeaders=host;x-amz-date," +
				"Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
		},
		{
			name: "post-x-www-form-urlencoded", method: "POST", host: "example.amazonaws.com", target: "/",
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, body: "Param1=value1",
			auth: scope + "service/aws4_request, SignedHeaders=content-type;host;x-amz-date, " +
				"Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
		},
		{
			name: "get-header-value-trim", method: "GET", host: "example.amazonaws.com", target: "/",
			header: map[string]string{"My-Header1": " value1", "My-Header2": ` "a   b   c"`},
			auth: scope + "service/aws4_request, SignedHeaders=host;my-header1;my-header2;x-amz-date, " +
				"Signature=acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
		},
		{
			name: "get-slash, normalised", method: "GET", host: "example.amazonaws.com", target: "//",
			auth: scope + "service/aws4_request, SignedHeaders=host;x-amz-date, " +
				"Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.ParseRequestURI(tt.target)
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{Method: tt.method, URL: u, Host: tt.host, Header: http.Header{}}
			for name, value := range tt.header {
				r.Header.Set(name, value)
			}
			r.Header.Set("X-Amz-Date", signingTime.Format(timeFormat))
			r.Header.Set("Authorization", tt.auth)
			c, err := verifier(signingTime).Verify(t.Context(), r, []byte(tt.body), lookup)
			if err != nil || c.AccessKeyID != keyID || c.ARN != "arn:aws:iam::123456789012:user/u" {
				t.Errorf("caller is %+v, error %v", c, err)
			}
		})
	}
}

// plan is a request before it is signed.
type plan struct {
	method, url, body string
	header            http.Header
	id, token         string
	scopeService      string
	region            string
	presign           bool
}

func (p plan) sign(t testing.TB) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), p.method, p.url, strings.NewReader(p.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range p.header {
		r.Header[name] = values
	}
	sum := sha256.Sum256([]byte(p.body))
	hash := hex.EncodeToString(sum[:])
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" {
		hash = h
	}
	credentials := aws.Credentials{AccessKeyID: p.id, SecretAccessKey: secret, SessionToken: p.token}
	signer := v4.NewSigner()
	if p.presign {
		uri, header, err := signer.PresignHTTP(t.Context(), credentials, r, hash, p.scopeService, p.region, signingTime)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = url.Parse(uri); err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{} // the others were hoisted into the query
		for name, values := range header {
			if name != "Host" {
				r.Header[http.CanonicalHeaderKey(name)] = values
			}
		}
		return r
	}
	if err := signer.SignHTTP(t.Context(), credentials, r, hash, p.scopeService, p.region, signingTime); err != nil {
		t.Fatal(err)
	}
	return r
}

func base() plan {
	return plan{
		method: "POST", url: "http://127.0.0.1:4566/", body: "Action=ListUsers&Version=2010-05-08", id: keyID,
		header:       http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "X-Amz-Extra": {"a  b", "c"}},
		scopeService: "iam", region: "us-east-1",
	}
}

func TestSignedByTheSDK(t *testing.T) {
	tests := []struct {
		name   string
		change func(*plan)
	}{
		{"form", func(*plan) {}},
		{"session", func(p *plan) { p.id, p.token = "ASIA", token }},
		{"odd scope", func(p *plan) { p.scopeService, p.region = "127", "undefined-us-east-1" }},
		{"service path", func(p *plan) { p.url = "http://127.0.0.1:4566/services/Euare/" }},
		{"escaped path", func(p *plan) { p.url = "http://h/a%20b/%2F/c~d" }},
		{"query", func(p *plan) { p.url += "?b=2&a=1&a=0&c=x%2By+z%20%C3%A9&d" }},
		{"default port", func(p *plan) { p.url = "http://h:80/" }},
		{"stated body hash", func(p *plan) {
			sum := sha256.Sum256([]byte(p.body))
			p.header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
		}},
		{"presigned", func(p *plan) { p.presign, p.method, p.body, p.header = true, "GET", "", nil }},
		{"presigned with body", func(p *plan) { p.presign = true }},
		{"presigned session", func(p *plan) {
			p.presign, p.method, p.body, p.id, p.token = true, "GET", "", "ASIA", token
			p.url += "?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Expires=60"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := base()
			tt.change(&p)
			r, body := received(t, p.sign(t))
			c, err := verifier(signingTime).Verify(t.Context(), r, body, lookup)
			if err != nil || c.AccessKeyID != p.id {
				t.Errorf("caller is %+v, error %v", c, err)
			}
		})
	}
}

// TestSignedUserAgent shows that a header which the signer itself never signs may be signed by others, as the SDK for
// Java 1 does. The signature was made by hand: there is no signer here that would.
func TestSignedUserAgent(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	r.Host = "h"
	r.Header.Set("User-Agent", "aws-sdk-java/1.9")
	s := &signature{
		accessKeyID: keyID, day: "20150830", region: "r", service: "s", date: signingTime,
		signedHeaders: []string{"host", "user-agent", "x-amz-date"},
	}
	replica := s.replica(r, nil, "/")
	if _, err := s.resign(t.Context(), replica, "hash", secret); err != nil {
		t.Fatal(err)
	}
	if a := replica.Header.Get("Authorization"); !strings.Contains(a, "SignedHeaders=host;user-agent;x-amz-date,") {
		t.Errorf("authorization is %s", a)
	}
}

func TestAltered(t *testing.T) {
	header := func(name, value string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) { r.Header.Set(name, value) }
	}
	auth := func(old, new string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	tests := []struct {
		name  string
		plan  func(*plan)
		alter func(*http.Request, *[]byte)
		want  Code
	}{
		{name: "method", alter: func(r *http.Request, _ *[]byte) { r.Method = "GET" }, want: CodeSignatureMismatch},
		{name: "host", alter: func(r *http.Request, _ *[]byte) { r.Host = "other" }, want: CodeSignatureMismatch},
		{name: "path", alter: func(r *http.Request, _ *[]byte) { r.URL.Path = "/x" }, want: CodeSignatureMismatch},
		{
			name: "query", alter: func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "a=1" },
			want: CodeSignatureMismatch,
		},
		{
			name: "query that no parser keeps", alter: func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "a=1;b" },
			want: CodeMalformedQuery,
		},
		{name: "body", alter: func(_ *http.Request, b *[]byte) { *b = append(*b, 'x') }, want: CodeSignatureMismatch},
		{name: "header value", alter: header("Content-Type", "text/plain"), want: CodeSignatureMismatch},
		{
			name: "header gone", alter: func(r *http.Request, _ *[]byte) { r.Header.Del("Content-Type") },
			want: CodeSignatureMismatch,
		},
		{
			name:  "header value added",
			alter: func(r *http.Request, _ *[]byte) { r.Header.Add("X-Amz-Extra", "d") }, want: CodeSignatureMismatch,
		},
		{name: "unsigned header added", alter: header("X-Amz-Other", "x"), want: CodeSignatureMismatch},
		{name: "token added", alter: header("X-Amz-Security-Token", token), want: CodeSignatureMismatch},
		{name: "body hash of another body", plan: func(p *plan) {
			p.header.Set("X-Amz-Content-Sha256", strings.Repeat("0", 64))
		}, want: CodeSignatureMismatch},
		{name: "unsigned body", plan: func(p *plan) {
			p.header.Set("X-Amz-Content-Sha256", unsignedPayload)
		}, want: CodeIncomplete},
		{name: "region", alter: auth("us-east-1", "eu-west-1"), want: CodeSignatureMismatch},
		{name: "service", alter: auth("/iam/", "/sts/"), want: CodeSignatureMismatch},
		{name: "day", alter: auth("20150830", "20150829"), want: CodeSignatureMismatch},
		{name: "terminator", alter: auth("aws4_request", "aws5_request"), want: CodeSignatureMismatch},
		{name: "key", alter: auth(keyID, "AKIDOTHER"), want: CodeUnknownKey},
		{name: "no key", alter: auth("Credential="+keyID, "Credential="), want: CodeIncomplete},
		{name: "key without secret", alter: auth(keyID, "EMPTY"), want: ""},
		{name: "lookup's own fault", alter: auth(keyID, "FAULT"), want: ""},
		{name: "signature", alter: auth("Signature=", "Signature=0"), want: CodeIncomplete},
		{name: "signature in upper case", alter: func(r *http.Request, _ *[]byte) {
			a, s, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", a+"Signature="+strings.ToUpper(s))
		}, want: CodeIncomplete},
		{name: "another signature", alter: func(r *http.Request, _ *[]byte) {
			a, _, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", a+"Signature="+strings.Repeat("0", 64))
		}, want: CodeSignatureMismatch},
		{name: "host not signed", alter: auth("host;", ""), want: CodeSignatureMismatch},
		{name: "header not named", alter: auth("content-type;", ""), want: CodeSignatureMismatch},
		{name: "header named twice", alter: auth("host;", "host;host;"), want: CodeIncomplete},
		{name: "headers out of order", alter: auth("content-type;host", "host;content-type"), want: CodeIncomplete},
		{name: "no date", alter: func(r *http.Request, _ *[]byte) {
			r.Header.Set("Date", r.Header.Get("X-Amz-Date"))
			r.Header.Del("X-Amz-Date")
		}, want: CodeIncomplete},
		{name: "date", alter: header("X-Amz-Date", "20150830T123601Z"), want: CodeSignatureMismatch},
		{name: "date that is none", alter: header("X-Amz-Date", "yesterday"), want: CodeIncomplete},
		{
			name:  "two dates",
			alter: func(r *http.Request, _ *[]byte) { r.Header.Add("X-Amz-Date", "20150830T123601Z") },
			want:  CodeIncomplete,
		},
		{
			name:  "two signatures",
			alter: func(r *http.Request, _ *[]byte) { r.Header.Add("Authorization", "x") }, want: CodeIncomplete,
		},
		{
			name:  "no signature",
			alter: func(r *http.Request, _ *[]byte) { r.Header.Del("Authorization") }, want: CodeMissingToken,
		},
		{name: "other scheme", alter: header("Authorization", "Basic dTpw"), want: CodeIncomplete},
		{name: "no parts", alter: header("Authorization", "AWS4-HMAC-SHA256"), want: CodeIncomplete},
		{
			name: "too long", alter: header("Authorization", algorithm+strings.Repeat(" ", maxAuthorization)),
			want: CodeIncomplete,
		},
		{
			name: "session token of another session", plan: func(p *plan) { p.id, p.token = "ASIA", token },
			alter: header("X-Amz-Security-Token", "other"), want: CodeUnknownKey,
		},
		{
			name: "session token gone", plan: func(p *plan) { p.id, p.token = "ASIA", token },
			alter: func(r *http.Request, _ *[]byte) { r.Header.Del("X-Amz-Security-Token") }, want: CodeUnknownKey,
		},
		{name: "session over", plan: func(p *plan) { p.id, p.token = "ASIA", "old" }, want: CodeExpiredToken},
		{name: "presigned: query", plan: func(p *plan) { p.presign = true }, alter: func(r *http.Request, _ *[]byte) {
			r.URL.RawQuery += "&Action=DeleteUser"
		}, want: CodeSignatureMismatch},
		{name: "presigned: twice", plan: func(p *plan) { p.presign = true }, alter: func(r *http.Request, _ *[]byte) {
			r.URL.RawQuery += "&X-Amz-Date=20150830T123600Z"
		}, want: CodeIncomplete},
		{
			name: "presigned: expiry", plan: func(p *plan) { p.presign = true; p.url += "?X-Amz-Expires=0" },
			want: CodeIncomplete,
		},
		{
			name: "presigned: expiry altered", plan: func(p *plan) { p.presign = true; p.url += "?X-Amz-Expires=10" },
			alter: func(r *http.Request, _ *[]byte) {
				r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "Expires=10", "Expires=99", 1)
			}, want: CodeSignatureMismatch,
		},
		{
			name: "presigned and signed", plan: func(p *plan) { p.presign = true }, alter: header("Authorization",
				"x"), want: CodeIncomplete,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := base()
			if tt.plan != nil {
				tt.plan(&p)
			}
			r, body := received(t, p.sign(t))
			if tt.alter != nil {
				tt.alter(r, &body)
			}
			c, err := verifier(signingTime).Verify(t.Context(), r, body, lookup)
			var known *Error
			switch {
			case err == nil:
				t.Fatalf("accepted as %+v", c)
			case tt.want == "" && errors.As(err, &known), tt.want != "" && (!errors.As(err, &known) ||
				known.Code != tt.want):
				t.Errorf("error is %v, want code %q", err, tt.want)
			case c != Caller{}:
				t.Errorf("caller is %+v beside an error", c)
			case strings.Contains(err.Error(), secret):
				t.Errorf("error %v holds the secret", err)
			}
		})
	}
}

func TestClockSkew(t *testing.T) {
	tests := []struct {
		name    string
		now     time.Duration // after signing
		expires string
		wantErr bool
	}{
		{"just in time", 15 * time.Minute, "", false},
		{"too late", 15*time.Minute + time.Second, "", true},
		{"client's clock is ahead", -15 * time.Minute, "", false},
		{"client's clock is too far ahead", -15*time.Minute - time.Second, "", true},
		{"presigned, lives longer", time.Hour, "3600", false},
		{"presigned, ended", time.Minute + time.Second, "60", true},
		{"presigned, of the future", -16 * time.Minute, "3600", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := base()
			if tt.expires != "" {
				p.presign = true
				p.url += "?X-Amz-Expires=" + tt.expires
			}
			r, body := received(t, p.sign(t))
			_, err := verifier(signingTime.Add(tt.now)).Verify(t.Context(), r, body, lookup)
			var known *Error
			if tt.wantErr && (!errors.As(err, &known) || known.Code != CodeRequestExpired) || !tt.wantErr &&
				err != nil {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestUnsignedPayloadWhereAllowed(t *testing.T) {
	p := base()
	p.header.Set("X-Amz-Content-Sha256", unsignedPayload)
	r, body := received(t, p.sign(t))
	v := verifier(signingTime)
	v.AllowUnsignedPayload = true
	if _, err := v.Verify(t.Context(), r, append(body, 'x'), lookup); err != nil {
		t.Error(err)
	}
}

func TestScopeService(t *testing.T) {
	p := base()
	if s := ScopeService(p.sign(t)); s != "iam" {
		t.Errorf("signed: %q", s)
	}
	p.presign = true
	if s := ScopeService(p.sign(t)); s != "iam" {
		t.Errorf("presigned: %q", s)
	}
	if s := ScopeService(httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)); s != "" {
		t.Errorf("unsigned: %q", s)
	}
}
