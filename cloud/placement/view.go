package placement

import (
	"math"
	"slices"
	"sync"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// view is what the store says about nodes, in memory, so that choosing a node reads no record. It may be a moment
// behind; Reserve decides.
type view struct {
	mu    sync.RWMutex
	nodes map[string]*Node // replaced, never altered
	loads map[string]Load
	ids   []string // of nodes, in order
}

func (v *view) init() { v.nodes, v.loads = map[string]*Node{}, map[string]Load{} }

func (v *view) setNodes(nodes []Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.nodes)
	v.ids = v.ids[:0]
	for i := range nodes {
		v.setNodeLocked(nodes[i].ID, &nodes[i])
	}
}

// setNodeLocked takes one record, nil for one that is gone.
func (v *view) setNodeLocked(id string, n *Node) {
	at, known := slices.BinarySearch(v.ids, id)
	switch {
	case n == nil && known:
		v.ids = slices.Delete(v.ids, at, at+1)
		delete(v.nodes, id)
	case n != nil && !known:
		v.ids = slices.Insert(v.ids, at, id)
		v.nodes[id] = n
	case n != nil:
		v.nodes[id] = n
	}
}

func (v *view) applyNode(c store.Change[Node]) {
	v.mu.Lock()
	defer v.mu.Unlock()
	// A write of our own may have been seen before its echo; an older echo must not undo a newer write.
	if old, ok := v.nodes[c.Key]; ok && c.Value != nil && old.Version > c.Value.Version &&
		old.EnrolledAt.Equal(c.Value.EnrolledAt) {
		return
	}
	v.setNodeLocked(c.Key, c.Value)
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
	if !ok {
		return Node{}, false
	}
	return *n, true
}

// all returns the nodes with their loads, in the order of their ids.
func (v *view) all() []NodeLoad {
	out := make([]NodeLoad, 0, v.count())
	v.each(func(n *Node, l Load) { out = append(out, NodeLoad{Node: *n, Load: l}) })
	return out
}

// each hands out the nodes with their loads, in the order of their ids. The nodes must not be altered.
func (v *view) each(use func(n *Node, l Load)) { v.some(0, math.MaxInt, use) }

// some is each for at most count nodes, from one on and after the last from the beginning.
func (v *view) some(first, count int, use func(n *Node, l Load)) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for i := range min(count, len(v.ids)) {
		id := v.ids[(first+i)%len(v.ids)]
		use(v.nodes[id], v.loads[id])
	}
}

func (v *view) count() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.ids)
}
