package balancer

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// What is told of handshakes is bounded, whatever clients do: of each listener the first one soon, and after that the
// counts, no more often than this, with so many single ones that came since.
const (
	firstHandshakes = 50 * time.Millisecond
	nextHandshakes  = 10 * time.Second
	singly          = 4
	maxFailure      = 120 // bytes of a failure's reason
	maxServerName   = 253 // bytes, of a DNS name
)

// Handshakes are those of one listener since it was opened.
type Handshakes struct {
	// Begun is how many clients said hello, Failed how many handshakes came to nothing, some of them before that.
	Begun, Failed uint64
	// Failure is why the last one that failed did; empty when none has.
	Failure string
}

// Handshake is one of them.
type Handshake struct {
	// Version and Cipher are what the two agreed on, such as "TLS 1.3" and "TLS_AES_128_GCM_SHA256"; ServerName is what
	// the client asked for, which may be anything or empty. All are empty of a handshake that failed.
	Version, Cipher, ServerName string
	// Resumed says that it went on with an earlier session.
	Resumed bool
	// Failure is why it came to nothing; empty when it did not.
	Failure string
}

// handshakes counts, and tells from time to time.
type handshakes struct {
	tell func(Handshakes) // nil: nobody is told
	one  func(Handshake)  // nil: nobody is told of single ones

	mu     sync.Mutex
	counts Handshakes
	single []Handshake // that are still to be told
	told   bool        // once
	timer  *time.Timer // set while something is to be told
	closed bool
}

func (h *handshakes) begun() { h.change(func(c *Handshakes) { c.Begun++ }) }

func (h *handshakes) failed(reason string) {
	if len(reason) > maxFailure {
		reason = strings.ToValidUTF8(reason[:maxFailure], "")
	}
	h.change(func(c *Handshakes) {
		c.Failed, c.Failure = c.Failed+1, reason
		h.addLocked(Handshake{Failure: reason})
	})
}

// done takes what the two agreed on.
func (h *handshakes) done(state tls.ConnectionState) {
	name := state.ServerName
	if len(name) > maxServerName {
		name = strings.ToValidUTF8(name[:maxServerName], "")
	}
	h.change(func(*Handshakes) {
		h.addLocked(Handshake{Version: tls.VersionName(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite),
			ServerName: name, Resumed: state.DidResume})
	})
}

func (h *handshakes) addLocked(one Handshake) {
	if h.one != nil && len(h.single) < singly {
		h.single = append(h.single, one)
	}
}

func (h *handshakes) change(change func(*Handshakes)) {
	if h.tell == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.counts)
	if h.timer != nil || h.closed {
		return
	}
	pause := nextHandshakes
	if !h.told {
		pause = firstHandshakes
	}
	h.timer = time.AfterFunc(pause, h.fire)
}

func (h *handshakes) fire() {
	h.mu.Lock()
	counts, single, dirty := h.counts, h.single, h.timer != nil
	h.timer, h.single, h.told = nil, nil, true
	h.mu.Unlock()
	if !dirty {
		return
	}
	for _, one := range single {
		h.one(one)
	}
	h.tell(counts)
}

// close tells what is still to be told.
func (h *handshakes) close() {
	h.mu.Lock()
	h.closed = true
	waiting := h.timer != nil && h.timer.Stop()
	h.mu.Unlock()
	if waiting {
		h.fire()
	}
}

// choose counts a client's hello and returns what answers it.
func (f *Frontend) choose(*tls.ClientHelloInfo) (*tls.Config, error) {
	f.handshakes.begun()
	return f.tlsNow.Load(), nil
}

// agreed counts a handshake on whose outcome both sides agree.
func (f *Frontend) agreed(state tls.ConnectionState) error {
	f.handshakes.done(state)
	return nil
}

// complaints takes net/http's own words, which clients can cause at will: it counts those on handshakes, of which
// nobody else tells, and hands them all to the debug level.
func (f *Frontend) complaints() *log.Logger {
	next := slog.NewLogLogger(f.balancer.cfg.Logger.Handler(), slog.LevelDebug)
	return log.New(&complaintWriter{handshakes: &f.handshakes, next: next.Writer()}, "", 0)
}

type complaintWriter struct {
	handshakes *handshakes
	next       io.Writer
}

// Write implements io.Writer.
func (w *complaintWriter) Write(line []byte) (int, error) {
	if rest, ok := bytes.CutPrefix(line, []byte("http: TLS handshake error from ")); ok {
		_, reason, _ := strings.Cut(strings.TrimSpace(string(rest)), ": ")
		w.handshakes.failed(reason)
	}
	return w.next.Write(line)
}
