package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gofrs/flock"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// workroom is the folder of everything that a run starts. Its place is fixed, so that the next run cleans up after
// one that was killed; one run at a time has it.
type workroom struct {
	dir  string
	lock *flock.Flock
	made int
}

func openWorkroom() (*workroom, error) {
	w := &workroom{dir: filepath.Join(filepath.Dir(local.DemoState()), "bench")}
	if err := os.MkdirAll(filepath.Dir(w.dir), 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	w.lock = flock.New(w.dir + ".lock")
	switch ok, err := w.lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", w.dir, err)
	case !ok:
		return nil, fmt.Errorf("%w: %s, by another benchmark", store.ErrBusy, w.dir)
	}
	if err := w.empty(); err != nil {
		return nil, errors.Join(err, w.lock.Close())
	}
	return w, nil
}

// twin is the state folder of a cloud with real guests.
func (w *workroom) twin() local.Layout { return local.Layout(filepath.Join(w.dir, "t")) }

// scratch makes a new folder.
func (w *workroom) scratch() (string, error) {
	w.made++
	dir := filepath.Join(w.dir, "s"+strconv.Itoa(w.made))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make scratch folder: %w", err)
	}
	return dir, nil
}

func (w *workroom) empty() error {
	if err := local.Remove(context.Background(), w.twin()); err != nil {
		return err
	}
	if err := os.RemoveAll(w.dir); err != nil {
		return fmt.Errorf("remove what a run left: %w", err)
	}
	return nil
}

func (w *workroom) close() error {
	return errors.Join(w.empty(), os.Remove(w.lock.Path()), w.lock.Close())
}
