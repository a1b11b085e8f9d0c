package libvirt

import (
	"maps"
	"slices"
	"sync"
)

const (
	keepRemains = 64 // killed machines of which something is shown
	// maxRemains bounds what is kept of one file, in bytes: domains take some 8 KB, and QEMU says little.
	maxRemains = 64 << 10
)

// remains are what there was to show of the machines that were killed last. Nothing of them is left on the disk, and
// who looks after a machine may learn of its end only by that: another may have killed it.
type remains struct {
	mu    sync.Mutex
	files map[string]map[string][]byte // by machine and name
	order []string                     // the machines, oldest first
}

// keep notes what there is of a machine, in place of what was noted before.
func (r *remains) keep(id string, files map[string][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(id)
	if len(r.order) == keepRemains {
		r.forgetLocked(r.order[0])
	}
	if r.files == nil {
		r.files = map[string]map[string][]byte{}
	}
	kept := map[string][]byte{}
	for name, text := range files {
		kept[name] = slices.Clone(text[max(0, len(text)-maxRemains):])
	}
	r.files[id], r.order = kept, append(r.order, id)
}

// of returns what is noted of a machine; nothing when it is not among the last killed.
func (r *remains) of(id string) map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.files[id])
}

// forget drops a machine's: another begins under its id.
func (r *remains) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(id)
}

func (r *remains) forgetLocked(id string) {
	if _, known := r.files[id]; !known {
		return
	}
	delete(r.files, id)
	r.order = slices.DeleteFunc(r.order, func(other string) bool { return other == id })
}
