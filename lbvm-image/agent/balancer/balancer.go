package balancer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// defaultIdle is a classic load balancer's idle timeout unless its attributes say another.
	defaultIdle = 60 * time.Second
	// defaultConnections is how many clients one listener carries at once: as many as the memory that a guest of
	// 96 MB has to spare is enough for, with TLS on both sides.
	defaultConnections = 256
	// dialTimeout is how long a backend may take to answer a connection attempt.
	dialTimeout = 5 * time.Second
	// maxIdlePerBackend bounds the connections that wait for the next request to one backend.
	maxIdlePerBackend = 64
	// maxBackendHeader bounds the headers of a backend's answer, in bytes.
	maxBackendHeader = 256 << 10
)

// Config of a Balancer.
type Config struct {
	// Dial opens connections to backends. Needed.
	Dial DialFunc
	// Connections bounds the clients' connections that one listener has open at once. Default 256, some 20 MB. At the
	// bound new clients of that listener wait until another one leaves.
	Connections int
	// Handshakes, if set, is told of a secure listener's TLS handshakes from time to time.
	Handshakes func(port int, h Handshakes)
	// Handshake, if set beside Handshakes, is told of single ones just before: of a few at a time.
	Handshake func(port int, h Handshake)
	// Logger takes what goes wrong with single connections. Default: dropped.
	Logger *slog.Logger
}

// Balancer holds what the listeners of one load balancer share. Make it with New, end it with Close.
type Balancer struct {
	// Pool is the set of backends.
	Pool *Pool
	// Metrics counts what was carried.
	Metrics *Metrics

	cfg     Config
	backend *http.Transport
	buffers bufferPool
	fronts  sync.WaitGroup
}

// New makes a balancer without backends and without open ports.
func New(cfg Config) (*Balancer, error) {
	if cfg.Dial == nil {
		return nil, errors.New("balancer has no dialer")
	}
	if cfg.Connections <= 0 {
		cfg.Connections = defaultConnections
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Balancer{
		Pool:    newPool(cfg.Dial),
		Metrics: &Metrics{},
		cfg:     cfg,
	}
	b.backend = &http.Transport{
		DialContext:            b.dialBackend,
		TLSClientConfig:        backendTLS(""),
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    maxIdlePerBackend,
		IdleConnTimeout:        defaultIdle,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxBackendHeader,
	}
	return b, nil
}

// Close ends the health checks and waits for the frontends, which the caller has closed before.
func (b *Balancer) Close() {
	b.fronts.Wait()
	b.Pool.close()
	b.backend.CloseIdleConnections()
}

// dialError tells a backend that took no connection, to which nothing has been sent, from one that failed later.
type dialError struct{ err error }

func (e *dialError) Error() string { return "connect to backend: " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func (b *Balancer) dialBackend(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := b.cfg.Dial(ctx, network, address)
	if err != nil {
		return nil, &dialError{err: err}
	}
	return conn, nil
}
