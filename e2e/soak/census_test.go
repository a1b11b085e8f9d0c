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
	// Files in the twin's folders, those of templates and of temporary files among them; etcd's own, what the journal has
	// put aside, which is bounded in bytes, and what is kept of ended guests are left out.
	Files   int
	Ended   int              // guests of which something is kept
	Records map[string]int64 // by table
	HeapMB  float64          // that lives
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
	ended := map[string]bool{}
	for _, folder := range folders {
		if err := c.countFiles(folder, ended); err != nil {
			return c, err
		}
	}
	c.Ended = len(ended)
	if err := c.countDescriptors(); err != nil {
		return c, err
	}
	return c, c.readStatus()
}

// countFiles counts what is not a folder, and notes the guests of which something is kept: a console and, of a machine,
// how it was made. etcd's files come and go by its own rules; their number is bounded.
func (c *census) countFiles(folder string, ended map[string]bool) error {
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err): // it left while it was looked at, or was never there
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "etcd":
			return fs.SkipDir
		case d.IsDir():
		case strings.HasPrefix(d.Name(), "journal.jsonl."):
		case filepath.Base(filepath.Dir(path)) == "ended":
			guest, _, _ := strings.Cut(d.Name(), ".")
			ended[guest] = true
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
	mostEnded = 64
	// The allocator gives back whole pages only.
	moreResidentMB = 40
)

// ofProcesses is the table of what each process of the cloud has heard of nodes: one record, first written when it
// has run for some seconds.
const ofProcesses = "placement-presence"

// moreRecords are the tables that hold more than before, and how many more.
func moreRecords(before, now map[string]int64) map[string]int64 {
	more := map[string]int64{}
	for table, n := range now {
		had := before[table]
		if table == ofProcesses {
			had = 1
		}
		if n > had {
			more[table] = n - had
		}
	}
	return more
}

// notGrownSince matches a census that is no more than before, within a part of the tolerances. What fills up does so in
// the first cycles: the second half of them may add half of what all may, and a leak that goes on adds as much again.
func notGrownSince(before census, part float64) types.GomegaMatcher {
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
		return BeNumerically("<=", had+more*part)
	}
	return And(
		HaveField("Processes", atMost(before.Processes, 0)),
		HaveField("Threads", atMost(before.Threads, moreThreads)),
		HaveField("Goroutines", atMost(before.Goroutines, moreGoroutines)),
		HaveField("Descriptors", atMost(before.Descriptors, moreDescriptors)),
		HaveField("Sockets", atMost(before.Sockets, moreSockets)),
		HaveField("Files", atMost(before.Files, 0)),
		HaveField("Ended", BeNumerically("<=", mostEnded)),
		WithTransform(func(c census) map[string]int64 { return moreRecords(before.Records, c.Records) }, BeEmpty()),
		HaveField("HeapMB", atMost(before.HeapMB, moreHeapMB)),
		HaveField("ResidentMB", atMost(before.ResidentMB, moreResidentMB)),
	)
}
