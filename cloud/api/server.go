package api

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// Server returns an HTTP server for h, the handler that New made, with bounds on everything that a client may draw
// out. A long poll of up to 60 s passes. The caller gives it a listener (Serve or ServeTLS) and shuts it down.
func Server(h http.Handler, logger *slog.Logger) *http.Server {
	if logger == nil {
		logger = slog.Default()
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      DefaultRequestTimeout + 15*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// checkRequest refuses what no client of these APIs sends.
func checkRequest(w http.ResponseWriter, r *http.Request) error {
	if !servesPath(r.URL.Path) {
		return model.Errorf("NotFound", http.StatusNotFound, "There is nothing at this path; use / or /services/NAME/")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		return model.Errorf("MethodNotAllowed", http.StatusMethodNotAllowed, "The method must be GET or POST")
	}
	return nil
}
