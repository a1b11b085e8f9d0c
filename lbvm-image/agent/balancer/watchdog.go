package balancer

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// watchdog calls a function once when nobody has touched it for a while. It may be used from several goroutines.
type watchdog struct {
	mu      sync.Mutex
	timer   *time.Timer
	idle    time.Duration
	stopped bool
}

func newWatchdog(idle time.Duration, bite func()) *watchdog {
	return &watchdog{idle: idle, timer: time.AfterFunc(idle, bite)}
}

func (d *watchdog) touch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Only a timer that is still running is wound up: one that has run out has done its work.
	if !d.stopped && d.timer.Stop() {
		d.timer.Reset(d.idle)
	}
}

func (d *watchdog) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	d.timer.Stop()
}

// watchedBody touches the watchdog for each piece that the client sends.
type watchedBody struct {
	io.ReadCloser
	dog *watchdog
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.dog.touch()
	}
	return n, err
}

// watchedStream is the backend's side of an upgraded connection.
type watchedStream struct {
	io.ReadWriteCloser
	dog *watchdog
}

func (s *watchedStream) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	if n > 0 {
		s.dog.touch()
	}
	return n, err
}

func (s *watchedStream) Write(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Write(p)
	if n > 0 {
		s.dog.touch()
	}
	return n, err
}

// CloseWrite ends one direction where the stream can.
func (s *watchedStream) CloseWrite() error { return closeWrite(s.ReadWriteCloser) }

// watchedWriter touches the watchdog for each piece that the client takes.
type watchedWriter struct {
	http.ResponseWriter
	dog *watchdog
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if n > 0 {
		w.dog.touch()
	}
	return n, err
}

// Unwrap lets http.ResponseController reach flushing, hijacking and deadlines.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
