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
	// gone are nodes that this process removed, as they were, so that an echo of an older write does not bring one back.
	gone      map[string]*Node
	followers map[string]map[chan struct{}]struct{} // by node
}

func (v *view) init() {
	v.nodes, v.loads, v.gone = map[string]*Node{}, map[string]Load{}, map[string]*Node{}
	v.followers = map[string]map[chan struct{}]struct{}{}
}

func (v *view) setNodes(nodes []Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.nodes)
	clear(v.gone)
	v.ids = v.ids[:0]
	for i := range nodes {
		v.setNodeLocked(nodes[i].ID, &nodes[i])
	}
	for id := range v.followers {
		v.tellLocked(id)
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
	v.tellLocked(id)
}

func (v *view) tellLocked(id string) {
	for wake := range v.followers[id] {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// follow wakes its caller after every change of a node's record, until stop is called.
func (v *view) follow(id string) (wake <-chan struct{}, stop func()) {
	own := make(chan struct{}, 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.followers[id] == nil {
		v.followers[id] = map[chan struct{}]struct{}{}
	}
	v.followers[id][own] = struct{}{}
	return own, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if delete(v.followers[id], own); len(v.followers[id]) == 0 {
			delete(v.followers, id)
		}
	}
}

// enrolled takes a node that has just been made.
func (v *view) enrolled(n *Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.gone, n.ID)
	v.setNodeLocked(n.ID, n)
}

// removed drops a node as this process removed it.
func (v *view) removed(n *Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone[n.ID] = n
	v.setNodeLocked(n.ID, nil)
}

func (v *view) applyNode(c store.Change[Node]) {
	v.mu.Lock()
	defer v.mu.Unlock()
	// A write of our own may have been seen before its echo; an older echo must not undo a newer write.
	if c.Value != nil {
		if old, ok := v.nodes[c.Key]; ok && c.Value.olderThan(old) {
			return
		}
		if gone, ok := v.gone[c.Key]; ok && !c.Value.EnrolledAt.After(gone.EnrolledAt) {
			return
		}
	}
	v.setNodeLocked(c.Key, c.Value)
}

// olderThan compares two records of one name, which may be of two enrolments.
func (n *Node) olderThan(o *Node) bool {
	if n.EnrolledAt.Equal(o.EnrolledAt) {
		return n.Version < o.Version
	}
	return n.EnrolledAt.Before(o.EnrolledAt)
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
