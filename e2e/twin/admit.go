package twin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"github.com/prometheus/procfs"

	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/shares"
)

// admissionTimeout is how long a node waits for its share of a machine on which others run suites too.
const admissionTimeout = 10 * time.Minute

// What a node takes of the machine unless Needs says otherwise. Guests wait for their tests most of the time, so four
// nodes with real ones share a core.
var (
	realShare = shares.Share{MemoryMB: 3072, MilliCores: 250}
	simShare  = shares.Share{MemoryMB: 256, MilliCores: 50}
)

// Needs is what each node of the twin takes of this machine: memory for its guests in MB, and processor cores, of which
// parts are fine. A node is started when all processes that run suites on this machine leave it that much, and offers
// its guests no more. Without it a node with real guests takes 3072 MB and a quarter of a core.
func Needs(memoryMB int, cores float64) Option {
	return func(t *Twin) {
		t.share = shares.Share{MemoryMB: memoryMB, MilliCores: int(cores * 1000)}
	}
}

// shareOf is what a node of the twin takes.
func (t *Twin) shareOf() shares.Share {
	switch {
	case t.share != shares.Share{}:
		return t.share
	case t.Mode == node.GuestsSim:
		return simShare
	}
	return realShare
}

// machineShares is what all suites on this machine share: nine tenths of its memory, and all its cores.
func machineShares() (shares.Pool, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return shares.Pool{}, fmt.Errorf("find out how much memory there is: %w", err)
	}
	memory, err := fs.Meminfo()
	if err != nil || memory.MemTotal == nil {
		return shares.Pool{}, fmt.Errorf("find out how much memory there is: %w", err)
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = "/dev/shm"
	}
	return shares.Pool{
		Dir:   filepath.Join(dir, fmt.Sprintf("cloudtwin-%d-shares", os.Getuid())),
		Total: shares.Share{MemoryMB: int(*memory.MemTotal / 1024 * 9 / 10), MilliCores: runtime.NumCPU() * 1000},
	}, nil
}

// admit takes a node's share of the machine, and waits for it. It is given back with release, or when this process and
// the node's are both gone.
func (t *Twin) admit(who string) *shares.Lease {
	ginkgo.GinkgoHelper()
	pool, err := machineShares()
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	ctx, cancel := context.WithTimeout(context.Background(), admissionTimeout)
	defer cancel()
	lease, err := pool.Acquire(ctx, t.shareOf(), fmt.Sprintf("%s of %s", who, filepath.Base(os.Args[0])))
	if err != nil {
		FailMachine("%s: %v", who, err)
	}
	return lease
}

// memoryFlags tell a node with real guests what it may give them. Simulated ones take next to nothing of what they are
// counted with.
func (t *Twin) memoryFlags() []string {
	if t.Mode == node.GuestsSim {
		return nil
	}
	return []string{"--memory", fmt.Sprint(t.shareOf().MemoryMB)}
}
