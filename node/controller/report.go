package controller

import (
	"maps"
	"slices"
	"sync"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/console"
)

// The states that a node reports of an instance.
const (
	statePending = "pending"
	stateRunning = "running"
	stateStopped = "stopped"
	stateFailed  = "failed"
)

// reporter collects what is to be told to the cloud. Everything it remembers is told when a connection begins, and
// only what changed after that, so a report that was lost with its connection is told again.
type reporter struct {
	mu       sync.Mutex
	statuses map[string]*report
	dirty    map[string]*report // those with something to tell
	wake     chan struct{}
}

type report struct {
	state, reason, console string
	milestones             []*nodelink.Milestone
	unsent                 []*nodelink.Milestone
	gone                   bool // dropped once it was told
}

func (r *reporter) init() {
	r.statuses, r.dirty = map[string]*report{}, map[string]*report{}
	r.wake = make(chan struct{}, 1)
}

func (r *reporter) change(id string, change func(*report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.statuses[id]
	if st == nil {
		return
	}
	change(st)
	r.dirty[id] = st
	r.nudge()
}

// nudge says that there is something to tell.
func (r *reporter) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// begin makes an instance known, as pending.
func (r *reporter) begin(id, console string) {
	r.mu.Lock()
	r.statuses[id] = &report{state: statePending, console: console}
	r.mu.Unlock()
	r.change(id, func(*report) {})
}

func (r *reporter) state(id, state, reason string) {
	r.change(id, func(st *report) { st.state, st.reason = state, reason })
}

// milestone adds one and says whether it was new.
func (r *reporter) milestone(id string, m *nodelink.Milestone) (isNew bool) {
	r.change(id, func(st *report) {
		merged, added := nodelink.MergeMilestones(st.milestones, []*nodelink.Milestone{m}, console.Same)
		st.milestones = merged
		st.unsent = append(st.unsent, added...)
		isNew = len(added) > 0
	})
	return isNew
}

// end tells that an instance is gone from this node and then forgets it.
func (r *reporter) end(id, console string) {
	r.change(id, func(st *report) {
		if st.state != stateFailed {
			st.state = stateStopped
		}
		st.console, st.gone = console, true
	})
}

// everything returns the whole of what is known, for the first report of a connection.
func (r *reporter) everything() []*nodelink.InstanceStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*nodelink.InstanceStatus
	for _, id := range slices.Sorted(maps.Keys(r.statuses)) {
		st := r.statuses[id]
		out = append(out, st.message(id, st.milestones))
		r.told(id, st)
	}
	return out
}

// news returns what changed since the last call.
func (r *reporter) news() []*nodelink.InstanceStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*nodelink.InstanceStatus
	for _, id := range slices.Sorted(maps.Keys(r.dirty)) {
		st := r.dirty[id]
		out = append(out, st.message(id, st.unsent))
		r.told(id, st)
	}
	return out
}

func (r *reporter) told(id string, st *report) {
	delete(r.dirty, id)
	st.unsent = nil
	if st.gone {
		delete(r.statuses, id)
	}
}

func (st *report) message(id string, milestones []*nodelink.Milestone) *nodelink.InstanceStatus {
	return &nodelink.InstanceStatus{
		InstanceId: id, State: st.state, Reason: st.reason, ConsolePath: st.console, Milestones: milestones,
	}
}
