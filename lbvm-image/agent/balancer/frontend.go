package balancer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// headerTimeout bounds the reading of a request's headers and, before it, the TLS handshake.
	headerTimeout = 30 * time.Second
	// maxHeader bounds a request's headers, in bytes.
	maxHeader = 64 << 10
	// acceptPause is how long a port rests after an accept that went wrong, as when descriptors run out.
	acceptPause = 50 * time.Millisecond
)

// Route is where a listener's traffic goes. It can be changed while the listener serves.
type Route struct {
	// Protocol spoken with the instances; of the same layer as the listener's.
	Protocol Protocol
	// Port of the instances.
	Port int
	// Idle is how long a connection may be silent. Default 60 s.
	Idle time.Duration
}

func (r *Route) idle() time.Duration {
	if r.Idle <= 0 {
		return defaultIdle
	}
	return r.Idle
}

// FrontendConfig says what to open.
type FrontendConfig struct {
	// Listener is the open port; the frontend closes it.
	Listener net.Listener
	// Protocol that clients speak.
	Protocol Protocol
	// Port of the load balancer, told to backends in X-Forwarded-Port.
	Port int
	// Route to the instances.
	Route Route
	// Certificate shown to clients. Needed when Protocol is secure.
	Certificate *tls.Certificate
}

// Frontend is one open port of the load balancer.
type Frontend struct {
	balancer *Balancer
	protocol Protocol
	port     int
	route    atomic.Pointer[Route]
	tlsBase  *tls.Config
	tlsNow   atomic.Pointer[tls.Config]

	handshakes handshakes

	listener *limitedListener
	server   *http.Server
	idlers   idlers

	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
	work   tracker
	closed sync.Once
}

// Open starts to serve a port. The frontend serves until Close.
func (b *Balancer) Open(cfg FrontendConfig) (*Frontend, error) {
	if cfg.Protocol.Secure() && cfg.Certificate == nil {
		return nil, errors.New("secure listener has no certificate")
	}
	if cfg.Protocol.Layer7() != cfg.Route.Protocol.Layer7() {
		return nil, errors.New("listener and instance protocol are of different layers")
	}
	f := &Frontend{
		balancer: b, protocol: cfg.Protocol, port: cfg.Port,
		listener: newLimitedListener(cfg.Listener, b.cfg.Connections),
		ended:    make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.SetRoute(cfg.Route)
	if tell := b.cfg.Handshakes; tell != nil {
		f.handshakes.tell = func(h Handshakes) { tell(cfg.Port, h) }
	}
	if tell := b.cfg.Handshake; tell != nil {
		f.handshakes.one = func(h Handshake) { tell(cfg.Port, h) }
	}
	if cfg.Protocol.Secure() {
		f.tlsBase = &tls.Config{
			MinVersion: tls.VersionTLS12,
			MaxVersion: tls.VersionTLS13,
			// As classic load balancers: no post-quantum exchange, which would double an emulated guest's handshake.
			CurvePreferences:   []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
			GetConfigForClient: f.choose,
			VerifyConnection:   f.agreed,
		}
		f.SetCertificate(cfg.Certificate)
	}
	serve := f.serveStreams
	if cfg.Protocol.Layer7() {
		f.server = &http.Server{
			Handler:           newProxy(b, f),
			ReadHeaderTimeout: headerTimeout,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          f.complaints(),
			BaseContext:       func(net.Listener) context.Context { return f.ctx },
			ConnState:         f.idlers.watch(func() time.Duration { return f.route.Load().idle() }),
		}
		serve = f.serveRequests
	}
	b.fronts.Go(func() {
		defer close(f.ended)
		serve()
	})
	return f, nil
}

// SetRoute changes where new requests and connections go.
func (f *Frontend) SetRoute(r Route) { f.route.Store(&r) }

// SetCertificate changes what new handshakes are shown. Connections that exist go on undisturbed, but a session begun
// with another certificate is not resumed: its client would go on believing in that one.
func (f *Frontend) SetCertificate(certificate *tls.Certificate) {
	f.tlsNow.Store(withCertificate(f.tlsBase, certificate))
}

func (f *Frontend) tls() *tls.Config { return f.tlsBase }

// Ended is closed when the port serves no more, be it by Close or because the listener broke.
func (f *Frontend) Ended() <-chan struct{} { return f.ended }

// Stop closes the port at once and leaves what is under way alone, until Close.
func (f *Frontend) Stop() { _ = f.listener.Close() }

// Close stops the port, lets requests and connections under way finish until ctx ends, and then ends them. It returns
// when everything has ended. Later calls return at once.
func (f *Frontend) Close(ctx context.Context) {
	f.closed.Do(func() {
		f.Stop()
		if f.server != nil {
			if err := f.server.Shutdown(ctx); err != nil {
				f.cancel()
				_ = f.server.Close()
			}
			f.idlers.stop()
		}
		// The accept loop has ended before the work is counted, so none is added meanwhile.
		<-f.ended
		idle := f.work.idle()
		select {
		case <-idle:
		case <-ctx.Done():
		}
		f.cancel()
		<-idle
		f.handshakes.close()
	})
}

func (f *Frontend) serveRequests() {
	var listener net.Listener = f.listener
	if f.protocol.Secure() {
		listener = tls.NewListener(listener, f.tlsBase)
	}
	err := f.server.Serve(listener)
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		f.balancer.cfg.Logger.Warn("listener ended", "listener", f.port, "error", err)
	}
}

func (f *Frontend) serveStreams() {
	for {
		client, release, err := f.listener.accept()
		if err != nil {
			var brief interface{ Temporary() bool }
			if errors.As(err, &brief) && brief.Temporary() && sleep(f.ctx, acceptPause) {
				continue
			}
			if !errors.Is(err, net.ErrClosed) {
				f.balancer.cfg.Logger.Warn("listener ended", "listener", f.port, "error", err)
			}
			return
		}
		f.work.begin()
		go func() {
			defer f.work.end()
			defer release()
			if err := f.carry(f.ctx, client); err != nil {
				f.balancer.cfg.Logger.Debug("connection ended", "listener", f.port, "error", err)
			}
		}()
	}
}
