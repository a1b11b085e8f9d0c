package imds

import (
	"log/slog"
	"net/http"
)

// traced logs every request with its answer's status at level debug: what a guest asked, never what it was told.
func (s *service) traced(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.cfg.Logger.Enabled(r.Context(), slog.LevelDebug) {
			next(w, r)
			return
		}
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next(seen, r)
		id, _ := s.cfg.InstanceFrom(r.Context())
		s.cfg.Logger.Debug("metadata request", "instance", id, "method", r.Method, "path", r.URL.Path,
			"status", seen.status)
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
