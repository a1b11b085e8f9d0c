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

// acquire takes the state folder for this process. The lock ends with the process, however that ends.
func acquire(l Layout) (*flock.Flock, error) {
	if err := os.MkdirAll(string(l), 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
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

// inUse tells whether a folder that is locked holds more than its lock and the log of the process that locked it.
func inUse(l Layout) (bool, error) {
	entries, err := os.ReadDir(string(l))
	if err != nil {
		return false, fmt.Errorf("look into state folder: %w", err)
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		path := filepath.Join(string(l), e.Name())
		return path != l.Lock() && path != l.Log()
	}), nil
}
