// Package memnet is a network in memory for rehearsals and tests of the agent: hosts with addresses, listeners and
// connections that behave as TCP's do (buffered, half-close, deadlines, refusal), without a kernel. Everything in it
// waits on channels made by the caller's goroutines, so it works inside a testing/synctest bubble, where time is the
// test's own.
//
// It carries no traffic in a running cloud; simulated guests use the node's virtual network.
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
)

// Network joins hosts. The zero value is an empty network ready for use.
type Network struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	nextPort  uint16
	silent    map[netip.Addr]bool
}

// Host returns the host with this address, for example "10.64.0.5". It panics on text that is no address, which in a
// test is a mistake of the test.
func (n *Network) Host(address string) *Host {
	return &Host{net: n, addr: netip.MustParseAddr(address)}
}

// Silence makes a host swallow connection attempts (on) or answer them again, as if a cable were pulled: dials wait
// until their context ends. Connections that exist stay.
func (n *Network) Silence(address string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.silent == nil {
		n.silent = map[netip.Addr]bool{}
	}
	n.silent[netip.MustParseAddr(address)] = on
}

// Host is one machine of the network.
type Host struct {
	net  *Network
	addr netip.Addr
}

// Listen opens a port; address is ":PORT" or "IP:PORT", where the IP is ignored: the host has one. A port in use gives
// EADDRINUSE.
func (h *Host) Listen(_, address string) (net.Listener, error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("parse listen address: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("parse listen port: %w", err)
	}
	at := netip.AddrPortFrom(h.addr, uint16(port))
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.listeners == nil {
		h.net.listeners = map[netip.AddrPort]*listener{}
	}
	if h.net.listeners[at] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(at), Err: syscall.EADDRINUSE}
	}
	l := &listener{net: h.net, at: at, queue: make(chan *conn, 128), done: make(chan struct{})}
	h.net.listeners[at] = l
	return l, nil
}

// Dial connects to a port of any host. Nobody listening gives ECONNREFUSED.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("parse address: %w", err)
	}
	h.net.mu.Lock()
	l, silent := h.net.listeners[to], h.net.silent[to.Addr()]
	h.net.nextPort = (h.net.nextPort + 1) % 16384
	from := netip.AddrPortFrom(h.addr, 49152+h.net.nextPort)
	h.net.mu.Unlock()
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	if silent {
		<-ctx.Done()
		return fail(context.Cause(ctx))
	}
	if l == nil {
		return fail(syscall.ECONNREFUSED)
	}
	near, far := newPair(from, to)
	select {
	case l.queue <- far:
		return near, nil
	case <-l.done:
		return fail(syscall.ECONNREFUSED)
	case <-ctx.Done():
		return fail(context.Cause(ctx))
	}
}

type listener struct {
	net   *Network
	at    netip.AddrPort
	queue chan *conn
	once  sync.Once
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Close also resets the connections that nobody accepted.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.at)
		l.net.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.queue:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
