package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// limits bound what a journal takes of the disk: a cloud that runs for long must not fill it. What it decided about
// keys must never be lost, so that is kept beside.
type limits struct {
	file int64 // how long the file becomes before it is put aside, in bytes
	kept int64 // how much of what was put aside stays, compressed, in bytes
}

// An hour of 100 events a second is some 150 MB before it is compressed, and a tenth of that after.
const (
	largestFile = 4 << 20
	keptFiles   = 256 << 20
)

// What was put aside is compressed once there was calm for so long, or when so many files wait for it: while there is
// much to record there is much else to do.
const (
	calm       = time.Second
	mostToWait = 32
)

// file is the journal's file and those that were put aside.
type file struct {
	path   string
	limits limits

	mu    sync.Mutex
	out   *output
	first uint64     // number of its first event; 0 when it has none
	full  []*os.File // put aside and not on the disk yet, oldest first
	lost  error      // the first one of bringing those to the disk: what they had may be gone

	waiting int         // files that were put aside since the last time such were compressed
	rest    *time.Timer // runs until they are
	closed  bool        // nothing begins any more

	settling sync.Mutex // held by the one that brings full files to the disk

	pressing sync.Mutex     // held by the one that compresses what was put aside
	presses  sync.WaitGroup // those who compress or wait for it
	fault    error          // the first one of compressing; guarded by pressing
}

func openFile(path string, l limits) (*file, error) {
	f := &file{path: path, limits: l}
	if err := f.open(); err != nil {
		return nil, err
	}
	if err := errors.Join(f.finishAside(), adopt(path)); err != nil {
		return nil, errors.Join(err, f.out.close())
	}
	f.presses.Go(f.press) // what an earlier process left
	f.rest = time.AfterFunc(calm, f.pressRested)
	return f, nil
}

// open goes on with the file at the path, made when missing.
func (f *file) open() error {
	out, err := openOutput(f.path, f.limits.file)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	f.out, f.first = out, out.first
	return nil
}

// Write writes one line.
func (f *file) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == 0 {
		f.first = seqIn(line)
	}
	if f.out.size > 0 && f.out.size+int64(len(line)) > f.limits.file {
		if err := f.turn(); err != nil {
			return 0, err
		}
		f.first = seqIn(line)
	}
	if err := f.out.write(line); err != nil {
		return 0, err
	}
	return len(line), nil
}

// turn begins another file. Nobody waits for the disk to have the old one: it is brought there next, and whoever asks
// for what is in it waits for that. When another cannot be begun, the old one goes on.
func (f *file) turn() error {
	old := f.out
	if err := errors.Join(old.finish(), putAside(f.path, f.first)); err != nil {
		return fmt.Errorf("begin another journal: %w", err)
	}
	if err := f.open(); err != nil {
		return err
	}
	f.full = append(f.full, old.f)
	if f.waiting++; f.waiting >= mostToWait {
		f.waiting = 0
		f.presses.Go(f.press)
		return nil
	}
	f.rest.Reset(calm)
	f.presses.Go(func() { _ = f.settle() }) // its fault is kept
	return nil
}

// pressRested compresses what waits for it.
func (f *file) pressRested() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting > 0 && !f.closed {
		f.waiting = 0
		f.presses.Go(f.press)
	}
}

// settle returns when the files that were put aside before the call are on the disk.
func (f *file) settle() error {
	f.settling.Lock()
	defer f.settling.Unlock()
	f.mu.Lock()
	full, lost := slices.Clone(f.full), f.lost
	f.mu.Unlock()
	for _, old := range full {
		if err := errors.Join(dataSync(old), old.Close()); err != nil && lost == nil {
			lost = fmt.Errorf("sync journal: %w", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full, f.lost = f.full[len(full):], lost
	return lost
}

// putAside gives the file its other name and puts an empty one in its place, so that readers always find one.
func putAside(path string, first uint64) error {
	if err := os.Link(path, aside(path, first)); err != nil {
		return err
	}
	next := path + unfinished
	err := os.WriteFile(next, nil, 0o600)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(aside(path, first)))
	}
	return err
}

// finishAside undoes what a crash left of putAside: two names of one file.
func (f *file) finishAside() error {
	name := aside(f.path, f.first)
	other, err := os.Stat(name)
	if err != nil {
		return missing(err)
	}
	own, err := f.out.f.Stat()
	if err == nil && os.SameFile(own, other) {
		err = os.Remove(name)
	}
	return err
}

// press compresses what was put aside and drops what is too much of it.
func (f *file) press() {
	f.pressing.Lock()
	defer f.pressing.Unlock()
	_ = f.settle() // its fault is kept: who asks for the disk is told, and what can be read is compressed
	if err := pressAll(f.path, f.limits.kept); err != nil && f.fault == nil {
		f.fault = err
	}
}

// sync returns when all that was written before the call is on the disk. Once a file did not get there whole, it fails
// for ever: nobody knows what is missing.
func (f *file) sync() error {
	for {
		if err := f.settle(); err != nil {
			return err
		}
		f.mu.Lock()
		now := f.out.f
		f.mu.Unlock()
		err := dataSync(now)
		f.mu.Lock()
		turned := now != f.out.f
		f.mu.Unlock()
		// What was in the file that was put aside meanwhile is found out about first; it may be closed by now.
		if !turned {
			return err
		}
	}
}

// Close waits for what goes on beside, and compresses what waits for it. Nobody may write any more.
func (f *file) Close() error {
	f.mu.Lock()
	waiting := f.waiting > 0
	f.closed = true
	f.rest.Stop()
	f.mu.Unlock()
	f.presses.Wait()
	if waiting {
		f.press()
	}
	lost := f.settle()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pressing.Lock()
	defer f.pressing.Unlock()
	return errors.Join(lost, f.fault, f.out.close())
}

// seqIn returns the number of the event in a line, 0 when there is none.
func seqIn(line []byte) uint64 {
	var ev struct{ Seq uint64 }
	if json.Unmarshal(line, &ev) != nil {
		return 0
	}
	return ev.Seq
}

// firstIn returns the number of the first event of r, 0 when there is none. It reads no further.
func firstIn(r io.Reader) (seq uint64, err error) {
	errFound := errors.New("found")
	err = eachLine(r, func(line []byte) error {
		if seq = seqIn(line); seq > 0 {
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	return seq, nil
}

// missing is err unless it says that there is no such file.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
