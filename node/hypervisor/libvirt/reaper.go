package libvirt

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// reapTick bounds how long an ended QEMU stays a zombie when its signal came while libvirt had not written its number
// yet.
const reapTick = 100 * time.Millisecond

// reaper buries the QEMU processes of an embedded libvirt. They are daemons, so init is their parent, and libvirt
// waits for init to reap each one that it ends: a second or two with some inits, for ever in a container whose
// first process does not care. With the reaper this process is their parent as long as it lives (prctl(2),
// PR_SET_CHILD_SUBREAPER). Only processes are reaped that libvirt has written into its pid files, never those of
// os/exec.
type reaper struct {
	root  string
	mu    sync.Mutex
	known map[int]struct{} // QEMUs that may end when their pid file is gone already
	stop  chan struct{}
	ended chan struct{}
}

// startReaper begins to reap the children of the libvirt in root. A kernel that refuses leaves everything to init.
func startReaper(root string) *reaper {
	r := &reaper{root: root, known: map[int]struct{}{}, stop: make(chan struct{}), ended: make(chan struct{})}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		close(r.ended)
		return r
	}
	go r.run()
	return r
}

func (r *reaper) close() {
	close(r.stop)
	<-r.ended
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) // it was set, so it can be unset
}

func (r *reaper) run() {
	defer close(r.ended)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	defer signal.Stop(signals)
	ticker := time.NewTicker(reapTick)
	defer ticker.Stop()
	for {
		select {
		case <-signals:
		case <-ticker.C:
		case <-r.stop:
			return
		}
		r.reap()
	}
}

// reap buries whoever has ended, and forgets who is no child of ours: the QEMU of an earlier process is init's.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, pid := range pidFiles(r.root) {
		r.known[pid] = struct{}{}
	}
	for pid := range r.known {
		reaped, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if reaped == pid || errors.Is(err, unix.ECHILD) {
			delete(r.known, pid)
		}
	}
}

// pidFiles reads the numbers of the QEMUs that libvirt runs for machines, and of those that it asks for capabilities.
func pidFiles(root string) (pids []int) {
	for _, pattern := range []string{"run/qemu/*.pid", "lib/qemu/qmp-*/qmp.pid"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			continue
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
