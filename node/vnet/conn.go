package vnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// guestConn is a TCP connection with a guest. It ends with the guest's port.
type guestConn struct {
	*gonet.TCPConn
	ep   tcpip.Endpoint
	wq   *waiter.Queue
	port *port
}

// track makes an endpoint a connection of the port.
func (p *port) track(wq *waiter.Queue, ep tcpip.Endpoint) (*guestConn, error) {
	c := &guestConn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep, wq: wq, port: p}
	p.mu.Lock()
	detached := p.detached
	if !detached {
		p.conns[c] = struct{}{}
	}
	p.mu.Unlock()
	if detached {
		ep.Abort()
		return nil, fmt.Errorf("%s: %w", p.id, ErrNotAttached)
	}
	return c, nil
}

// Close closes the connection in order.
func (c *guestConn) Close() error {
	c.port.mu.Lock()
	delete(c.port.conns, c)
	c.port.mu.Unlock()
	return c.TCPConn.Close()
}

// readInto implements patientReader.
func (c *guestConn) readInto(l *loan) ([]byte, error) {
	b, err := c.tryRead(l)
	if wouldBlock(err) {
		entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
		c.wq.EventRegister(&entry)
		defer c.wq.EventUnregister(&entry)
		for {
			if b, err = c.tryRead(l); !wouldBlock(err) {
				break
			}
			<-readable
		}
	}
	if _, ended := err.(*tcpip.ErrClosedForReceive); ended {
		return nil, io.EOF
	}
	if err != nil {
		return nil, errors.New(err.String())
	}
	return b, nil
}

func (c *guestConn) tryRead(l *loan) ([]byte, tcpip.Error) {
	into := tcpip.SliceWriter(l.take())
	got, err := c.ep.Read(&into, tcpip.ReadOptions{})
	if wouldBlock(err) {
		l.giveBack()
		return nil, err
	}
	return l.take()[:got.Count], err
}

func wouldBlock(err tcpip.Error) bool {
	_, wait := err.(*tcpip.ErrWouldBlock)
	return wait
}

// abort ends the connection at once, with a reset to the guest. Its owner still closes it.
func (c *guestConn) abort() { c.ep.Abort() }

type connKey struct{}

// InstanceFrom returns the instance whose port a request to a service of the network came through. It is the
// guest's identity: the port lets nothing pass that claims another.
func InstanceFrom(ctx context.Context) (instanceID string, ok bool) {
	c, ok := ctx.Value(connKey{}).(*guestConn)
	if !ok {
		return "", false
	}
	return c.port.id, true
}

// SetHopLimit sets the TTL of what is sent from now on over the connection of a request's context, 1 to 255; 0 means
// the usual one. With 1 an answer reaches the guest itself and nothing that the guest routes for.
func SetHopLimit(ctx context.Context, hops int) error {
	c, ok := ctx.Value(connKey{}).(*guestConn)
	if !ok {
		return errors.New("set hop limit: no connection of a guest")
	}
	if hops < 0 || hops > 255 {
		return fmt.Errorf("set hop limit: %d, must be 0 to 255", hops)
	}
	if err := c.ep.SetSockOptInt(tcpip.IPv4TTLOption, hops); err != nil {
		return fmt.Errorf("set hop limit: %s", err)
	}
	return nil
}

// Dial connects to a guest's TCP port from the gateway's address. It waits for a guest that is not up yet until ctx
// ends; a port where nothing listens gives syscall.ECONNREFUSED, wrapped, at once.
func (n *Network) Dial(ctx context.Context, instanceID string, port int) (net.Conn, error) {
	p, err := n.port(instanceID)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	c, err := p.dialGuest(ctx, port)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (p *port) dialGuest(ctx context.Context, port int) (*guestConn, error) {
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("dial %s: port %d, must be 1 to 65535", p.id, port)
	}
	if err := p.waitReachable(ctx); err != nil {
		return nil, fmt.Errorf("dial port %d of %s: wait for the guest: %w", port, p.id, err)
	}
	c, err := p.connect(ctx, uint16(port))
	if err != nil {
		return nil, fmt.Errorf("dial port %d of %s: %w", port, p.id, err)
	}
	return c, nil
}

// connect makes a connection through the port's own interface.
func (p *port) connect(ctx context.Context, port uint16) (*guestConn, error) {
	var wq waiter.Queue
	ep, err := p.net.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if err != nil {
		return nil, dialError(err)
	}
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	err = ep.Connect(tcpip.FullAddress{NIC: p.nic, Addr: tcpip.AddrFrom4(p.ip4), Port: port})
	if _, started := err.(*tcpip.ErrConnectStarted); started {
		select {
		case <-writable:
			err = ep.LastError()
		case <-ctx.Done():
			ep.Abort()
			return nil, ctx.Err()
		case <-p.stopped:
			ep.Abort()
			return nil, ErrNotAttached
		}
	}
	if err != nil {
		ep.Close()
		return nil, dialError(err)
	}
	return p.track(&wq, ep)
}

// dialError makes the stack's error one that callers know from the host's.
func dialError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused, *tcpip.ErrConnectionReset, *tcpip.ErrConnectionAborted:
		return syscall.ECONNREFUSED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	default:
		return errors.New(err.String())
	}
}
