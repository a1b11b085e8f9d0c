package template

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const lockSuffix = ".lock"

// lockPause is the pause before a lock that another process has is tried again.
const lockPause = 50 * time.Millisecond

func (m *Manager) lockPath(key string) string { return filepath.Join(m.cfg.Dir, key+lockSuffix) }

// lock waits until no other process works on the template, and returns what ends our own turn.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		unlock, ok, err := tryLock(path)
		if ok || err != nil {
			return unlock, err
		}
		timer.Reset(lockPause)
	}
}

// tryLock takes a lock file if nobody has it.
func tryLock(path string) (unlock func(), ok bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("lock template: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && samePlace(f, path) {
		return func() { _ = f.Close() }, true, nil
	}
	_ = f.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("lock template: %w", err)
}

// samePlace says whether an open lock file still is the one at path: who removes a template removes its lock too.
func samePlace(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// hold marks a template as used, now and by this process until it closes.
func (m *Manager) hold(folder, key string) error {
	path := filepath.Join(folder, noteFile)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("hold template: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return fmt.Errorf("hold template: %w", err)
	}
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		m.log.Warn("mark template as used", "key", key, "error", err)
	}
	m.letGo(key)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[key] = f
	return nil
}

func (m *Manager) letGo(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.held[key]; f != nil {
		_ = f.Close()
		delete(m.held, key)
	}
}

// removeUnfinished removes what killed processes left of a template. The caller has the key's lock.
func (m *Manager) removeUnfinished(key string) {
	left, err := filepath.Glob(filepath.Join(m.cfg.Dir, unfinishedPrefix+key+"-*"))
	if err != nil {
		return
	}
	for _, folder := range left {
		if err := os.RemoveAll(folder); err != nil {
			m.log.Warn("remove unfinished template", "folder", folder, "error", err)
		}
	}
}

// candidate is a template that may be removed.
type candidate struct {
	key  string
	used time.Time
}

// clean removes what nobody needs: templates that were not used for long, the least recently used of an image beyond
// the number to keep, and what was left unfinished. The template of key stays, and those that a process has in use.
func (m *Manager) clean(flavour, key string) {
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil {
		m.log.Warn("look for old templates", "error", err)
		return
	}
	var same []candidate
	for _, e := range entries {
		name, unfinished := strings.CutPrefix(e.Name(), unfinishedPrefix)
		if unfinished {
			name, _, _ = strings.Cut(name, "-")
		}
		if !e.IsDir() || !validKey(name) || name == key {
			continue
		}
		if unfinished {
			m.withLock(name, func() { m.removeUnfinished(name) })
			continue
		}
		used, of := m.lastUse(name)
		switch {
		case time.Since(used) > m.cfg.MaxAge:
			m.remove(name)
		case of == flavour:
			same = append(same, candidate{key: name, used: used})
		}
	}
	slices.SortFunc(same, func(a, b candidate) int { return b.used.Compare(a.used) })
	for i, c := range same {
		if i+1 >= m.cfg.Keep { // the template of key is one more
			m.remove(c.key)
		}
	}
}

// lastUse tells when a template was last taken into use, and which image it is of.
func (m *Manager) lastUse(key string) (used time.Time, flavour string) {
	folder := filepath.Join(m.cfg.Dir, key)
	info, err := os.Stat(filepath.Join(folder, noteFile))
	if err != nil {
		return time.Time{}, "" // without a note it is worth nothing
	}
	n, _ := readNote(folder)
	return info.ModTime(), n.Flavour
}

func (m *Manager) withLock(key string, do func()) {
	unlock, ok, err := tryLock(m.lockPath(key))
	if err != nil || !ok {
		return
	}
	defer unlock()
	do()
}

// remove removes a template that no process uses.
func (m *Manager) remove(key string) {
	m.withLock(key, func() {
		folder := filepath.Join(m.cfg.Dir, key)
		if f, err := os.Open(filepath.Join(folder, noteFile)); err == nil {
			defer func() { _ = f.Close() }()
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
				return
			}
		}
		if err := os.RemoveAll(folder); err != nil {
			m.log.Warn("remove old template", "key", key, "error", err)
			return
		}
		_ = os.Remove(m.lockPath(key))
		m.log.Info("removed old template", "key", key)
	})
}
