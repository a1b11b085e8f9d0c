package balancer_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
)

var toHTTP = balancer.Route{Protocol: balancer.HTTP, Port: 80}

// TestForwarded: what the backend sees of a request.
func TestForwarded(t *testing.T) {
	tests := []struct {
		name     string
		protocol balancer.Protocol
		headers  http.Header
		want     http.Header
	}{
		{
			name: "over HTTPS", protocol: balancer.HTTPS,
			want: http.Header{
				"X-Forwarded-For": {clientIP}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"443"},
			},
		},
		{
			name: "over HTTP with lies and earlier hops", protocol: balancer.HTTP,
			headers: http.Header{
				"X-Forwarded-For": {"192.0.2.1", "192.0.2.2"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"1"},
				"X-Forwarded-Host": {"other.test"}, "Connection": {"X-Hop"}, "X-Hop": {"1"}, "X-Kept": {"a", "b"},
			},
			want: http.Header{
				"X-Forwarded-For":   {"192.0.2.1, 192.0.2.2, " + clientIP},
				"X-Forwarded-Proto": {"http"}, "X-Forwarded-Port": {"80"}, "X-Forwarded-Host": {"other.test"},
				"X-Kept": {"a", "b"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, tt.protocol, toHTTP)
				var got *http.Request
				r.backend("10.64.0.11", false, func(_ http.ResponseWriter, r *http.Request) { got = r })
				r.backends("10.64.0.11")
				scheme := strings.ToLower(string(tt.protocol))
				target := scheme + "://www.example.test/a%2Fb//c?x=1;y&z"
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
				if err != nil {
					t.Fatal(err)
				}
				for name, values := range tt.headers {
					request.Header[name] = values
				}
				if status, body := readAnswer(r.client().Do(request)); status != http.StatusOK {
					t.Fatalf("got %d %s", status, body)
				}
				if got.Host != "www.example.test" || got.RequestURI != "/a%2Fb//c?x=1;y&z" {
					t.Errorf("backend saw host %s, target %s", got.Host, got.RequestURI)
				}
				got.Header.Del("Accept-Encoding")
				got.Header.Del("User-Agent")
				if diff := cmp.Diff(tt.want, got.Header); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestOwnAnswers: what the client gets when a backend gives nothing usable.
func TestOwnAnswers(t *testing.T) {
	nothing := func(*rig) {}
	speaks := func(text string) func(*rig) {
		return func(r *rig) {
			r.accept("10.64.0.11", func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, text)
			})
			r.backends("10.64.0.11")
		}
	}
	tests := []struct {
		name   string
		set    func(*rig)
		status int
	}{
		{"no backend", nothing, 503},
		{"backend out of service", func(r *rig) { r.backends("10.64.0.11") }, 503},
		{"no HTTP", speaks("220 mail.example.test\r\n"), 502},
		{"closed without an answer", speaks(""), 502},
		{"headers without end", speaks("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 300<<10)), 502},
		{"silent", func(r *rig) {
			r.accept("10.64.0.11", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
			r.backends("10.64.0.11")
		}, 504},
		{"unreachable", func(r *rig) {
			r.backend("10.64.0.11", false, say("x"))
			r.backends("10.64.0.11")
			r.net.Silence("10.64.0.11", true)
		}, 504},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, balancer.HTTP, toHTTP)
				tt.set(r)
				status, body := r.get(r.client())
				if want := http.StatusText(tt.status); status != tt.status || !strings.Contains(body, want) {
					t.Errorf("got %d %q, want %d %s", status, body, tt.status, want)
				}
				if own := r.lb.Metrics.Take().Own[5]; own != 1 {
					t.Errorf("%d own answers counted", own)
				}
			})
		})
	}
}

// TestRetry: a backend that refuses the connection is passed over once when the request allows it.
func TestRetry(t *testing.T) {
	tests := []struct {
		name, method, body string
		want               int
	}{
		{"GET", http.MethodGet, "", 200},
		{"DELETE", http.MethodDelete, "", 200},
		{"POST", http.MethodPost, "", 502},
		{"PUT with a body", http.MethodPut, "body", 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, balancer.HTTP, toHTTP)
				gone := r.listen("10.64.0.11")
				r.backend("10.64.0.12", false, say("two"))
				go func() {
					for conn, err := gone.Accept(); err == nil; conn, err = gone.Accept() {
						_ = conn.Close()
					}
				}()
				r.backends("10.64.0.11", "10.64.0.12")
				_ = gone.Close()
				body := strings.NewReader(tt.body)
				request, err := http.NewRequestWithContext(t.Context(), tt.method, "http://www.example.test/", body)
				if err != nil {
					t.Fatal(err)
				}
				if status, body := readAnswer(r.client().Do(request)); status != tt.want {
					t.Errorf("got %d %s, want %d", status, body, tt.want)
				}
			})
		})
	}
}

// TestBackendTLS: an instance's certificate is not verified, as classic load balancers have it.
func TestBackendTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, balancer.HTTPS, balancer.Route{Protocol: balancer.HTTPS, Port: 80})
		r.backend("10.64.0.11", true, say("over TLS"))
		r.backends("10.64.0.11")
		answer, err := r.client().Get("https://www.example.test/")
		if status, body := readAnswer(answer, err); status != 200 || body != "over TLS" {
			t.Errorf("got %d %s", status, body)
		}
	})
}

// TestTLSVersions: 1.2 and 1.3 and nothing older.
func TestTLSVersions(t *testing.T) {
	tests := []struct {
		name    string
		version uint16
		ok      bool
	}{
		{"1.1", tls.VersionTLS11, false},
		{"1.2", tls.VersionTLS12, true},
		{"1.3", tls.VersionTLS13, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, balancer.HTTPS, toHTTP)
				client := tls.Client(r.dial(), &tls.Config{
					InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tt.version,
					NextProtos: []string{"h2"},
				})
				if err := client.HandshakeContext(t.Context()); (err == nil) != tt.ok {
					t.Errorf("handshake: %v", err)
				}
			})
		})
	}
}

// TestUpgrade: an upgraded connection carries bytes both ways until it is silent for too long.
func TestUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, balancer.HTTP, balancer.Route{Protocol: balancer.HTTP, Port: 80, Idle: 10 * time.Second})
		r.backend("10.64.0.11", false, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "echo" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			conn, both, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(conn, both)
		})
		r.backends("10.64.0.11")
		answer, reader, conn := r.raw("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		if answer.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("got %d", answer.StatusCode)
		}
		for range 5 {
			sleep(9 * time.Second)
			if _, err := io.WriteString(conn, "ping\n"); err != nil {
				t.Fatal(err)
			}
			if line, err := reader.ReadString('\n'); line != "ping\n" {
				t.Fatalf("got %q, %v", line, err)
			}
		}
		began := time.Now()
		_, err := reader.ReadByte()
		if took := time.Since(began); err == nil || took < 9*time.Second || took > 11*time.Second {
			t.Errorf("silent connection ended after %s with %v", took, err)
		}
	})
}
