// Package exchange sends small HTTP/1.1 requests to one server and reads its answers whole, bounded in size and time.
//
// It takes the place of net/http's client in a guest. That one is made for everything; for what a guest asks it runs
// through five times the code, which an emulated guest has to translate before its first answer, and keeps two
// goroutines and their buffers for each connection, of which a cloud of simulated guests has twenty thousand. Here a
// connection is used by whoever waits for its answer, and nothing runs while it is idle.
//
// Not in here: redirects, cookies, proxies, compression. The messages' form is RFC 9112. The reader goes on with
// answer.go for the parser.
package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	defaultConnections = 8
	defaultIdle        = 30 * time.Second
	// readBuffer is also the longest line of an answer's head, in bytes.
	readBuffer = 2 << 10
)

var (
	// ErrStale means that a connection which had been used before ended before any byte of an answer came: the
	// server had closed it. The request may or may not have been seen.
	ErrStale = errors.New("connection had ended")
	// ErrMalformed means that what came is no answer of HTTP/1.1, or has a head without end.
	ErrMalformed = errors.New("malformed HTTP answer")
	// ErrTooLong means that an answer's body is longer than the request's limit.
	ErrTooLong = errors.New("answer is too long")
	// ErrClosed means that the client was closed.
	ErrClosed = errors.New("client is closed")
	// ErrRequest means that a request cannot be written: something in it would break a line.
	ErrRequest = errors.New("request holds what no line may")
)

// Config of a Client.
type Config struct {
	// Dial opens a connection to the server, with its handshake done. Needed. It must end when ctx ends.
	Dial func(ctx context.Context) (net.Conn, error)
	// Host is the Host header. Needed.
	Host string
	// Fields are headers of every request beside its own. Names and values must be printable.
	Fields []Field
	// Connections bounds those that are open at once; further requests wait. Default 8.
	Connections int
	// Idle is how long a connection waits for its next request before it is closed. Default 30 s.
	Idle time.Duration
}

// Request is what is asked.
type Request struct {
	Method string
	// Path is the request's target: a path, perhaps with a query, in the form in which it is sent.
	Path string
	// Fields are headers beside Host and Content-Length. Names and values must be printable.
	Fields []Field
	Body   []byte
	// Limit bounds the answer's body in bytes.
	Limit int64
	// Once says that the request must not be sent a second time: on a connection that the server had closed it
	// fails with ErrStale, where another one is repeated on a new connection.
	Once bool
}

// Field is a header.
type Field struct{ Name, Value string }

// Trace is the header that tells which step of a trace a request is a part of (W3C Trace Context); none when it is
// empty.
func Trace(traceparent string) []Field {
	if traceparent == "" {
		return nil
	}
	return []Field{{Name: traceField, Value: traceparent}}
}

// Client talks to one server. It may be used from several goroutines.
type Client struct {
	cfg   Config
	slots chan struct{}

	mu     sync.Mutex
	closed bool
	idle   []*connection
}

// connection is an open connection; nobody or one request uses it.
type connection struct {
	net.Conn
	used   bool
	expiry *time.Timer
}

// New makes a client. Close it when done.
func New(cfg Config) *Client {
	if cfg.Connections <= 0 {
		cfg.Connections = defaultConnections
	}
	if cfg.Idle <= 0 {
		cfg.Idle = defaultIdle
	}
	return &Client{cfg: cfg, slots: make(chan struct{}, cfg.Connections)}
}

// Close ends idle connections now and those in use after their request. No request can be made any more.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.Rest()
}

// Rest ends idle connections; the next request opens a new one.
func (c *Client) Rest() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, conn := range idle {
		conn.expiry.Stop()
		_ = conn.Close()
	}
}

// Connect opens a connection for the next request, if there is none, so that it need not wait.
func (c *Client) Connect(ctx context.Context) error {
	if err := c.wait(ctx); err != nil {
		return err
	}
	defer c.done()
	conn, err := c.take(ctx)
	if err != nil {
		return err
	}
	c.put(conn)
	return nil
}

// wait waits until another connection may be used; done follows.
func (c *Client) wait(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Client) done() { <-c.slots }

// Do sends a request and returns its answer, whatever its status. When ctx ends, so does the wait.
func (c *Client) Do(ctx context.Context, r Request) (*Answer, error) {
	if err := r.check(c.cfg.Fields); err != nil {
		return nil, err
	}
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	defer c.done()
	for {
		conn, err := c.take(ctx)
		if err != nil {
			return nil, err
		}
		again := conn.used
		answer, err := c.ask(ctx, conn, r)
		if err == nil {
			return answer, nil
		}
		_ = conn.Close()
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case !errors.Is(err, ErrStale) || r.Once || !again:
			return nil, err
		}
		c.Rest() // what has ended one idle connection has ended the others
	}
}

func (r Request) check(always []Field) error {
	if strings.ContainsFunc(r.Path, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return fmt.Errorf("%w: path", ErrRequest)
	}
	for _, f := range slices.Concat(always, r.Fields) {
		if strings.ContainsAny(f.Value, "\r\n\x00") {
			return fmt.Errorf("%w: %s", ErrRequest, f.Name)
		}
	}
	return nil
}

// take returns an idle connection or a new one.
func (c *Client) take(ctx context.Context) (*connection, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	var conn *connection
	if last := len(c.idle) - 1; last >= 0 {
		conn = c.idle[last]
		c.idle = c.idle[:last]
	}
	c.mu.Unlock()
	if conn != nil {
		conn.expiry.Stop()
		return conn, nil
	}
	fresh, err := c.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: fresh}, nil
}

// put keeps a connection for the next request.
func (c *Client) put(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return
	}
	conn.expiry = time.AfterFunc(c.cfg.Idle, func() { c.expire(conn) })
	c.idle = append(c.idle, conn)
}

func (c *Client) expire(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.idle {
		if other == conn {
			c.idle = append(c.idle[:i], c.idle[i+1:]...)
			_ = conn.Close()
			return
		}
	}
}

// ask makes one exchange on a connection. With an error the connection is of no use any more.
func (c *Client) ask(ctx context.Context, conn *connection, r Request) (*Answer, error) {
	// The context's end alone ends the wait, so that whoever sees the one sees the other.
	undo := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer undo()
	if _, err := conn.Write(c.message(r)); err != nil {
		return nil, stale(conn, fmt.Errorf("send request: %w", err))
	}
	in := bufio.NewReaderSize(conn, readBuffer)
	if _, err := in.Peek(1); err != nil {
		return nil, stale(conn, fmt.Errorf("read answer: %w", err))
	}
	conn.used = true
	answer, stays, err := readAnswer(in, r.Limit)
	if err != nil {
		return nil, err
	}
	// Bytes beyond the answer belong to nobody, and a context that has ended has spoilt the deadlines.
	if stays && in.Buffered() == 0 && undo() {
		c.put(conn)
	} else {
		_ = conn.Close()
	}
	return answer, nil
}

// stale marks an error of a connection that was used before.
func stale(conn *connection, err error) error {
	if conn.used {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	return err
}

// message is the request as it is sent, in one piece.
func (c *Client) message(r Request) []byte {
	b := make([]byte, 0, 1024+len(r.Body))
	b = append(b, r.Method+" "+r.Path+" HTTP/1.1\r\nHost: "+c.cfg.Host+"\r\n"...)
	for _, f := range slices.Concat(c.cfg.Fields, r.Fields) {
		b = append(b, f.Name+": "+f.Value+"\r\n"...)
	}
	if len(r.Body) > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut {
		b = append(b, "Content-Length: "+strconv.Itoa(len(r.Body))+"\r\n"...)
	}
	b = append(b, "\r\n"...)
	return append(b, r.Body...)
}
