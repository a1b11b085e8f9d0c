package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudtwin/cloudtwin/node/controller"
)

// Remove ends every guest that a dead process left in the state folder and removes the folder, its floppies and
// its secrets. It refuses a folder that a live process uses.
func Remove(ctx context.Context, l Layout) error {
	if _, err := os.Stat(string(l)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := acquire(l)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	return remove(ctx, l)
}

// remove does Remove's work for a folder that is locked already.
func remove(ctx context.Context, l Layout) error {
	if err := clean(ctx, l); err != nil {
		return err
	}
	if err := os.RemoveAll(string(l)); err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	return nil
}

// clean ends the guests of a folder that is locked and removes all in it but lock and mark: while the first is there
// nobody else begins.
func clean(ctx context.Context, l Layout) error {
	// The daemons first: what is left of their guests' processes then is what they do not know.
	if err := errors.Join(endDaemonGuests(ctx, l), endGuests(ctx, l)); err != nil {
		return err
	}
	errs := []error{controller.WipeMedia(filepath.Join(l.Media(), "media"))}
	errs = append(errs, os.RemoveAll(l.Media()), os.RemoveAll(l.LibvirtRoot()))
	entries, err := os.ReadDir(string(l))
	errs = append(errs, err)
	for _, e := range entries {
		if path := filepath.Join(string(l), e.Name()); path != l.Lock() && path != l.Mark() {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean state folder %s: %w", l, err)
	}
	return nil
}

// endGuests kills the QEMU processes whose command line names the state folder and waits until they are gone.
func endGuests(ctx context.Context, l Layout) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		pids, err := GuestProcesses(l)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end guest process %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for guest processes %v to end: %w", pids, ctx.Err())
		case <-tick.C:
		}
	}
}

// GuestProcesses finds the QEMU processes that were started in a state folder, by their ids.
func GuestProcesses(l Layout) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	marks := [][]byte{[]byte(string(l) + "/"), []byte(l.LibvirtRoot() + "/"), []byte(l.Media() + "/")}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it ended meanwhile
		}
		program, _, _ := bytes.Cut(line, []byte{0})
		if strings.Contains(filepath.Base(string(program)), "qemu") &&
			slices.ContainsFunc(marks, func(mark []byte) bool { return bytes.Contains(line, mark) }) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
