package scale

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// loopback stands for the host's 127.0.0.0/8 in this process: a load balancer's address costs no socket.
type loopback struct {
	mu        sync.Mutex
	listeners map[string]*listener
}

func newLoopback() *loopback { return &loopback{listeners: map[string]*listener{}} }

// listen opens an address, as net.ListenConfig.Listen.
func (l *loopback) listen(_ context.Context, network, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listeners[address] != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: net.TCPAddrFromAddrPort(at), Err: syscall.EADDRINUSE}
	}
	opened := &listener{on: l, address: address, at: at, conns: make(chan net.Conn), done: make(chan struct{})}
	l.listeners[address] = opened
	return opened, nil
}

// dial connects to an address that is open.
func (l *loopback) dial(ctx context.Context, address string) (net.Conn, error) {
	l.mu.Lock()
	to := l.listeners[address]
	l.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	if to == nil {
		return nil, refused
	}
	near, far := net.Pipe()
	select {
	case to.conns <- far:
		return near, nil
	case <-to.done:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type listener struct {
	on      *loopback
	address string
	at      netip.AddrPort
	conns   chan net.Conn
	once    sync.Once
	done    chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.on.mu.Lock()
		defer l.on.mu.Unlock()
		delete(l.on.listeners, l.address)
		close(l.done)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
