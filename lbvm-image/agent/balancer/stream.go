package balancer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// handshakeTimeout bounds the TLS handshake of a client or a backend.
const handshakeTimeout = 15 * time.Second

// carry serves one client of a TCP or SSL listener: it connects it to a backend and copies both ways until both ends
// have finished, one breaks, or nothing moved for the idle timeout.
func (f *Frontend) carry(ctx context.Context, client net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { _ = client.Close() }()
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()

	if f.protocol.Secure() {
		secure := tls.Server(client, f.tls())
		if err := handshake(ctx, secure); err != nil {
			f.handshakes.failed(err.Error())
			return fmt.Errorf("handshake with client: %w", err)
		}
		client = secure
	}
	f.balancer.Metrics.request()
	route := *f.route.Load()
	backend, err := f.connect(ctx, route)
	if err != nil {
		return err
	}
	defer func() { _ = backend.Close() }()
	defer context.AfterFunc(ctx, func() { _ = backend.Close() })()
	return splice(client, backend, route.idle(), &f.balancer.buffers)
}

func handshake(ctx context.Context, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return conn.HandshakeContext(ctx)
}

// connect takes the backend whose turn it is; when it takes no connection, another one once. Nothing has been sent by
// then, so this is safe for any protocol.
func (f *Frontend) connect(ctx context.Context, route Route) (net.Conn, error) {
	backend, ok := f.balancer.Pool.Next("")
	if !ok {
		return nil, errNoBackend
	}
	conn, err := f.connectTo(ctx, backend, route)
	if err == nil || ctx.Err() != nil {
		return conn, err
	}
	other, ok := f.balancer.Pool.Next(backend.InstanceID)
	if !ok {
		return nil, err
	}
	return f.connectTo(ctx, other, route)
}

func (f *Frontend) connectTo(ctx context.Context, backend Backend, route Route) (net.Conn, error) {
	conn, err := f.balancer.dialBackend(ctx, "tcp", net.JoinHostPort(backend.Address, strconv.Itoa(route.Port)))
	if err != nil || !route.Protocol.Secure() {
		return conn, err
	}
	secure := tls.Client(conn, backendTLS(backend.Address))
	if err := handshake(ctx, secure); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("handshake with backend %s: %w", backend.InstanceID, err)
	}
	return secure, nil
}

// splice copies between a and b. The end of one direction is handed on as such, and the other goes on.
func splice(a, b net.Conn, idle time.Duration, buffers *bufferPool) error {
	p := &pair{idle: idle, began: time.Now(), buffers: buffers}
	results := make([]error, 2)
	var both sync.WaitGroup
	both.Go(func() { results[0] = p.copy(b, a) })
	both.Go(func() { results[1] = p.copy(a, b) })
	both.Wait()
	return errors.Join(results...)
}

// pair is two connections being joined. moved is when bytes last passed in either direction, in nanoseconds since
// began; both are the runtime's time, which no change of the wall clock disturbs.
type pair struct {
	idle    time.Duration
	began   time.Time
	moved   atomic.Int64
	buffers *bufferPool
}

// copy hands on what comes from src. The plain connections are given to io.CopyBuffer, which lets Linux move the bytes
// without this process seeing them; the read deadline makes it come back now and then to look at the idle time. The
// write deadline is later by the idle time, so it passes only when dst took nothing for that long. What moved in the
// other direction is known at most a tick later; so long the silence must last beyond the idle time.
func (p *pair) copy(dst, src net.Conn) error {
	var buffer []byte
	if !kernelMoves(dst, src) {
		buffer = p.buffers.Get()
		defer p.buffers.Put(buffer)
	}
	tick := max(p.idle/8, 10*time.Millisecond)
	for {
		now := time.Now()
		_ = src.SetReadDeadline(now.Add(tick))
		_ = dst.SetWriteDeadline(now.Add(tick + p.idle))
		n, err := io.CopyBuffer(dst, src, buffer)
		if n > 0 {
			p.moved.Store(int64(time.Since(p.began)))
		}
		switch {
		case err == nil:
			if err := closeWrite(dst); err != nil {
				return p.abort(dst, src, err)
			}
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return p.abort(dst, src, err)
		case time.Since(now) >= tick+p.idle, time.Since(p.began)-time.Duration(p.moved.Load()) >= p.idle+tick:
			return p.abort(dst, src, errIdle)
		}
	}
}

// kernelMoves tells whether io.CopyBuffer needs no buffer of ours, and so no memory for a silent connection.
func kernelMoves(dst, src net.Conn) bool {
	_, to := dst.(*net.TCPConn)
	_, from := src.(*net.TCPConn)
	return to && from
}

// abort ends both directions; the other copy then fails and ends too. Both ends see a reset: what they got is not all
// there was, and an orderly end would say that it is.
func (p *pair) abort(dst, src net.Conn, err error) error {
	reset(dst)
	reset(src)
	return err
}

func reset(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if abrupt, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = abrupt.SetLinger(0)
	}
	_ = conn.Close()
}

// closeWrite ends the writing direction of a connection. One that cannot do that is left open: its end comes with the
// other direction's.
func closeWrite(conn any) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
