package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

// The drive tells nobody that a medium was put in, so it is asked.
const (
	// While the agent waits for a medium: at first often, since a machine copied from a template has its medium
	// already and somebody waits for it, after a while less often.
	waitInterval     = 5 * time.Millisecond
	waitLongInterval = 50 * time.Millisecond
	waitLong         = 30 * time.Second
	// While it has one: a renewal is not urgent, and hosts have hundreds of guests that look.
	watchInterval = time.Second

	maxMedium = 1 << 21 // bytes of all files together; a floppy holds less
	maxFiles  = 64
)

// drive is what medium needs of a drive.
type drive interface {
	prepare() error
	look() (number int, there bool, err error)
	open() (fs.FS, error)
}

// medium is the agent's medium source. It copies a medium's files into memory and lets go of the medium at once, so
// that the node can take it away and wipe it.
type medium struct {
	drive    drive
	unusable error // why there is no drive; set by prepare
	logger   *slog.Logger
	changed  chan struct{}

	prepare sync.Once
	watch   sync.Once

	mu   sync.Mutex
	last int // number of the medium that was read; media are numbered from 1
}

var _ agent.MediumSource = (*medium)(nil)

func newMedium(logger *slog.Logger) *medium {
	return &medium{
		drive:   newFloppyDrive(),
		logger:  logger,
		changed: make(chan struct{}, 1),
	}
}

// Changed implements agent.MediumSource.
func (f *medium) Changed() <-chan struct{} { return f.changed }

// Open implements agent.MediumSource. The files are an io.Closer that wipes them.
func (f *medium) Open(ctx context.Context) (fs.FS, error) {
	if err := f.getReady(); err != nil {
		return nil, err
	}
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for waits := 1; ; waits++ {
		number, fresh, err := f.fresh()
		if err != nil {
			return nil, err
		}
		if fresh {
			return f.take(ctx, number), nil
		}
		if waits == int(waitLong/waitInterval) {
			ticker.Reset(waitLongInterval)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a medium: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// getReady prepares the drive, once.
func (f *medium) getReady() error {
	f.prepare.Do(func() { f.unusable = f.drive.prepare() })
	if f.unusable != nil {
		return fmt.Errorf("use floppy drive: %w", f.unusable)
	}
	return nil
}

// fresh tells whether there is a medium that was not read yet.
func (f *medium) fresh() (int, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	number, there, err := f.drive.look()
	return number, err == nil && there && number != f.last, err
}

// take copies the medium's files. A medium that cannot be read gives files whose Open tells why; it counts as not
// read, so the next Open tries it again.
func (f *medium) take(ctx context.Context, number int) fs.FS {
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

func (f *medium) copyFiles() (*memoryFS, error) {
	disk, err := f.drive.open()
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(disk, ".")
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
		data, err := readBounded(disk, e.Name(), room)
		if err != nil {
			_ = files.Close()
			return nil, err
		}
		room -= int64(len(data))
		files.files[e.Name()] = data
	}
	return files, nil
}

func readBounded(disk fs.FS, name string, room int64) ([]byte, error) {
	in, err := disk.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read medium: %w", err)
	}
	defer func() { _ = in.Close() }()
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
func (f *medium) watchChanges(ctx context.Context) {
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
