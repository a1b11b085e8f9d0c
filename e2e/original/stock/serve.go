package stock

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// listener is one that serves. Its backends may change.
type listener struct {
	arn      string
	server   *http.Server
	answered atomic.Int64

	mu       sync.Mutex
	backends []string // host:port
	next     int
}

// checkTimeout bounds a health check.
const checkTimeout = 2 * time.Second

// serve opens what is to be served and is not yet, and tells a listener its backends. A listener that names another
// certificate than before is opened anew.
func (g *guest) serve(ctx context.Context, want wanted, of balancer) error {
	l := g.open[want.Port]
	if l != nil && l.arn != want.ARN {
		l.close()
		delete(g.open, want.Port)
		l = nil
	}
	if l == nil {
		var err error
		if l, err = g.openListener(ctx, want); err != nil {
			return err
		}
		g.open[want.Port] = l
	}
	var backends []string
	for _, b := range of.Backends {
		backends = append(backends, net.JoinHostPort(b.IP, strconv.Itoa(want.BackendPort)))
	}
	l.mu.Lock()
	l.backends = backends
	l.mu.Unlock()
	return nil
}

func (g *guest) openListener(ctx context.Context, want wanted) (*listener, error) {
	if want.Protocol != "HTTPS" && want.Protocol != "HTTP" {
		return nil, fmt.Errorf("protocol %s is not served here", want.Protocol)
	}
	l := &listener{arn: want.ARN}
	l.server = &http.Server{Handler: l, ReadHeaderTimeout: timeout}
	address := ":" + strconv.Itoa(want.Port)
	if want.ARN != "" {
		got, err := g.download(ctx, want.ARN)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(got.Certificate, got.Key)
		if err != nil {
			return nil, fmt.Errorf("use the certificate and key that came: %w", err)
		}
		l.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	port, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	g.machine.Log.Info("serving", "port", want.Port, "arn", want.ARN)
	go func() {
		serve := func() error { return l.server.Serve(port) }
		if want.ARN != "" {
			serve = func() error { return l.server.ServeTLS(port, "", "") }
		}
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			g.machine.Log.Warn("listener ended", "port", want.Port, "error", err)
		}
	}()
	return l, nil
}

func (l *listener) close() { _ = l.server.Close() }

// ServeHTTP passes a request to one backend after another.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	if len(l.backends) == 0 {
		l.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	to := l.backends[l.next%len(l.backends)]
	l.next++
	l.mu.Unlock()
	l.answered.Add(1)
	proxy := httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host = "http", to
		p.SetXForwarded()
	}}
	proxy.ServeHTTP(w, r)
}

// answered counts the requests since it was called last.
func (g *guest) answered() int {
	n := 0
	for _, l := range g.open {
		n += int(l.answered.Swap(0))
	}
	return n
}

// check asks each backend for its health.
func (g *guest) check(ctx context.Context, of balancer) map[string]bool {
	kind, rest, _ := strings.Cut(of.Target, ":")
	port, path, _ := strings.Cut(rest, "/")
	healthy := map[string]bool{}
	for _, b := range of.Backends {
		address := net.JoinHostPort(b.IP, port)
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		if kind == "HTTP" {
			_, err := fetch(ctx, http.MethodGet, "http://"+address+"/"+path, "", nil)
			healthy[b.ID] = err == nil
		} else if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address); err == nil {
			healthy[b.ID] = conn.Close() == nil
		} else {
			healthy[b.ID] = false
		}
		cancel()
	}
	return healthy
}
