package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gofrs/flock"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// ErrForeign means that a folder holds what is not a twin's.
var ErrForeign = errors.New("not a state folder of cloudtwin")

// Prepare makes a state folder. It refuses one that holds anything but a twin's state, since that is removed in the
// end.
func Prepare(l Layout) error {
	if err := os.MkdirAll(string(l), 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	entries, err := os.ReadDir(string(l))
	if err != nil {
		return fmt.Errorf("look into state folder: %w", err)
	}
	if _, err := os.Stat(l.Mark()); err == nil {
		return nil
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s holds other files; name a new or empty folder with --state", ErrForeign, l)
	}
	if err := os.WriteFile(l.Mark(), nil, 0o600); err != nil {
		return fmt.Errorf("mark state folder: %w", err)
	}
	return nil
}

// acquire takes the state folder for this process. The lock ends with the process, however that ends.
func acquire(l Layout) (*flock.Flock, error) {
	if err := Prepare(l); err != nil {
		return nil, err
	}
	lock := flock.New(l.Lock())
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	if !ok {
		holder, _ := os.ReadFile(l.Lock())
		return nil, fmt.Errorf("%w: %s, by process %s; end that with 'cloudtwin down' or choose another with --state",
			store.ErrBusy, l, strings.TrimSpace(string(holder)))
	}
	if err := os.WriteFile(l.Lock(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("write lock: %w", err), lock.Unlock())
	}
	return lock, nil
}

// inUse tells whether a folder that is locked holds more than its mark, its lock and the log of the process that
// locked it.
func inUse(l Layout) (bool, error) {
	entries, err := os.ReadDir(string(l))
	if err != nil {
		return false, fmt.Errorf("look into state folder: %w", err)
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		path := filepath.Join(string(l), e.Name())
		return path != l.Mark() && path != l.Lock() && path != l.Log()
	}), nil
}
