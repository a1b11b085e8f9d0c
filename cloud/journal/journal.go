// Package journal is the cloud's record of what happened: API requests, deliveries and refusals, instances,
// guests' milestones. Every event goes to an append-only file, one JSON object a line, and to whoever follows.
// An event never carries a secret; the packages that record say what they leave out.
package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Event is one thing that happened.
type Event struct {
	Time       time.Time         `json:"time"`
	Kind       string            `json:"kind"`    // dotted, for example delivery.denied
	Subject    string            `json:"subject"` // what it happened to: an instance id, an ARN, a node id
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Journal records events. A nil *Journal drops them, so that tests and small tools need none.
type Journal struct {
	mu        sync.Mutex
	w         io.Writer
	c         io.Closer
	err       error
	history   []Event
	followers map[chan struct{}]struct{}
	dropped   int // events that fell out of history

	path    string // of the file, if there is one
	sync    func() error
	syncing sync.Mutex
	written uint64 // records
	synced  uint64 // of them on the disk for certain; guarded by syncing
}

// keep bounds the events that late followers still see.
const keep = 10_000

// Open appends to the file at path, made with mode 0600 when missing. A file of 256 MB is put aside, as path with ".1"
// behind it, and another begun.
func Open(path string) (*Journal, error) { return openLimited(path, largestFile) }

func openLimited(path string, limit int64) (*Journal, error) {
	f, err := openFile(path, limit)
	if err != nil {
		return nil, err
	}
	j := New(f)
	j.c, j.path, j.sync = f, path, f.sync
	return j, nil
}

// New records to w.
func New(w io.Writer) *Journal {
	return &Journal{w: w, followers: map[chan struct{}]struct{}{}}
}

// Record writes ev; a zero Time means now. A fault of the file is kept for Close, never given to the caller: what
// happened has happened, whether it could be written down or not.
func (j *Journal) Record(_ context.Context, ev Event) {
	if j != nil {
		_, _ = j.record(ev)
	}
}

// RecordSynced writes ev and returns when it is on the disk, and everything before it. Its error means that the
// record may be lost, so that what it tells must not happen. Records that are made at the same time share a write to
// the disk.
func (j *Journal) RecordSynced(ctx context.Context, ev Event) error { return j.BeginSynced(ctx, ev)() }

// BeginSynced writes ev as RecordSynced does and returns at once; wait returns when it is on the disk. It must be
// called, before anybody learns of what ev tells.
func (j *Journal) BeginSynced(_ context.Context, ev Event) (wait func() error) {
	if j == nil {
		return func() error { return nil }
	}
	number, err := j.record(ev)
	if err != nil || j.sync == nil {
		return func() error { return err }
	}
	done := make(chan error, 1)
	go func() { done <- j.syncTo(number) }()
	return func() error { return <-done }
}

// syncTo returns when the records up to number are on the disk.
func (j *Journal) syncTo(number uint64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= number {
		return nil
	}
	j.mu.Lock()
	written := j.written
	j.mu.Unlock()
	if err := j.sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	j.synced = written
	return nil
}

// record writes ev and returns its number.
func (j *Journal) record(ev Event) (number uint64, err error) {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	line, err := json.Marshal(ev)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		_, err = j.w.Write(append(line, '\n'))
	}
	if err != nil {
		err = fmt.Errorf("write journal: %w", err)
		if j.err == nil {
			j.err = err
		}
	}
	j.written++
	if len(j.history) == keep {
		half := keep / 2
		j.history = append(make([]Event, 0, keep), j.history[half:]...)
		j.dropped += half
	}
	j.history = append(j.history, ev)
	for wake := range j.followers {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	return j.written, err
}

// Follow sends the events that are still remembered and then every new one, until ctx ends. A follower that is
// slower than 10,000 events misses the oldest.
func (j *Journal) Follow(ctx context.Context) <-chan Event {
	out := make(chan Event)
	wake := make(chan struct{}, 1)
	j.mu.Lock()
	j.followers[wake] = struct{}{}
	j.mu.Unlock()
	go func() {
		defer close(out)
		defer func() {
			j.mu.Lock()
			delete(j.followers, wake)
			j.mu.Unlock()
		}()
		next := 0
		for {
			var batch []Event
			batch, next = j.since(next)
			for _, ev := range batch {
				select {
				case out <- ev:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// Events returns what is still remembered, oldest first.
func (j *Journal) Events() []Event {
	if j == nil {
		return nil
	}
	events, _ := j.since(0)
	return events
}

// since returns the remembered events from number next on and the number that follows them.
func (j *Journal) since(next int) ([]Event, int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	from := max(0, next-j.dropped)
	return append([]Event(nil), j.history[from:]...), j.dropped + len(j.history)
}

// Close closes the file and returns the first fault of writing.
func (j *Journal) Close() error {
	if j == nil || j.c == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.c.Close(); err != nil && j.err == nil {
		j.err = fmt.Errorf("close journal: %w", err)
	}
	return j.err
}
