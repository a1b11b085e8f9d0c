package exchange_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/exchange"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs net/http's server and returns a client of it and the number of connections made.
func serve(t *testing.T, handler http.HandlerFunc, edit func(*exchange.Config)) (*exchange.Client, *atomic.Int64) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	dials := &atomic.Int64{}
	cfg := exchange.Config{
		Host: "cloud.example",
		Dial: func(ctx context.Context) (net.Conn, error) {
			dials.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	client := exchange.New(cfg)
	t.Cleanup(client.Close)
	return client, dials
}

func TestRequestsOverOneConnection(t *testing.T) {
	client, dials := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Date", "Sun, 22 Nov 2026 10:00:00 GMT")
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-Token"), body)
		if r.URL.Path == "/chunked" {
			for range 100 {
				_, _ = io.WriteString(w, strings.Repeat("x", 1000))
				http.NewResponseController(w).Flush()
			}
		}
	}, nil)
	tests := []struct {
		name    string
		request exchange.Request
		status  int
		body    string
	}{
		{
			name:    "post",
			request: exchange.Request{Method: "POST", Path: "/a?b=c", Body: []byte("text")},
			status:  200, body: "POST cloud.example /a?b=c  text",
		},
		{
			name:    "header",
			request: exchange.Request{Method: "GET", Path: "/", Fields: []exchange.Field{{Name: "X-Token", Value: "t"}}},
			status:  200, body: "GET cloud.example / t ",
		},
		{name: "empty put", request: exchange.Request{Method: "PUT", Path: "/"}, status: 200, body: "PUT cloud.example /  "},
		{name: "no content", request: exchange.Request{Method: "GET", Path: "/none"}, status: 204},
		{
			name: "chunked", request: exchange.Request{Method: "GET", Path: "/chunked"}, status: 200,
			body: "GET cloud.example /chunked  " + strings.Repeat("x", 100_000),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.request.Limit = 1 << 20
			got, err := client.Do(t.Context(), tt.request)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != tt.status || string(got.Body) != tt.body || got.Date != "Sun, 22 Nov 2026 10:00:00 GMT" {
				t.Errorf("got %d, %.200q, %q", got.Status, got.Body, got.Date)
			}
		})
	}
	if dials.Load() != 1 {
		t.Errorf("%d connections, want 1", dials.Load())
	}
}

func TestLimit(t *testing.T) {
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, "0123456789")
	}, nil)
	for _, path := range []string{"/", "/chunked"} {
		if _, err := client.Do(t.Context(), exchange.Request{Method: "GET", Path: path, Limit: 9}); !errors.Is(err,
			exchange.ErrTooLong) {
			t.Errorf("%s: %v", path, err)
		}
		got, err := client.Do(t.Context(), exchange.Request{Method: "GET", Path: path, Limit: 10})
		if err != nil || len(got.Body) != 10 {
			t.Errorf("%s at the limit: %v", path, err)
		}
	}
}

func TestRefusesWhatWouldBreakALine(t *testing.T) {
	client, dials := serve(t, func(http.ResponseWriter, *http.Request) {}, nil)
	for _, r := range []exchange.Request{
		{Method: "GET", Path: "/a b"}, {Method: "GET", Path: "/a\r\nX: y"},
		{Method: "GET", Path: "/", Fields: []exchange.Field{{Name: "X", Value: "a\r\nY: b"}}},
	} {
		if _, err := client.Do(t.Context(), r); !errors.Is(err, exchange.ErrRequest) {
			t.Errorf("%q: %v", r.Path, err)
		}
	}
	if dials.Load() != 0 {
		t.Error("something was sent")
	}
}

func TestContextEndsTheWait(t *testing.T) {
	release := make(chan struct{})
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "late")
	}, func(c *exchange.Config) { c.Connections = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		_, err := client.Do(ctx, exchange.Request{Method: "GET", Path: "/", Limit: 10})
		asked <- err
	}()
	// The only connection is taken, so another request waits for it until its own end.
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	waits := exchange.Request{Method: "GET", Path: "/", Limit: 10}
	if _, err := client.Do(short, waits); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a connection: %v", err)
	}
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	close(release)
	if got, err := client.Do(t.Context(), waits); err != nil || string(got.Body) != "late" {
		t.Errorf("afterwards: %v", err)
	}
}

// peer is a server that closes a connection after a number of answers.
func peer(t *testing.T, answers int) (dial func(context.Context) (net.Conn, error), dials *atomic.Int64) {
	t.Helper()
	dials = &atomic.Int64{}
	return func(context.Context) (net.Conn, error) {
		dials.Add(1)
		near, far := net.Pipe()
		go func() {
			defer func() { _ = far.Close() }()
			in := bufio.NewReader(far)
			for range answers {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				_, _ = io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}()
		return near, nil
	}, dials
}

func TestConnectionThatTheServerClosed(t *testing.T) {
	dial, dials := peer(t, 1)
	client := exchange.New(exchange.Config{Dial: dial, Host: "h"})
	defer client.Close()
	request := exchange.Request{Method: "POST", Path: "/", Limit: 10}
	for i := range 3 {
		if _, err := client.Do(t.Context(), request); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if dials.Load() != 3 {
		t.Errorf("%d connections, want one for each request", dials.Load())
	}
	request.Once = true
	if _, err := client.Do(t.Context(), request); !errors.Is(err, exchange.ErrStale) {
		t.Errorf("a request that must not be repeated: %v", err)
	}
	if _, err := client.Do(t.Context(), request); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

func TestNewConnectionThatEndsIsNotTriedAgain(t *testing.T) {
	dial, dials := peer(t, 0)
	client := exchange.New(exchange.Config{Dial: dial, Host: "h"})
	defer client.Close()
	if _, err := client.Do(t.Context(), exchange.Request{Method: "GET", Path: "/", Limit: 10}); err == nil ||
		errors.Is(err, exchange.ErrStale) {
		t.Errorf("got %v", err)
	}
	if dials.Load() != 1 {
		t.Errorf("%d connections", dials.Load())
	}
}

func TestConnectAheadAndRest(t *testing.T) {
	client, dials := serve(t, func(http.ResponseWriter, *http.Request) {}, func(c *exchange.Config) {
		c.Idle = time.Hour
	})
	request := exchange.Request{Method: "GET", Path: "/", Limit: 10}
	for _, step := range []struct {
		name string
		do   func() error
		want int64
	}{
		{"connect", func() error { return client.Connect(t.Context()) }, 1},
		{"connect again", func() error { return client.Connect(t.Context()) }, 1},
		{"ask", func() error { _, err := client.Do(t.Context(), request); return err }, 1},
		{"rest", func() error { client.Rest(); return nil }, 1},
		{"ask after a rest", func() error { _, err := client.Do(t.Context(), request); return err }, 2},
	} {
		if err := step.do(); err != nil || dials.Load() != step.want {
			t.Errorf("%s: %v, %d connections, want %d", step.name, err, dials.Load(), step.want)
		}
	}
	client.Close()
	if _, err := client.Do(t.Context(), request); !errors.Is(err, exchange.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
