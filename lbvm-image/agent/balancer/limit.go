package balancer

import (
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// limitedListener accepts no more connections at once than it has slots; further clients wait in the kernel's queue.
type limitedListener struct {
	net.Listener
	slots chan struct{}
	once  sync.Once
	done  chan struct{}
}

func newLimitedListener(l net.Listener, slots int) *limitedListener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, slots), done: make(chan struct{})}
}

// accept returns a connection and what gives its slot back, to be called after closing it.
func (l *limitedListener) accept() (net.Conn, func(), error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, nil, net.ErrClosed
	}
	release := sync.OnceFunc(func() { <-l.slots })
	conn, err := l.Listener.Accept()
	if err != nil {
		release()
		return nil, nil, err
	}
	return conn, release, nil
}

// Accept implements net.Listener for http.Server.
func (l *limitedListener) Accept() (net.Conn, error) {
	conn, release, err := l.accept()
	if err != nil {
		return nil, err
	}
	return &limitedConn{Conn: conn, release: release}, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// limitedConn gives its slot back when it is closed.
type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite ends the writing direction.
func (c *limitedConn) CloseWrite() error { return closeWrite(c.Conn) }

// tracker counts pieces of work under way. Unlike a WaitGroup's, its count may leave zero while somebody waits.
type tracker struct {
	mu    sync.Mutex
	count int
	zero  []chan struct{}
}

func (t *tracker) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
}

func (t *tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count--; t.count > 0 {
		return
	}
	for _, c := range t.zero {
		close(c)
	}
	t.zero = nil
}

// idle returns a channel that is closed as soon as nothing is under way.
func (t *tracker) idle() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := make(chan struct{})
	if t.count == 0 {
		close(c)
		return c
	}
	t.zero = append(t.zero, c)
	return c
}

// idlers closes connections of an http.Server that wait for their next request for too long. The server's own timeout
// would be the same for the server's whole life, but the idle timeout is an attribute that users change.
type idlers struct {
	mu      sync.Mutex
	stopped bool
	timers  map[net.Conn]*time.Timer
}

// watch returns a function for http.Server.ConnState; idle is asked anew each time.
func (i *idlers) watch(idle func() time.Duration) func(net.Conn, http.ConnState) {
	return func(conn net.Conn, state http.ConnState) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if timer := i.timers[conn]; timer != nil {
			timer.Stop()
			delete(i.timers, conn)
		}
		if state != http.StateIdle || i.stopped {
			return
		}
		if i.timers == nil {
			i.timers = map[net.Conn]*time.Timer{}
		}
		i.timers[conn] = time.AfterFunc(idle(), func() { _ = conn.Close() })
	}
}

func (i *idlers) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopped = true
	for conn, timer := range i.timers {
		timer.Stop()
		delete(i.timers, conn)
	}
}

// quietLog hands net/http's own complaints, which clients can cause at will, to the debug level.
func quietLog(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}
