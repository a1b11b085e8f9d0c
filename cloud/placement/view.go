package placement

import (
	"maps"
	"slices"
	"sync"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// view is what the store says about nodes, in memory, so that choosing a node reads no record. It may be a moment
// behind; Reserve decides.
type view struct {
	mu    sync.RWMutex
	nodes map[string]Node
	loads map[string]Load
}

func (v *view) init() { v.nodes, v.loads = map[string]Node{}, map[string]Load{} }

func (v *view) setNodes(nodes []Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.nodes)
	for _, n := range nodes {
		v.nodes[n.ID] = n
	}
}

func (v *view) applyNode(c store.Change[Node]) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c.Value == nil {
		delete(v.nodes, c.Key)
		return
	}
	// A write of our own may have been seen before its echo; an older echo must not undo a newer write.
	if old, ok := v.nodes[c.Key]; ok && old.Version > c.Value.Version && old.EnrolledAt.Equal(c.Value.EnrolledAt) {
		return
	}
	v.nodes[c.Key] = *c.Value
}

func (v *view) setLoads(loads []Load) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.loads)
	for _, l := range loads {
		v.loads[l.NodeID] = l
	}
}

func (v *view) applyLoad(c store.Change[Load]) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c.Value == nil {
		delete(v.loads, c.Key)
		return
	}
	if v.loads[c.Key].Version > c.Value.Version {
		return
	}
	v.loads[c.Key] = *c.Value
}

func (v *view) node(id string) (Node, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	n, ok := v.nodes[id]
	return n, ok
}

// all returns the nodes with their loads, in the order of their ids.
func (v *view) all() []NodeLoad {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]NodeLoad, 0, len(v.nodes))
	for _, id := range slices.Sorted(maps.Keys(v.nodes)) {
		out = append(out, NodeLoad{Node: v.nodes[id], Load: v.loads[id]})
	}
	return out
}
