package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	errNoBackend = errors.New("no backend is in service")
	errIdle      = errors.New("idle timeout")
)

// proxy answers the requests of one HTTP or HTTPS listener.
type proxy struct {
	balancer *Balancer
	front    *Frontend
	reverse  *httputil.ReverseProxy
}

func newProxy(b *Balancer, f *Frontend) *proxy {
	p := &proxy{balancer: b, front: f}
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      p,
		ErrorHandler:   p.fail,
		ModifyResponse: p.watchAnswer,
		BufferPool:     &b.buffers,
		// A load balancer hands on what comes; it does not gather it.
		FlushInterval: -1,
		ErrorLog:      quietLog(b.cfg.Logger),
	}
	return p
}

// ServeHTTP implements http.Handler. Nothing moving in either direction for the idle timeout ends the request.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.front.work.begin()
	defer p.front.work.end()
	if r.Method == http.MethodConnect {
		p.answer(w, http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	control := http.NewResponseController(w)
	dog := newWatchdog(p.front.route.Load().idle(), func() {
		cancel(errIdle)
		// A client that neither sends nor takes anything blocks reads and writes that know no context.
		_ = control.SetReadDeadline(time.Unix(1, 0))
		_ = control.SetWriteDeadline(time.Unix(1, 0))
	})
	defer dog.stop()
	r = r.WithContext(context.WithValue(ctx, watchdogKey{}, dog))
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &watchedBody{ReadCloser: r.Body, dog: dog}
	}
	p.reverse.ServeHTTP(&watchedWriter{ResponseWriter: w, dog: dog}, r)
}

type watchdogKey struct{}

// rewrite makes the request for the backend. What the client said of earlier hops stays; our hop is added as classic
// load balancers do it (AWS, Classic Load Balancers guide, "HTTP headers and Classic Load Balancers").
func (p *proxy) rewrite(r *httputil.ProxyRequest) {
	route := p.front.route.Load()
	r.Out.URL.Scheme = "http"
	if route.Protocol == HTTPS {
		r.Out.URL.Scheme = "https"
	}
	// The backend is chosen in RoundTrip, perhaps twice; a URL needs some host until then.
	r.Out.URL.Host = "backend"
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	r.Out.Host = r.In.Host

	for _, name := range []string{"Forwarded", "X-Forwarded-Host"} {
		if values, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = values
		}
	}
	client, _, err := net.SplitHostPort(r.In.RemoteAddr)
	if err != nil {
		client = r.In.RemoteAddr
	}
	hops := append(slices.Clone(r.In.Header["X-Forwarded-For"]), client)
	r.Out.Header.Set("X-Forwarded-For", strings.Join(hops, ", "))
	proto := "http"
	if r.In.TLS != nil {
		proto = "https"
	}
	r.Out.Header.Set("X-Forwarded-Proto", proto)
	r.Out.Header.Set("X-Forwarded-Port", strconv.Itoa(p.front.port))
}

// RoundTrip sends a request to the backend whose turn it is. When that one takes no connection, and the request may be
// repeated without harm, another backend is tried once.
func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	p.balancer.Metrics.request()
	backend, ok := p.balancer.Pool.Next("")
	if !ok {
		return nil, errNoBackend
	}
	answer, err := p.send(r, backend)
	var refused *dialError
	if err == nil || !errors.As(err, &refused) || !repeatable(r) || r.Context().Err() != nil {
		return answer, err
	}
	other, ok := p.balancer.Pool.Next(backend.InstanceID)
	if !ok {
		return nil, err
	}
	return p.send(r, other)
}

func (p *proxy) send(r *http.Request, backend Backend) (*http.Response, error) {
	route := p.front.route.Load()
	target := *r.URL
	target.Host = net.JoinHostPort(backend.Address, strconv.Itoa(route.Port))
	out := r.WithContext(r.Context())
	out.URL = &target
	began := time.Now()
	answer, err := p.balancer.backend.RoundTrip(out)
	if err != nil {
		return nil, fmt.Errorf("ask backend %s: %w", backend.InstanceID, err)
	}
	p.balancer.Metrics.answered(answer.StatusCode, time.Since(began))
	return answer, nil
}

// repeatable tells whether sending a request twice is the same as once (RFC 9110, 9.2.2), and can be done: a body may
// have been read already.
func repeatable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return r.Body == nil || r.Body == http.NoBody
	default:
		return false
	}
}

// watchAnswer lets the bytes of the answer, or of both directions after an upgrade, keep the watchdog quiet.
func (p *proxy) watchAnswer(answer *http.Response) error {
	dog, ok := answer.Request.Context().Value(watchdogKey{}).(*watchdog)
	if !ok {
		return nil
	}
	dog.touch()
	if both, ok := answer.Body.(io.ReadWriteCloser); ok {
		answer.Body = &watchedStream{ReadWriteCloser: both, dog: dog}
	}
	return nil
}

// fail answers for a backend that gave none.
func (p *proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	var slow net.Error
	status := http.StatusBadGateway
	switch cause := context.Cause(r.Context()); {
	case errors.Is(cause, context.Canceled):
		// The client left, or the listener closes: nobody waits for this answer and nobody is to blame.
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case errors.Is(cause, errIdle):
		status = http.StatusGatewayTimeout
		// The watchdog closed both directions of the client; the answer needs one of them.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
		w.Header().Set("Connection", "close")
	case errors.Is(err, errNoBackend):
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		status = http.StatusGatewayTimeout
	}
	p.balancer.cfg.Logger.Debug("request not answered by a backend",
		"listener", p.front.port, "status", status, "error", err)
	p.answer(w, status)
}

// answer gives one of the load balancer's own answers.
func (p *proxy) answer(w http.ResponseWriter, status int) {
	p.balancer.Metrics.own(status)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "%d %s\n", status, http.StatusText(status))
}

// bufferPool lends the buffers through which bytes are copied.
type bufferPool struct{ pool sync.Pool }

// copyBuffer is a TLS record's worth of bytes.
const copyBuffer = 16 << 10

func (b *bufferPool) Get() []byte {
	if buffer, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return buffer[:]
	}
	return make([]byte, copyBuffer)
}

func (b *bufferPool) Put(buffer []byte) {
	if len(buffer) == copyBuffer {
		b.pool.Put((*[copyBuffer]byte)(buffer))
	}
}
