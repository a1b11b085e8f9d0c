package sim

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// conn is a TCP connection of a guest, which ends with it. Its errors are those of the net package where callers look
// for them.
type conn struct {
	*gonet.TCPConn
	ep     tcpip.Endpoint
	nic    *nic
	closed atomic.Bool
}

// track makes a connection one of the card's.
func (c *nic) track(wq *waiter.Queue, ep tcpip.Endpoint) (net.Conn, error) {
	one := &conn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep, nic: c}
	if !c.add(one) {
		ep.Abort()
		return nil, errNoNetwork
	}
	return one, nil
}

func (c *nic) add(one closer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return false
	}
	c.open[one] = struct{}{}
	return true
}

func (c *nic) forget(one closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, one)
}

// Read implements net.Conn.
func (o *conn) Read(p []byte) (int, error) {
	n, err := o.TCPConn.Read(p)
	return n, o.named("read", err)
}

// Write implements net.Conn.
func (o *conn) Write(p []byte) (int, error) {
	n, err := o.TCPConn.Write(p)
	return n, o.named("write", err)
}

func (o *conn) named(op string, err error) error {
	var known error
	var timed net.Error
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	case o.closed.Load():
		known = net.ErrClosed
	case errors.As(err, &timed) && timed.Timeout():
		known = os.ErrDeadlineExceeded
	default:
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: o.LocalAddr(), Addr: o.RemoteAddr(), Err: known}
}

// Close closes the connection in order.
func (o *conn) Close() error {
	if o.closed.Swap(true) {
		return net.ErrClosed
	}
	o.nic.forget(o)
	return o.TCPConn.Close()
}

// abort resets the connection. Who uses it still closes it.
func (o *conn) abort() { o.ep.Abort() }

// listener is an open port of a guest.
type listener struct {
	nic    *nic
	ep     tcpip.Endpoint
	wq     *waiter.Queue
	addr   net.Addr
	closed chan struct{}
	once   sync.Once
}

func (c *nic) serve(wq *waiter.Queue, ep tcpip.Endpoint, addr net.Addr) (net.Listener, error) {
	one := &listener{nic: c, ep: ep, wq: wq, addr: addr, closed: make(chan struct{})}
	if !c.add(one) {
		ep.Close()
		return nil, errNoNetwork
	}
	return one, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		ep, wq, err := l.ep.Accept(nil)
		if err == nil {
			return l.nic.track(wq, ep)
		}
		if _, wait := err.(*tcpip.ErrWouldBlock); !wait {
			return nil, l.failed(err)
		}
		select {
		case <-readable:
		case <-l.closed:
			return nil, l.failed(err)
		}
	}
}

func (l *listener) failed(err tcpip.Error) error {
	select {
	case <-l.closed:
		return &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	default:
		return &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: errors.New(err.String())}
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.nic.forget(l)
	l.abort()
	return nil
}

func (l *listener) abort() {
	l.once.Do(func() {
		close(l.closed)
		l.ep.Close()
	})
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }
