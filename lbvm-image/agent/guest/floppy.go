package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

// The drive tells nobody that a medium was put in, so it is asked.
const (
	waitInterval  = 50 * time.Millisecond // while the agent waits for a medium
	watchInterval = 2 * time.Second       // while it has one: a renewal is not urgent
	mediumDir     = "/run/medium"
	maxMedium     = 1 << 21 // bytes of all files together; a floppy holds less
	maxFiles      = 64
)

// drive is what floppy needs of a drive.
type drive interface {
	prepare() error
	look() (number int, there bool, err error)
	mount(dir string) (unmount func() error, err error)
}

// floppy is the agent's medium source. It copies a medium's files into memory and lets go of the medium at once, so
// that the node can take it away and wipe it.
type floppy struct {
	drive    drive
	dir      string
	unusable error // why there is no drive
	logger   *slog.Logger
	changed  chan struct{}

	prepare sync.Once
	watch   sync.Once

	mu   sync.Mutex
	last int // number of the medium that was read; media are numbered from 1
}

var _ agent.MediumSource = (*floppy)(nil)

func newFloppy(unusable error, logger *slog.Logger) *floppy {
	return &floppy{
		drive:    &floppyDrive{},
		dir:      mediumDir,
		unusable: unusable,
		logger:   logger,
		changed:  make(chan struct{}, 1),
	}
}

// Changed implements agent.MediumSource.
func (f *floppy) Changed() <-chan struct{} { return f.changed }

// Open implements agent.MediumSource. The files are an io.Closer that wipes them.
func (f *floppy) Open(ctx context.Context) (fs.FS, error) {
	f.prepare.Do(func() {
		if f.unusable == nil {
			f.unusable = f.drive.prepare()
		}
	})
	if f.unusable != nil {
		return nil, fmt.Errorf("use floppy drive: %w", f.unusable)
	}
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for {
		number, fresh, err := f.fresh()
		if err != nil {
			return nil, err
		}
		if fresh {
			return f.take(ctx, number), nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a medium: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// fresh tells whether there is a medium that was not read yet.
func (f *floppy) fresh() (int, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	number, there, err := f.drive.look()
	return number, err == nil && there && number != f.last, err
}

// take copies the medium's files. A medium that cannot be read gives files whose Open tells why; it counts as not
// read, so the next Open tries it again.
func (f *floppy) take(ctx context.Context, number int) fs.FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	files, err := f.copyFiles()
	if err != nil {
		f.logger.Warn("medium cannot be read", "error", err)
		return failedFS{err}
	}
	f.last = number
	f.watch.Do(func() { go f.watchChanges(ctx) })
	return files
}

func (f *floppy) copyFiles() (_ *memoryFS, err error) {
	unmount, err := f.drive.mount(f.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("read medium: %w", err)
	}
	files := &memoryFS{files: map[string][]byte{}}
	room := int64(maxMedium)
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if len(files.files) == maxFiles {
			return nil, fmt.Errorf("read medium: more than %d files", maxFiles)
		}
		data, err := readBounded(filepath.Join(f.dir, e.Name()), room)
		if err != nil {
			_ = files.Close()
			return nil, err
		}
		room -= int64(len(data))
		files.files[e.Name()] = data
	}
	return files, nil
}

func readBounded(path string, room int64) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read medium: %w", err)
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, room+1))
	if err != nil {
		return nil, fmt.Errorf("read medium: %w", err)
	}
	if int64(len(data)) > room {
		return nil, errors.New("read medium: its files are too large")
	}
	return data, nil
}

// watchChanges tells of each further medium once, until ctx ends.
func (f *floppy) watchChanges(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	told := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		number, fresh, err := f.fresh()
		if err != nil || !fresh || number == told {
			continue
		}
		told = number
		select {
		case f.changed <- struct{}{}:
		default: // told already, not listened to yet
		}
	}
}
