package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// consoleTick is how often a reader looks at its file when nothing wakes it.
const consoleTick = 250 * time.Millisecond

// tailBytes is how much of a console's end is kept as evidence.
const tailBytes = 4 << 10

// follower reads a console log as it grows.
type follower struct {
	ctx    context.Context // a reader has no other way to end with its caller's context
	cancel context.CancelFunc
	file   *os.File
	grown  <-chan struct{}
	ended  <-chan struct{} // closed when the machine writes no more
	tick   *time.Ticker
	last   bool // the machine had ended before the latest look at the file
	done   func()
}

// Console follows the serial console from the machine's first byte.
func (m *machine) Console(ctx context.Context) (io.ReadCloser, error) {
	file, err := os.Open(m.notes.Console)
	if err != nil {
		return nil, fmt.Errorf("open console of machine %s: %w", m.notes.ID, err)
	}
	if _, err := file.Seek(m.notes.From, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("open console of machine %s: %w", m.notes.ID, err), file.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	ended, err := m.ended(ctx)
	if err != nil {
		cancel()
		return nil, errors.Join(err, file.Close())
	}
	grown := m.driver.files.add(m.notes.Console)
	return &follower{
		ctx: ctx, cancel: cancel, file: file, grown: grown, ended: ended, tick: time.NewTicker(consoleTick),
		done: func() { m.driver.files.remove(m.notes.Console, grown) },
	}, nil
}

// ended returns a channel that is closed when the machine has ended or ctx has.
func (m *machine) ended(ctx context.Context) (<-chan struct{}, error) {
	ctx, cancel := context.WithCancel(ctx)
	// Subscribed before the state is asked, so that no end is missed in between.
	events, err := m.driver.Events(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	state, err := m.State(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer cancel()
		defer close(ended)
		if over(state) {
			return
		}
		for e := range events {
			if e.ID == m.notes.ID && over(e.State) {
				return
			}
		}
	}()
	return ended, nil
}

func over(s hypervisor.State) bool { return s != hypervisor.Running && s != hypervisor.Paused }

// Read waits for bytes; io.EOF when the machine has ended and all is read, or the context has ended.
func (f *follower) Read(p []byte) (int, error) {
	for {
		if f.ctx.Err() != nil {
			return 0, io.EOF
		}
		n, err := f.file.Read(p)
		switch {
		case n > 0 || len(p) == 0:
			return n, nil
		case errors.Is(err, os.ErrClosed) || f.last:
			return 0, io.EOF
		case !errors.Is(err, io.EOF):
			return 0, fmt.Errorf("read console: %w", err)
		}
		select {
		case <-f.ended:
			f.last = true // one more look: it may have written between our read and its end
		case <-f.grown:
		case <-f.tick.C:
		case <-f.ctx.Done():
		}
	}
}

// Close ends the reading, also one that waits in another goroutine.
func (f *follower) Close() error {
	f.cancel()
	f.tick.Stop()
	f.done()
	return f.file.Close()
}

// endsInPanic says whether a console's tail shows that the kernel gave up.
func endsInPanic(tail string) bool { return strings.Contains(tail, "Kernel panic - not syncing") }

// consoleTail returns the last bytes of a console log, at most tailBytes, of those behind from.
func consoleTail(path string, from int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	at := max(from, info.Size()-tailBytes)
	data := make([]byte, tailBytes)
	n, err := file.ReadAt(data, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return string(bytes.ToValidUTF8(data[:n], []byte("?")))
}
