package guest

import (
	"errors"
	"runtime"
	"sync"
)

// ErrNoMedium means that the floppy drive is empty.
var ErrNoMedium = errors.New("no medium in the floppy drive")

// FloppyDrive is the machine's first floppy drive, for other programs than the agent that run as a guest's first
// process. It is driven without the kernel, as the agent does.
type FloppyDrive struct {
	mu    sync.Mutex
	drive *floppyDrive
}

// OpenFloppyDrive resets the drive. It fails where the process may not use the controller's ports, or there is none.
func OpenFloppyDrive() (*FloppyDrive, error) {
	f := &FloppyDrive{drive: newFloppyDrive()}
	err := f.do(f.drive.controller.reset)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// ReadAt reads from the medium that is in the drive now; ErrNoMedium when there is none.
func (f *FloppyDrive) ReadAt(p []byte, offset int64) (n int, err error) {
	err = f.do(func() error {
		_, there, err := f.drive.look()
		if err != nil {
			return err
		}
		if !there {
			return ErrNoMedium
		}
		n, err = f.drive.controller.ReadAt(p, offset)
		return err
	})
	return n, err
}

// do runs job on a thread that may use the ports: the right to is each thread's own.
func (f *FloppyDrive) do(job func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := f.drive.access(); err != nil {
		return err
	}
	return job()
}
