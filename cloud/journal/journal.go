// Package journal is the cloud's record of what happened: API requests, deliveries and refusals, instances,
// guests' milestones. Every event goes to an append-only file, one JSON object a line, and to whoever follows.
// An event never carries a secret; the packages that record say what they leave out.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
)

// Event is one thing that happened.
type Event struct {
	// Seq is the journal's own clock: it grows by one with each event, also from one process to the next, and is the
	// order of events where their times are not. Record gives it.
	Seq     uint64    `json:"seq,omitempty"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`    // dotted, for example delivery.denied
	Subject string    `json:"subject"` // what it happened to: an instance id, an ARN, a node id
	// Trace is what it is a part of, as 32 hexadecimal digits: a request and everything that followed from it. Span, 16
	// digits, is the step in which it happened. Both are W3C Trace Context's ids. Record takes them from the context.
	Trace string `json:"trace,omitempty"`
	Span  string `json:"span,omitempty"`
	// Parent is the step that caused Span, where that is known.
	Parent     string            `json:"parent,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Journal records events. A nil *Journal drops them, so that tests and small tools need none.
type Journal struct {
	w         io.Writer
	c         io.Closer
	path      string // of the file, if there is one
	sync      func() error
	auditOnly atomic.Bool
	scratch   sync.Pool

	// What all who record change is together, and apart from what they only read: it goes from core to core each time.
	_         cpu.CacheLinePad
	mu        sync.Mutex
	seq       uint64 // of the latest event
	written   uint64 // records
	followers map[chan struct{}]struct{}
	latest    memory // lines as in the file
	err       error
	_         cpu.CacheLinePad

	syncing sync.Mutex
	synced  uint64 // of the records on the disk for certain; guarded by syncing
}

// Open appends to the file at path, made with mode 0600 when missing. A file of 4 MB is put aside, compressed, and
// another begun; of what was put aside the newest 256 MB stay, and every decision about a key.
func Open(path string) (*Journal, error) {
	return openLimited(path, limits{file: largestFile, kept: keptFiles})
}

func openLimited(path string, l limits) (*Journal, error) {
	f, err := openFile(path, l)
	if err != nil {
		return nil, err
	}
	j := New(f)
	j.c, j.path, j.sync = f, path, f.sync
	if j.seq, err = latest(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

// New records to w.
func New(w io.Writer) *Journal {
	return &Journal{w: w, followers: map[chan struct{}]struct{}{}}
}

// Record writes ev; a zero Time means now. A fault of the file is kept for Close, never given to the caller: what
// happened has happened, whether it could be written down or not.
func (j *Journal) Record(ctx context.Context, ev Event) {
	if j != nil && !j.auditOnly.Load() {
		_, _ = j.record(ctx, &ev, nil)
	}
}

// Attribute is one of an event's attributes. Its name is of letters and digits.
type Attribute struct{ Name, Value string }

// RecordList is Record for what every request tells: the event's attributes are those of the list that are not empty.
// The list is in the order of their names.
func (j *Journal) RecordList(ctx context.Context, ev Event, attributes []Attribute) {
	if j != nil && !j.auditOnly.Load() {
		_, _ = j.record(ctx, &ev, attributes)
	}
}

// AuditOnly leaves out, from now on, all that Record is told: only what must not be lost is written then. It is for
// measuring what the rest costs.
func (j *Journal) AuditOnly(only bool) { j.auditOnly.Store(only) }

// RecordSynced writes ev and returns when it is on the disk, and everything before it. Its error means that the
// record may be lost, so that what it tells must not happen. Records that are made at the same time share a write to
// the disk.
func (j *Journal) RecordSynced(ctx context.Context, ev Event) error { return j.BeginSynced(ctx, ev)() }

// BeginSynced writes ev as RecordSynced does and returns at once; wait returns when it is on the disk. It must be
// called, before anybody learns of what ev tells.
func (j *Journal) BeginSynced(ctx context.Context, ev Event) (wait func() error) {
	if j == nil {
		return func() error { return nil }
	}
	number, err := j.record(ctx, &ev, nil)
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

// record writes ev, with the attributes of the list if it has none, and returns its number.
func (j *Journal) record(ctx context.Context, ev *Event, list []Attribute) (number uint64, err error) {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	scratch, _ := j.scratch.Get().(*[]byte)
	if scratch == nil {
		scratch = new([]byte)
	}
	defer j.scratch.Put(scratch)
	*scratch = encode((*scratch)[:0], ev, stepOf(ctx, ev), list)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	line := numbered(*scratch, j.seq)
	if _, err = j.w.Write(line); err != nil {
		err = fmt.Errorf("write journal: %w", err)
		if j.err == nil {
			j.err = err
		}
	}
	j.written++
	j.latest.add(line)
	if len(j.followers) > 0 { // to look into an empty map takes longer than to remember a line
		j.wake()
	}
	return j.written, err
}

// wake tells all followers that there is more.
func (j *Journal) wake() {
	for wake := range j.followers {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
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
			var batch [][]byte
			batch, next = j.since(next)
			for _, line := range batch {
				ev, ok := decode(line)
				if !ok {
					continue
				}
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
	lines, _ := j.since(0)
	events := make([]Event, 0, len(lines))
	for _, line := range lines {
		if ev, ok := decode(line); ok {
			events = append(events, ev)
		}
	}
	return events
}

// since returns the lines of the remembered events from number next on, and the number that follows them.
func (j *Journal) since(next int) (lines [][]byte, after int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.latest.since(next)
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
