package scale

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress writes lines for people who wait, at most one a second.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	began time.Time
	last  time.Time
}

func newProgress(w io.Writer) *progress { return &progress{w: w, began: time.Now()} }

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.last) < time.Second {
		return
	}
	p.last = now
	_, _ = fmt.Fprintf(p.w, "%6.1f s  %s\n", now.Sub(p.began).Seconds(), fmt.Sprintf(format, args...))
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.w, "%6.1f s  done\n", time.Since(p.began).Seconds())
}
