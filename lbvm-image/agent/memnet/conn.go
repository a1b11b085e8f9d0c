package memnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// window is how many bytes wait in one direction before the writer has to.
const window = 64 << 10

// conn is one end of a connection: it reads from in and writes to out, which are the other end's out and in.
type conn struct {
	local, remote netip.AddrPort
	in, out       *stream
	abrupt        atomic.Bool
}

func newPair(near, far netip.AddrPort) (*conn, *conn) {
	a, b := newStream(), newStream()
	return &conn{local: near, remote: far, in: a, out: b}, &conn{local: far, remote: near, in: b, out: a}
}

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

// CloseWrite ends one direction, as TCP's FIN does.
func (c *conn) CloseWrite() error {
	c.out.update(func(s *stream) { s.ended = true })
	return nil
}

// SetLinger with 0 makes Close a reset, as TCP has it.
func (c *conn) SetLinger(seconds int) error {
	c.abrupt.Store(seconds == 0)
	return nil
}

func (c *conn) Close() error {
	if c.abrupt.Load() {
		c.out.update(func(s *stream) { s.reset, s.buf = true, nil })
	}
	c.out.update(func(s *stream) { s.ended = true })
	c.in.update(func(s *stream) { s.readerGone = true })
	c.out.update(func(s *stream) { s.writerGone = true })
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) SetDeadline(t time.Time) error {
	return firstError(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// deadline is a point in time after which one side of a stream gives up.
type deadline struct {
	timer  *time.Timer
	passed bool
	// turn tells a timer that fires late that it has been replaced.
	turn int
}

// stream is one direction of a connection.
type stream struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	buf     []byte

	ended      bool // no more is written; the reader gets the rest, then EOF
	readerGone bool // the reader closed: writes fail, its own reads too
	writerGone bool // the writer closed: its own writes fail
	reset      bool // the writer closed abruptly: reads fail

	readBy, writeBy deadline
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

func (s *stream) update(f func(*stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	s.wake()
}

func (s *stream) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer, d.passed = nil, false
	d.turn++
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.passed = true
		s.wake()
		return
	}
	turn := d.turn
	d.timer = time.AfterFunc(left, func() {
		s.update(func(*stream) {
			if d.turn == turn {
				d.passed = true
			}
		})
	})
}

func (s *stream) read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		switch {
		case s.readerGone:
			s.mu.Unlock()
			return 0, net.ErrClosed
		case s.reset:
			s.mu.Unlock()
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		case s.readBy.passed:
			s.mu.Unlock()
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			s.wake()
			s.mu.Unlock()
			return n, nil
		case s.ended:
			s.mu.Unlock()
			return 0, io.EOF
		}
		changed := s.changed
		s.mu.Unlock()
		<-changed
	}
}

func (s *stream) write(p []byte) (int, error) {
	written := 0
	for {
		s.mu.Lock()
		switch {
		case s.writerGone:
			s.mu.Unlock()
			return written, net.ErrClosed
		case s.readerGone:
			s.mu.Unlock()
			return written, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
		case s.writeBy.passed:
			s.mu.Unlock()
			return written, &net.OpError{Op: "write", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}
		if room := window - len(s.buf); room > 0 {
			n := min(room, len(p)-written)
			s.buf = append(s.buf, p[written:written+n]...)
			written += n
			s.wake()
		}
		if written == len(p) {
			s.mu.Unlock()
			return written, nil
		}
		changed := s.changed
		s.mu.Unlock()
		<-changed
	}
}
