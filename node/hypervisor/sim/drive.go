package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/node/floppy"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// errEjected is what reading gives once the medium is out.
var errEjected = errors.New("the medium was taken out")

// medium is a floppy image while it is in a drive: the file itself, not a copy, so that it is gone from here when its
// owner has wiped it.
type medium struct {
	mu   sync.Mutex
	file *os.File             // nil once ejected
	bad  []hypervisor.Sectors // that cannot be read
}

func openMedium(path string) (*medium, error) {
	if err := checkFile("medium", path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open medium: %w", err)
	}
	return &medium{file: f}, nil
}

// ReadAt reads from the image, for as long as the medium is in the drive.
func (m *medium) ReadAt(p []byte, at int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return 0, errEjected
	}
	n, err := m.file.ReadAt(p, at)
	m.blank(p[:n], at)
	return n, err
}

func (m *medium) close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file != nil {
		_ = m.file.Close() // nothing was written
		m.file = nil
	}
}

// drive is a machine's floppy drive.
type drive struct {
	mu      sync.Mutex
	medium  *medium
	removed bool          // the machine has ended
	read    *medium       // what the guest has read, while it is in the drive
	opened  bool          // the guest has opened a medium once
	put     time.Time     // when the last medium was put in
	wake    chan struct{} // closed at the next change; nil while nobody waits
	told    chan struct{} // capacity 1: another medium came after one was opened
}

func newDrive(m *medium) *drive {
	return &drive{medium: m, put: time.Now(), told: make(chan struct{}, 1)}
}

// insert puts a medium in place of what is there; false when the drive is gone.
func (d *drive) insert(m *medium) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.removed {
		m.close()
		return false
	}
	d.change(m)
	if d.opened {
		select {
		case d.told <- struct{}{}:
		default:
		}
	}
	return true
}

// empty takes the medium out; false when there is none.
func (d *drive) empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	there := d.medium != nil
	d.change(nil)
	return there
}

// eject empties the drive for good.
func (d *drive) eject() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removed = true
	d.change(nil)
}

func (d *drive) change(m *medium) {
	d.medium.close()
	d.medium, d.read = m, nil
	if m != nil {
		d.put = time.Now()
	}
	if d.wake != nil {
		close(d.wake)
		d.wake = nil
	}
}

// since is when the last medium was put in, be it there still or not.
func (d *drive) since() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.put
}

// look returns what is in the drive, nil for nothing, and a channel that is closed at the next change.
func (d *drive) look() (m *medium, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.medium, d.waitLocked()
}

// fresh is look for a medium that the guest has not read yet, which from then on counts as read.
func (d *drive) fresh() (m *medium, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.medium == nil || d.medium == d.read {
		return nil, d.waitLocked()
	}
	d.read, d.opened = d.medium, true
	return d.medium, nil
}

func (d *drive) waitLocked() <-chan struct{} {
	if d.wake == nil {
		d.wake = make(chan struct{})
	}
	return d.wake
}

// unread makes the medium one that may be opened again.
func (d *drive) unread(m *medium) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read == m {
		d.read = nil
	}
}

// source is the drive as the agent sees it (agent.MediumSource).
type source struct {
	drive *drive
	// spin passes the time that a real drive takes, before a medium is read. It may never return but by ctx.
	spin func(ctx context.Context) error
}

func (s *source) Changed() <-chan struct{} { return s.drive.told }

// Open waits for a medium that was not read yet. A read error makes it one that was not.
func (s *source) Open(ctx context.Context) (fs.FS, error) {
	for {
		m, changed := s.drive.fresh()
		if m != nil {
			if err := s.spin(ctx); err != nil {
				return nil, fmt.Errorf("read medium: %w", err)
			}
			return s.files(m), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a medium: %w", ctx.Err())
		}
	}
}

func (s *source) files(m *medium) fs.FS {
	r := &noticing{medium: m, drive: s.drive}
	files, err := floppy.Read(r)
	if err != nil {
		s.drive.unread(m)
		return failedFS{err}
	}
	return files
}

// noticing reads a medium and tells the drive of a read error.
type noticing struct {
	medium *medium
	drive  *drive
}

func (n *noticing) ReadAt(p []byte, at int64) (int, error) {
	read, err := n.medium.ReadAt(p, at)
	if err != nil && !errors.Is(err, io.EOF) {
		n.drive.unread(n.medium)
	}
	return read, err
}

// failedFS is a medium that cannot be read.
type failedFS struct{ err error }

func (f failedFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: f.err}
}
