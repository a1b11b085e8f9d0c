package controller

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

const (
	endedDir  = "ended" // what machines that are gone left
	keepEnded = 64      // of those machines
	// evidenceTime bounds how long a machine's driver may take to show what it has of it.
	evidenceTime = 5 * time.Second
)

// besideConsole are the files of a machine's folder that are kept with its console.
var besideConsole = []string{framesFile, "frames.1.pcap", hypervisor.EvidenceDomain, hypervisor.EvidenceLog}

// keepEvidence puts what the driver has to show of the machine beside its console. Call it before the machine is
// killed: a driver may have nothing to show then. The console alone must do when it fails.
func (g *guest) keepEvidence(ctx context.Context) {
	witness, able := g.machine.(hypervisor.Witness)
	if !able || g.shown || ctx.Err() != nil { // a node that ends leaves its machines running
		return
	}
	ctx, cancel := context.WithTimeout(ctx, evidenceTime)
	defer cancel()
	files, err := witness.Evidence(ctx)
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		g.log.Warn("keep what the hypervisor has to show of the machine", "error", err)
	}
	for name, text := range files {
		g.shown = true
		if !slices.Contains(besideConsole, name) {
			continue
		}
		if err := writeFile(filepath.Join(g.c.files.folder(g.id), name), text); err != nil {
			g.log.Warn("keep what the hypervisor has to show of the machine", "file", name, "error", err)
		}
	}
}

// archived is where the console of an ended machine is kept.
func (f machineFiles) archived(id string) string { return f.kept(id, consoleFile) }

func (f machineFiles) kept(id, name string) string {
	return filepath.Join(f.dir, endedDir, id+"."+name)
}

// archive keeps a machine's console and what lies beside it among those of the last ended ones.
func (f machineFiles) archive(id string) {
	dir := filepath.Join(f.dir, endedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return
	}
	if err := os.Rename(f.console(id), f.archived(id)); err != nil {
		return
	}
	for _, name := range besideConsole { // if there is one
		_ = os.Rename(filepath.Join(f.folder(id), name), f.kept(id, name))
	}
	f.forgetOldest(dir)
}

// forgetOldest removes what all but the last ended machines left.
func (f machineFiles) forgetOldest(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= keepEnded {
		return
	}
	files, last := map[string][]string{}, map[string]time.Time{} // by machine
	for _, e := range entries {
		id, _, _ := strings.Cut(e.Name(), ".")
		files[id] = append(files[id], filepath.Join(dir, e.Name()))
		// One without a time was removed meanwhile.
		if info, err := e.Info(); err == nil && info.ModTime().After(last[id]) {
			last[id] = info.ModTime()
		}
	}
	ids := make([]string, 0, len(files))
	for id := range files {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(last[a].Compare(last[b]), cmp.Compare(a, b)) })
	for _, id := range ids[:max(0, len(ids)-keepEnded)] {
		for _, path := range files[id] {
			_ = os.Remove(path)
		}
	}
}
