// Package storetest has an etcd for tests of a store's external cluster, which can be taken away and comes back.
package storetest

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Start starts an etcd with no records, which ends with the test, and returns the wire to it.
func Start(t *testing.T) *Wire {
	t.Helper()
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg := embed.NewConfig()
	cfg.Dir, cfg.UnsafeNoFsync = t.TempDir(), true
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = anyPort, anyPort
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = nil, anyPort
	cfg.InitialCluster = "default=http://127.0.0.1:0"
	cfg.TickMs, cfg.ElectionMs = 10, 50
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	<-server.Server.ReadyNotify()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{listener: listener, to: server.Clients[0].Addr().String(), conns: map[net.Conn]bool{}}
	w.let = sync.NewCond(&w.mu)
	w.done.Go(func() { w.accept(t.Context()) })
	t.Cleanup(func() {
		_ = listener.Close()
		w.Cut()
		w.done.Wait()
	})
	return w
}

// Wire is what connections to an etcd go through. Its methods may be called from any goroutine.
type Wire struct {
	listener net.Listener
	to       string
	done     sync.WaitGroup

	mu    sync.Mutex
	let   *sync.Cond // gone or held has changed
	gone  bool       // connections are closed, new ones at once
	held  bool       // nothing passes
	conns map[net.Conn]bool
}

// URL is where clients reach the etcd.
func (w *Wire) URL() string { return "http://" + w.listener.Addr().String() }

// Cut closes all connections, and new ones at once.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone, w.held = true, false
	for c := range w.conns {
		_ = c.Close()
	}
	w.let.Broadcast()
}

// Hold lets nothing pass, and closes nothing.
func (w *Wire) Hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = true
}

// Open lets pass again, after Cut or Hold.
func (w *Wire) Open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone, w.held = false, false
	w.let.Broadcast()
}

func (w *Wire) accept(ctx context.Context) {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		out, err := new(net.Dialer).DialContext(ctx, "tcp", w.to)
		if err != nil || !w.keep(in, out) {
			_ = in.Close()
			continue
		}
		w.done.Go(func() { w.pass(in, out) })
		w.done.Go(func() { w.pass(out, in) })
	}
}

// keep notes a connection's two ends, unless there are to be none.
func (w *Wire) keep(ends ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range ends {
		if w.gone {
			_ = c.Close()
			continue
		}
		w.conns[c] = true
	}
	return !w.gone
}

// pass copies from one end to the other while it may.
func (w *Wire) pass(from, to net.Conn) {
	_, _ = io.Copy(letter{w, to}, from)
	_, _ = from.Close(), to.Close()
}

type letter struct {
	*Wire
	to net.Conn
}

func (l letter) Write(b []byte) (int, error) {
	l.mu.Lock()
	for l.held {
		l.let.Wait()
	}
	l.mu.Unlock()
	return l.to.Write(b)
}
