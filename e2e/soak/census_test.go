package soak

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

// census counts what a twin in this process holds.
type census struct {
	Processes   int // below this one
	Threads     int // of this one
	Goroutines  int
	Descriptors int
	Sockets     int // among the descriptors
	Files       int // in the twin's folders, etcd's own and the ended guests' consoles left out
	Consoles    int // of ended guests
	Records     int64
	HeapMB      float64 // that lives
	// ResidentMB is memory of the process's own. Pages of etcd's database, which it maps into memory, are the file's:
	// they come with the history that is kept, whose length is bounded, and the kernel takes them back at need.
	ResidentMB float64
}

// take counts, after what can be collected has been.
func take(ctx context.Context, machine *local.Twin, folders ...string) (census, error) {
	debug.FreeOSMemory() // collects first
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	c := census{Goroutines: runtime.NumGoroutine(), HeapMB: float64(memory.HeapAlloc) / (1 << 20)}
	var err error
	if _, c.Records, err = machine.StoreSize(ctx); err != nil {
		return c, err
	}
	for _, folder := range folders {
		if err := c.countFiles(folder); err != nil {
			return c, err
		}
	}
	if err := c.countDescriptors(); err != nil {
		return c, err
	}
	return c, c.readStatus()
}

// countFiles counts what is not a folder. etcd's files come and go by its own rules; their number is bounded.
func (c *census) countFiles(folder string) error {
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err): // it left while it was looked at, or was never there
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "etcd":
			return fs.SkipDir
		case d.IsDir():
		case filepath.Base(filepath.Dir(path)) == "ended":
			c.Consoles++
		default:
			c.Files++
		}
		return nil
	})
}

func (c *census) countDescriptors() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil { // the one that lists the folder
			continue
		}
		c.Descriptors++
		if strings.HasPrefix(target, "socket:") {
			c.Sockets++
		}
	}
	return nil
}

// readStatus takes threads and memory from proc(5), and the processes below this one.
func (c *census) readStatus() error {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	if c.Threads, err = strconv.Atoi(fields["Threads"]); err != nil {
		return fmt.Errorf("number of threads: %w", err)
	}
	resident, err := strconv.ParseFloat(strings.TrimSuffix(fields["RssAnon"], " kB"), 64)
	if err != nil {
		return fmt.Errorf("resident memory: %w", err)
	}
	c.ResidentMB = resident / 1024
	c.Processes = len(descendants(os.Getpid()))
	return nil
}

// descendants returns the processes below one, from each thread's list of children (proc(5)).
func descendants(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is good
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil { // it has ended
			continue
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

// What may be more after many cycles than before them, and why. What is not named here may not grow at all.
const (
	// The runtime starts a thread whenever all others wait in the kernel, and never ends one.
	moreThreads = 4
	// Timers and connections that are kept for the next request end by themselves, after minutes.
	moreGoroutines  = 12
	moreDescriptors = 6
	moreSockets     = 4
	// The journal remembers 10,000 events, the nonces of twenty minutes and the sessions of six hours are kept, and
	// etcd keeps 10,000 revisions: together some 3 KB a cycle, until they are full.
	moreHeapMB = 24
	// A node keeps the consoles of the guests that ended last.
	mostConsoles = 64
	// The allocator gives back whole pages only.
	moreResidentMB = 40
)

// notGrownSince matches a census that is no more than before, within the tolerances.
func notGrownSince(before census) types.GomegaMatcher {
	atMost := func(n any, more float64) types.GomegaMatcher {
		var had float64
		switch n := n.(type) {
		case int:
			had = float64(n)
		case int64:
			had = float64(n)
		case float64:
			had = n
		}
		return BeNumerically("<=", had+more)
	}
	return And(
		HaveField("Processes", atMost(before.Processes, 0)),
		HaveField("Threads", atMost(before.Threads, moreThreads)),
		HaveField("Goroutines", atMost(before.Goroutines, moreGoroutines)),
		HaveField("Descriptors", atMost(before.Descriptors, moreDescriptors)),
		HaveField("Sockets", atMost(before.Sockets, moreSockets)),
		HaveField("Files", atMost(before.Files, 0)),
		HaveField("Consoles", BeNumerically("<=", mostConsoles)),
		HaveField("Records", atMost(before.Records, 0)),
		HaveField("HeapMB", atMost(before.HeapMB, moreHeapMB)),
		HaveField("ResidentMB", atMost(before.ResidentMB, moreResidentMB)),
	)
}
