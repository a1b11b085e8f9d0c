package imds

import (
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
)

// Request is what is told of a request: what a guest asked, never what it was told.
type Request struct {
	InstanceID   string // empty when nobody vouches for who asked
	Method, Path string // as the guest wrote them
	Status       int    // of the answer
	// Traceparent is the step of a trace that the guest says it is in (W3C Trace Context); empty when it says none.
	Traceparent string
}

// traceHeader is W3C Trace Context's.
const traceHeader = "Traceparent"

// traced tells of every request with its answer's status. What the answer needs from elsewhere is asked for as a part
// of the step that the guest names.
func (s *service) traced(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		debug := s.cfg.Logger.Enabled(r.Context(), slog.LevelDebug)
		if !debug && s.cfg.Asked == nil {
			next(w, r)
			return
		}
		asked := Request{Method: r.Method, Path: r.URL.Path, Traceparent: r.Header.Get(traceHeader)}
		if asked.Traceparent != "" {
			step := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
			r = r.WithContext(step)
		}
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next(seen, r)
		asked.InstanceID, _ = s.cfg.InstanceFrom(r.Context())
		asked.Status = seen.status
		if debug {
			s.cfg.Logger.Debug("metadata request", "instance", asked.InstanceID, "method", asked.Method,
				"path", asked.Path, "status", asked.Status)
		}
		if s.cfg.Asked != nil {
			s.cfg.Asked(asked)
		}
	})
}

// statusWriter remembers an answer's status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets an http.ResponseController through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
