package twin

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of guests whose node was killed, as init is on a host, and buries those
// that end. The node that takes them over has libvirt end them, which waits until their parent has reaped them: for a
// minute in a container whose first process does so when it likes.
var adoptOrphans = sync.OnceFunc(func() {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return // they stay init's
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		for range ended {
			for _, pid := range deadOrphans() {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
	}()
})

// deadOrphans are the children that ended and that this process did not start: os/exec waits for its own.
func deadOrphans() (pids []int) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it is gone
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err == nil && isDeadGuest(string(text), os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isDeadGuest reads a process's line in /proc: number (name) state parent.
func isDeadGuest(stat string, parent int) bool {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return false
	}
	name, rest := stat[open+1:end], stat[end+1:]
	return strings.HasPrefix(name, "qemu-system") && strings.HasPrefix(rest, fmt.Sprintf(" Z %d ", parent))
}
