package scale

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const (
	roomPrefix = "cloudtwin-scale-"
	roomLock   = "lock"
	// roomStart is how long a new folder may be without its lock.
	roomStart = time.Minute
)

// room is a temporary folder that is this process's as long as its lock is held: those that killed processes left are
// told apart by theirs.
type room struct {
	path string
	lock *flock.Flock
}

// openRoom makes a folder in parent and sweeps what killed processes left there.
func openRoom(parent string) (*room, error) {
	if err := sweepRooms(parent, time.Now()); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(parent, roomPrefix)
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	r := &room{path: path, lock: flock.New(filepath.Join(path, roomLock))}
	if ok, err := r.lock.TryLock(); err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("lock folder %s: %w", path, err), os.RemoveAll(path))
	}
	return r, nil
}

// close removes the folder.
func (r *room) close() error {
	if r == nil {
		return nil
	}
	return errors.Join(os.RemoveAll(r.path), r.lock.Unlock())
}

// sweepRooms removes this user's folders in parent whose processes ended.
func sweepRooms(parent string, now time.Time) error {
	found, err := filepath.Glob(filepath.Join(parent, roomPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for old folders: %w", err)
	}
	for _, path := range found {
		info, err := os.Lstat(path)
		// Other users' folders are theirs.
		if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
			continue
		}
		lock := flock.New(filepath.Join(path, roomLock), flock.SetFlag(os.O_RDWR))
		ok, err := lock.TryLock()
		if errors.Is(err, os.ErrNotExist) {
			ok = now.Sub(info.ModTime()) > roomStart
		}
		if !ok {
			continue
		}
		if err := errors.Join(os.RemoveAll(path), lock.Unlock()); err != nil {
			return fmt.Errorf("remove old folder: %w", err)
		}
	}
	return nil
}
