package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// console is a machine's serial console: bytes at the end of a file that is open only while it is written or read, so
// that a guest costs no file descriptor.
type console struct {
	path string
	from int64 // where this machine's bytes begin

	mu   sync.Mutex
	size int64
	over bool
	wake chan struct{} // closed at the next change; nil while nobody waits
}

// openConsole makes the file, mode 0600, or goes on at its end.
func openConsole(path string) (*console, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open console log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open console log: %w", err)
	}
	return &console{path: path, from: info.Size(), size: info.Size()}, nil
}

// pastConsole is that of a machine that has ended.
func pastConsole(path string, from int64) *console {
	c := &console{path: path, from: from, over: true}
	if info, err := os.Stat(path); err == nil {
		c.size = info.Size()
	}
	return c
}

// Write appends p. A machine that has ended writes nothing more.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, os.ErrClosed
	}
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("write console log: %w", err)
	}
	n, err := f.Write(p)
	c.size += int64(n)
	c.notify()
	if err := errors.Join(err, f.Close()); err != nil {
		return n, fmt.Errorf("write console log: %w", err)
	}
	return n, nil
}

// end is the last that is heard of the console.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.notify()
}

func (c *console) notify() {
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
}

// look tells how long the file is, whether it grows on, and what to wait for.
func (c *console) look() (size int64, over bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake == nil && !c.over {
		c.wake = make(chan struct{})
	}
	return c.size, c.over, c.wake
}

// follow reads the console from the machine's first byte on.
func (c *console) follow(ctx context.Context) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	return &follower{console: c, at: c.from, ctx: ctx, cancel: cancel}
}

type follower struct {
	console *console
	ctx     context.Context //nolint:containedctx // a reader has no other way to end with its caller's context
	cancel  context.CancelFunc
	at      int64
}

// Read waits for bytes; io.EOF when the machine has ended and all is read, or the context has.
func (f *follower) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if f.ctx.Err() != nil {
			return 0, io.EOF
		}
		size, over, changed := f.console.look()
		if f.at < size {
			return f.read(p[:min(int64(len(p)), size-f.at)])
		}
		if over {
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
		}
	}
	return 0, nil
}

func (f *follower) read(p []byte) (int, error) {
	file, err := os.Open(f.console.path)
	if err != nil {
		return 0, fmt.Errorf("read console log: %w", err)
	}
	defer file.Close()
	n, err := file.ReadAt(p, f.at)
	f.at += int64(n)
	if err != nil && (n == 0 || !errors.Is(err, io.EOF)) {
		return n, fmt.Errorf("read console log: %w", err)
	}
	return n, nil
}

// Close ends the reading, also one that waits in another goroutine.
func (f *follower) Close() error {
	f.cancel()
	return nil
}
