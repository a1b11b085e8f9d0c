package local

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Holder is the process that uses the state folder, 0 when none does: the one that its lock names, as long as that has
// the lock open. The lock itself is left alone.
func (l Layout) Holder() int {
	text, err := os.ReadFile(l.Lock())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return 0
	}
	lock, err := os.Stat(l.Lock())
	if err != nil {
		return 0
	}
	files, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	for _, file := range files {
		if open, err := os.Stat(file); err == nil && os.SameFile(open, lock) {
			return pid
		}
	}
	return 0
}
