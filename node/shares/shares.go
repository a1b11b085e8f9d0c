// Package shares divides a host's memory and cores among processes: nodes that boot guests at the same time, and suites
// that run side by side, never take more than there is. It is a folder of small files under one lock: each process that
// holds a share has a file that says how much, and keeps a lock on it for as long as it lives. What a killed process
// held is free as soon as it is gone. Nothing in it is first come, first served.
package shares

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// ErrTooMuch means that a share is larger than all that there is: waiting would not help.
var ErrTooMuch = errors.New("more than this machine has")

// retry is how often a process that waits looks again. What frees a share may be a death, which tells nobody.
const retry = 100 * time.Millisecond

// Share is memory in MB and processor cores in thousandths.
type Share struct {
	MemoryMB   int `json:"memoryMB"`
	MilliCores int `json:"milliCores"`
}

func (s Share) plus(o Share) Share {
	return Share{MemoryMB: s.MemoryMB + o.MemoryMB, MilliCores: s.MilliCores + o.MilliCores}
}

func (s Share) within(o Share) bool { return s.MemoryMB <= o.MemoryMB && s.MilliCores <= o.MilliCores }

// String is for messages.
func (s Share) String() string {
	return fmt.Sprintf("%d MB and %s cores", s.MemoryMB, strconv.FormatFloat(float64(s.MilliCores)/1000, 'f', -1, 64))
}

// Pool is what is shared: one folder, which all processes name alike.
type Pool struct {
	// Dir is made when it is not there.
	Dir string
	// Total is all that there is; all processes must say the same.
	Total Share
}

// Lease is a share that a process holds.
type Lease struct {
	mu   sync.Mutex
	file *os.File // locked; nil once released
}

// holder is what a file says.
type holder struct {
	Share Share     `json:"share"`
	PID   int       `json:"pid"`
	Who   string    `json:"who"`
	Since time.Time `json:"since"`
}

// Acquire takes a share, and waits for it until ctx ends. who is told to others that wait. ErrTooMuch when it never
// fits; when ctx ends, the error names who holds what.
func (p Pool) Acquire(ctx context.Context, share Share, who string) (*Lease, error) {
	if share.MemoryMB < 0 || share.MilliCores < 0 {
		return nil, fmt.Errorf("take %s: a share cannot be negative", share)
	}
	if !share.within(p.Total) {
		return nil, fmt.Errorf("take %s of %s: %w; run fewer or smaller guests", share, p.Total, ErrTooMuch)
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of shares: %w", err)
	}
	tick := time.NewTicker(retry)
	defer tick.Stop()
	for {
		lease, others, err := p.try(ctx, share, who)
		if lease != nil || err != nil {
			return lease, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s of %s: %w; held by %s", share, p.Total, ctx.Err(), describe(others))
		case <-tick.C:
		}
	}
}

// try takes the share if it is free, under the folder's lock; otherwise it returns those who hold the rest.
func (p Pool) try(ctx context.Context, share Share, who string) (*Lease, []holder, error) {
	all := flock.New(filepath.Join(p.Dir, "lock"))
	if ok, err := all.TryLockContext(ctx, retry/10); !ok {
		return nil, nil, fmt.Errorf("lock the folder of shares %s: %w", p.Dir, err)
	}
	defer func() { _ = all.Close() }()
	holders, err := p.holders()
	if err != nil {
		return nil, nil, err
	}
	used := share
	for _, h := range holders {
		used = used.plus(h.Share)
	}
	if !used.within(p.Total) {
		return nil, holders, nil
	}
	lease, err := p.write(holder{Share: share, PID: os.Getpid(), Who: who, Since: time.Now().UTC()})
	return lease, nil, err
}

// write makes the file of a lease and locks it before it has a name that others look at.
func (p Pool) write(h holder) (*Lease, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(p.Dir, "new-*")
	if err != nil {
		return nil, fmt.Errorf("write down a share: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(f.Name(), p.heldName(f)) //nolint:gosec // both names are made here, in a folder of this user's
	}
	if err != nil {
		return nil, fmt.Errorf("write down a share: %w", errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	return &Lease{file: f}, nil
}

// heldName is the name of a lease's file once it is locked.
func (p Pool) heldName(f *os.File) string {
	return filepath.Join(p.Dir, "held"+strings.TrimPrefix(filepath.Base(f.Name()), "new"))
}

// holders lists the live ones, and removes what the dead left. The folder's lock is held.
func (p Pool) holders() ([]holder, error) {
	paths, err := filepath.Glob(filepath.Join(p.Dir, "held-*"))
	if err != nil {
		return nil, err
	}
	var list []holder
	for _, path := range paths {
		h, live, err := read(path)
		if err != nil {
			return nil, err
		}
		if live {
			list = append(list, h)
		}
	}
	left, err := filepath.Glob(filepath.Join(p.Dir, "new-*")) // of one that was killed between two calls
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return nil, fmt.Errorf("clean up the folder of shares: %w", err)
	}
	return list, nil
}

// read reads the file of a lease; one whose lock is free is of a dead process, and is removed.
func read(path string) (h holder, live bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, false, nil
	}
	if err != nil {
		return h, false, fmt.Errorf("look at the share %s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return h, false, os.Remove(path)
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return h, false, fmt.Errorf("look at the share %s: %w", path, err)
	}
	if err := json.NewDecoder(f).Decode(&h); err != nil {
		return h, false, fmt.Errorf("read the share %s: %w", path, err)
	}
	return h, true, nil
}

func describe(holders []holder) string {
	if len(holders) == 0 {
		return "nobody that is known"
	}
	var parts []string
	for _, h := range holders {
		parts = append(parts, fmt.Sprintf("%s (process %d, since %s): %s", h.Who, h.PID, h.Since.Format(time.TimeOnly),
			h.Share))
	}
	return strings.Join(parts, "; ")
}

// File is the lease's open file, nil once it is released. A process that inherits it holds the share on, also when the
// one that took it has died before.
func (l *Lease) File() *os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file
}

// Release gives the share back, for those who inherited it too. Releasing twice, or nothing, is no error.
func (l *Lease) Release() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := unix.Flock(int(l.file.Fd()), unix.LOCK_UN) // the file goes when the next one looks
	err = errors.Join(err, l.file.Close())
	l.file = nil
	return err
}
