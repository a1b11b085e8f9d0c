package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
)

// largestFile is how long a journal's file becomes before another is begun, in bytes. The one before it is kept under
// the same name with ".1" behind it. Of older ones only the audit is kept: a cloud that runs for long must not fill the
// disk, and what it decided about keys must never be lost.
const largestFile = 256 << 20

// audited is what a line of the audit holds: each decision about a key's delivery.
const audited = `"kind":"delivery.`

// file is the journal's file and its predecessor.
type file struct {
	path  string
	limit int64

	mu   sync.Mutex
	f    *os.File
	size int64
}

func openFile(path string, limit int64) (*file, error) {
	f := &file{path: path, limit: limit}
	return f, f.open()
}

// open appends to the file, made with mode 0600 when missing.
func (f *file) open() error {
	opened, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	info, err := opened.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open journal: %w", err), opened.Close())
	}
	f.f, f.size = opened, info.Size()
	return nil
}

// Write writes one line.
func (f *file) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.size > 0 && f.size+int64(len(line)) > f.limit {
		if err := f.turn(); err != nil {
			return 0, err
		}
	}
	n, err := f.f.Write(line)
	f.size += int64(n)
	return n, err
}

// turn begins another file. What is in the old one is on the disk then. When that fails, the old one goes on.
func (f *file) turn() error {
	if err := dataSync(f.f); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	if err := keepAudit(f.path); err != nil {
		return err
	}
	if err := os.Rename(f.path, previous(f.path)); err != nil {
		return fmt.Errorf("begin another journal: %w", err)
	}
	old := f.f
	if err := f.open(); err != nil {
		return err
	}
	return old.Close()
}

func previous(path string) string { return path + ".1" }

// auditOf names the file of the decisions that were in files which are kept no longer. It never turns.
func auditOf(path string) string { return path + ".audit" }

// keepAudit takes the decisions over from the file that is dropped next. A crash in between makes it take them twice,
// which a reader can tell by their request ids; none is lost.
func keepAudit(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep the audit: %w", err)
		}
	}()
	old, err := os.Open(previous(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }()
	var decisions bytes.Buffer
	err = eachLine(old, func(line []byte) error {
		if bytes.Contains(line, []byte(audited)) {
			decisions.Write(line)
		}
		return nil
	})
	if err != nil || decisions.Len() == 0 {
		return err
	}
	audit, err := os.OpenFile(auditOf(path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = audit.Write(decisions.Bytes())
	return errors.Join(err, dataSync(audit), audit.Close())
}

// sync returns when all that was written before the call is on the disk.
func (f *file) sync() error {
	for {
		f.mu.Lock()
		now := f.f
		f.mu.Unlock()
		err := dataSync(now)
		f.mu.Lock()
		turned := now != f.f
		f.mu.Unlock()
		// What was in the file that was closed meanwhile is on the disk; the rest is in the one after it.
		if !turned {
			return err
		}
	}
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Close()
}
