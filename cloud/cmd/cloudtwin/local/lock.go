package local

import (
	"errors"
	"fmt"
	"os"
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
