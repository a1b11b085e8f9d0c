package cloud

import (
	"net"
	"sync"
)

// HandOver takes guests' connections to the API over TLS from networks in this process, without a socket of the host
// between them. It returns nil for a target that is not this cloud's. The returned function does not wait for the
// connection's end.
func (c *Cloud) HandOver(target string) func(conn net.Conn) {
	if target != c.apiTLS.Addr().String() {
		return nil
	}
	return c.handed.take
}

// handed is a listener for connections that are made elsewhere.
type handed struct {
	at    net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newHanded(at net.Addr) *handed {
	return &handed{at: at, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handed) take(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		_ = conn.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handed) Addr() net.Addr { return h.at }
