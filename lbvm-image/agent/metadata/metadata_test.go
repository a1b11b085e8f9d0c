package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const serviceIP = "169.254.169.254"

// ask runs a client against a handler inside a bubble.
func ask(t *testing.T, handler http.HandlerFunc, questions func(t *testing.T, c *Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := &memnet.Network{}
		listener, err := network.Host(serviceIP).Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(listener)
		}()
		c := New(Config{BaseURL: "http://" + serviceIP, Dial: network.Host("10.64.0.5").Dial})
		questions(t, c)
		c.Close()
		_ = server.Close()
		<-done
	})
}

// TestSession: a token that the service has forgotten is replaced, once.
func TestSession(t *testing.T) {
	issued, valid := 0, ""
	ask(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.Header.Get(tokenTTLHeader) != "":
			issued++
			valid = fmt.Sprint("token", issued)
			_, _ = io.WriteString(w, valid)
		case valid == "" || r.Header.Get(tokenHeader) != valid:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = io.WriteString(w, "i-1\n")
		}
	}, func(t *testing.T, c *Client) {
		for _, step := range []string{"first", "same session", "after a restart of the service"} {
			if got, err := c.InstanceID(t.Context()); got != "i-1" || err != nil {
				t.Errorf("%s: got %q, %v", step, got, err)
			}
			if step == "same session" {
				valid = "forgotten"
			}
		}
		if issued != 2 {
			t.Errorf("%d tokens were asked for", issued)
		}
	})
}

// TestTrace: a client that was told no step of a trace takes the one that the service names with its session.
func TestTrace(t *testing.T) {
	const step = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var told []string
	ask(t, func(w http.ResponseWriter, r *http.Request) {
		told = append(told, r.Method+" "+r.Header.Get("traceparent"))
		if r.Method == http.MethodPut {
			w.Header().Set("Traceparent", step)
		}
		_, _ = io.WriteString(w, "i-1")
	}, func(t *testing.T, c *Client) {
		if _, err := c.InstanceID(t.Context()); err != nil {
			t.Error(err)
		}
		c.given, c.trace, c.token = true, nil, "" // as of a client that was told one
		if _, err := c.InstanceID(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if diff := cmp.Diff([]string{"PUT ", "GET " + step, "PUT ", "GET "}, told); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestBadService(t *testing.T) {
	withToken := func(answer http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				_, _ = io.WriteString(w, "token")
				return
			}
			answer(w, r)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"refuses sessions", status(403), "answered 403 for /latest/api/token"},
		{"empty token", text(""), "malformed session token"},
		{"token that would split headers", text("a\r\nb"), "malformed session token"},
		{"refuses every token", withToken(status(401)), "answered 401"},
		{"nothing there", withToken(status(404)), "instance has none"},
		{"sends elsewhere", withToken(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://10.64.0.9/", http.StatusFound)
		}), "answered 302"},
		{"hangs", withToken(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "exceeded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ask(t, tt.handler, func(t *testing.T, c *Client) {
				if got, err := c.InstanceID(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %q, %v; want an error with %q", got, err, tt.want)
				}
			})
		})
	}
}

func TestUserDataBound(t *testing.T) {
	for name, size := range map[string]int{"16 KB": 16 << 10, "more": 16<<10 + 1} {
		t.Run(name, func(t *testing.T) {
			ask(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut {
					_, _ = io.WriteString(w, "token")
					return
				}
				_, _ = io.WriteString(w, strings.Repeat("x", size))
			}, func(t *testing.T, c *Client) {
				got, err := c.UserData(t.Context())
				if tooLong := size > 16<<10; (err != nil) != tooLong || (!tooLong && len(got) != size) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

const document = `{"Code":"Success","LastUpdated":"2024-01-01T00:00:00Z","Type":"AWS-HMAC","AccessKeyId":"ASIA",` +
	`"SecretAccessKey":"hush","Token":"quiet","Expiration":"2024-01-01T06:00:00Z"}`

func TestParseCredentials(t *testing.T) {
	tests := []struct{ name, document, bad string }{
		{"good", document, ""},
		{"failed", `{"Code":"Failed"}`, "not to be had"},
		{"no JSON", "hush", "malformed"},
		{"no secret", strings.ReplaceAll(document, "hush", ""), "incomplete"},
		{"no end", strings.ReplaceAll(document, `"2024-01-01T06:00:00Z"`, "null"), "incomplete"},
		{"time that is none", strings.ReplaceAll(document, "2024-01-01T06", "hush"), "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseCredentials("role", []byte(tt.document))
			switch {
			case tt.bad == "" && err != nil, tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)):
				t.Errorf("error %v, want %q", err, tt.bad)
			case err != nil && strings.Contains(err.Error(), "hush"):
				t.Errorf("error %v tells the secret", err)
			case err == nil && got.SecretAccessKey != "hush":
				t.Errorf("secret is not what it was")
			}
		})
	}
}

// FuzzParseCredentials: no document makes credentials without their parts, and no error quotes one.
func FuzzParseCredentials(f *testing.F) {
	f.Add([]byte(document))
	f.Add([]byte(`{"Expiration":5}`))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, document []byte) {
		bounded.Memory(t, len(document), func() {
			c, err := parseCredentials("role", document)
			if err == nil && (c.AccessKeyID == "" || c.SecretAccessKey == "" || c.Expiration.IsZero()) {
				t.Error("incomplete credentials")
			}
		})
	})
}

func TestCredentialsRedacted(t *testing.T) {
	c := Credentials{AccessKeyID: "hush", SecretAccessKey: "hush", Token: "hush"}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", c, c, c, c), string(encoded), c.LogValue().String()} {
		if strings.Contains(text, "hush") {
			t.Errorf("%q tells the secret", text)
		}
	}
}

// TestSource: which credentials are given as time passes and the service fails.
func TestSource(t *testing.T) {
	var issued int
	var broken bool
	ask(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			_, _ = io.WriteString(w, "token")
		case broken:
			w.WriteHeader(http.StatusInternalServerError)
		case strings.HasSuffix(r.URL.Path, "/"):
			_, _ = io.WriteString(w, "role")
		default:
			issued++
			_, _ = fmt.Fprintf(w, `{"AccessKeyId":"key%d","SecretAccessKey":"hush","Expiration":%q}`,
				issued, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		}
	}, func(t *testing.T, c *Client) {
		source := NewSource(c, time.Now)
		give := func() string {
			got, err := source.Credentials(t.Context())
			if err != nil {
				return "error"
			}
			return got.AccessKeyID
		}
		var got []string
		got = append(got, give(), give())
		<-time.After(56 * time.Minute)
		got = append(got, give())
		<-time.After(time.Minute)
		source.Invalidate()
		got = append(got, give(), give())
		broken = true
		<-time.After(58 * time.Minute)
		got = append(got, give())
		<-time.After(3 * time.Minute)
		got = append(got, give())
		want := []string{"key1", "key1", "key2", "key3", "key3", "key3", "error"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := source.Credentials(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
