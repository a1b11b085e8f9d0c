package vnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Time limits of connections to services.
const (
	headerTimeout      = 10 * time.Second
	httpTimeout        = 60 * time.Second
	idleTimeout        = 120 * time.Second
	forwardDialTimeout = 5 * time.Second
	maxHeaderBytes     = 16 << 10
)

// service is what listens on an address inside the network, on every port alike.
type service struct {
	addr netip.AddrPort
	// serve takes a guest's connection attempt, which it must complete. done is called when the connection has ended.
	serve func(p *port, r *tcp.ForwarderRequest, done func())
	close func()
}

// register puts a service in place of what was at its address before.
func (n *Network) register(s *service) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return ErrClosed
	case !s.addr.Addr().Is4() || !unicast(s.addr.Addr()) || s.addr.Port() == 0:
		return errors.New("must be an IPv4 address and a port")
	case n.cfg.Prefix.Contains(s.addr.Addr()) && s.addr.Addr() != n.cfg.Gateway:
		return fmt.Errorf("is a guest's address of %s", n.cfg.Prefix)
	}
	for _, p := range n.ports {
		if err := n.addAddress(p.nic, s.addr.Addr(), stack.NeverPrimaryEndpoint); err != nil {
			return err
		}
	}
	if old := n.table.setService(s); old != nil {
		old.close()
	}
	return nil
}

// addAddress gives a port's interface an address of the node. Having it already is fine.
func (n *Network) addAddress(nic tcpip.NICID, a netip.Addr, how stack.PrimaryEndpointBehavior) error {
	err := n.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddrFrom4(a.As4()).WithPrefix(),
	}, stack.AddressProperties{PEB: how})
	if _, dup := err.(*tcpip.ErrDuplicateAddress); err != nil && !dup {
		return fmt.Errorf("add address %s: %s", a, err)
	}
	return nil
}

// handleSYN is asked by the stack about segments that belong to no connection. It answers false, upon which the
// stack refuses the connection, unless a service is there and the segment came through its sender's own port.
func (n *Network) handleSYN(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	p := n.table.guest(netip.AddrFrom4(id.RemoteAddress.As4()))
	if p == nil {
		return false
	}
	if p.nic != pkt.NICID {
		p.drop(dropSpoofedIP)
		return false
	}
	if n.table.service(localAddr(id)) == nil {
		return false
	}
	return p.forwarder.HandlePacket(id, pkt)
}

// accept serves one connection attempt, in a goroutine of its own that the stack started.
func (p *port) accept(r *tcp.ForwarderRequest) {
	s := p.net.table.service(localAddr(r.ID()))
	if s == nil || !p.startServing() {
		r.Complete(true)
		return
	}
	s.serve(p, r, p.stopServing)
}

func localAddr(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)
}

// startServing reserves one of the guest's connections to services. False: it has too many, or is leaving.
func (p *port) startServing() bool {
	p.net.mu.Lock()
	closed := p.net.closed
	if !closed {
		p.net.work.Add(1) // under mu, so never while Close waits already
	}
	p.net.mu.Unlock()
	if closed {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detached || p.serving >= p.net.cfg.MaxConnections {
		p.net.work.Done()
		return false
	}
	p.serving++
	return true
}

func (p *port) stopServing() {
	p.mu.Lock()
	p.serving--
	p.mu.Unlock()
	p.net.work.Done()
}

// establish completes a connection attempt's handshake.
func (p *port) establish(r *tcp.ForwarderRequest) (*guestConn, error) {
	var wq waiter.Queue
	ep, err := r.CreateEndpoint(&wq)
	r.Complete(err != nil)
	if err != nil {
		return nil, fmt.Errorf("accept connection of %s: %s", p.id, err)
	}
	return p.track(&wq, ep)
}

// HandleHTTP makes h answer on an address inside the network, for each guest. InstanceFrom tells in a request's
// context whose it is. What was at the address before ends. addr must not be a guest's; a mistake is logged.
func (n *Network) HandleHTTP(addr netip.AddrPort, h http.Handler) {
	l := &connListener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       httpTimeout,
		WriteTimeout:      httpTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c.(*servedConn).guestConn)
		},
	}
	s := &service{addr: addr, close: func() { _ = server.Close() }}
	s.serve = func(p *port, r *tcp.ForwarderRequest, done func()) { p.serveTo(r, done, l.serve) }
	if err := n.register(s); err != nil {
		n.log.Error("service not registered", "address", addr, "error", err)
		return
	}
	n.work.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("service ended", "address", addr, "error", err)
		}
	})
}

// serveTo completes a connection attempt and gives the connection to a server, which closes it in the end.
func (p *port) serveTo(r *tcp.ForwarderRequest, done func(), take func(net.Conn)) {
	asked := localAddr(r.ID()) // which r has no more once it is complete
	c, err := p.establish(r)
	if err != nil {
		p.net.log.Debug("connection refused", "instance", p.id, "service", asked, "error", err)
		done()
		return
	}
	take(&servedConn{guestConn: c, done: done})
}

// connListener feeds an http.Server with connections that are accepted elsewhere.
type connListener struct {
	addr  netip.AddrPort
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// serve hands the connection over.
func (l *connListener) serve(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		_ = c.Close()
	}
}

func (l *connListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *connListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *connListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// servedConn tells when its server let go of it.
type servedConn struct {
	*guestConn
	once sync.Once
	done func()
}

func (c *servedConn) Close() error {
	err := c.guestConn.Close()
	c.once.Do(c.done)
	return err
}

// Forward makes connections to an address inside the network end at target, HOST:PORT as the node's host dials it,
// or with whom Config.HandOver names. A guest is refused when target is. What was at the address before ends. A mistake
// in addr is logged.
func (n *Network) Forward(addr netip.AddrPort, target string) {
	ctx, stop := context.WithCancel(context.Background())
	s := &service{addr: addr, close: stop}
	s.serve = func(p *port, r *tcp.ForwarderRequest, done func()) {
		if take := n.cfg.HandOver(target); take != nil {
			p.serveTo(r, done, take)
			return
		}
		defer done()
		p.forward(ctx, r, target)
	}
	if err := n.register(s); err != nil {
		stop()
		n.log.Error("forward not registered", "address", addr, "error", err)
	}
}

// forward joins a guest's connection with one to target until both have ended.
func (p *port) forward(ctx context.Context, r *tcp.ForwarderRequest, target string) {
	asked := localAddr(r.ID())
	// Dialled before the guest's handshake, so that the guest hears the truth about the target.
	d := net.Dialer{Timeout: forwardDialTimeout}
	host, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		r.Complete(true)
		p.net.log.Warn("forward", "instance", p.id, "service", asked, "error", err)
		return
	}
	guest, err := p.establish(r)
	if err != nil {
		_ = host.Close()
		p.net.log.Debug("connection refused", "instance", p.id, "service", asked, "error", err)
		return
	}
	splice(ctx, guest, host)
}
