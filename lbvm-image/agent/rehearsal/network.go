package rehearsal

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/memnet"
)

// Network carries a rehearsal's connections between hosts that are made up.
type Network interface {
	// Listen opens a port, ":PORT", of a host.
	Listen(host, address string) (net.Listener, error)
	// Dial connects a host to a port of another, "IP:PORT".
	Dial(ctx context.Context, host, address string) (net.Conn, error)
}

// InMemory is a network that leaves no trace in the kernel.
func InMemory() Network { return &inMemory{} }

type inMemory struct{ net memnet.Network }

func (m *inMemory) Listen(host, address string) (net.Listener, error) {
	return m.net.Host(host).Listen("tcp", address)
}

func (m *inMemory) Dial(ctx context.Context, host, address string) (net.Conn, error) {
	return m.net.Host(host).Dial(ctx, "tcp", address)
}

// Loopback is a network over the kernel's loopback, so that the kernel rehearses too. The kernel then makes the secrets
// by which it chooses sequence numbers and ports: a machine that will be copied must not use it, nor a copy that has
// no randomness of its own yet.
func Loopback(listen func(network, address string) (net.Listener, error)) Network {
	return &loopback{listen: listen, ports: map[string]string{}}
}

type loopback struct {
	listen func(network, address string) (net.Listener, error)

	mu    sync.Mutex
	ports map[string]string // where a made-up address really is
}

func (l *loopback) Listen(host, address string) (net.Listener, error) {
	listener, err := l.listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ports[host+address] = listener.Addr().String()
	return listener, nil
}

func (l *loopback) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	l.mu.Lock()
	real, ok := l.ports[address]
	l.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("connect to %s: %w", address, syscall.ECONNREFUSED)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", real)
}
