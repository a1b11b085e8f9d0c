package replay

import (
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Restart is an end of the cloud's process, and its next start on the same state.
type Restart struct {
	// Nodes are the ids of those that ended and started with it.
	Nodes []string
}

// restartsIn finds the steps in which processes of the recording ended and started, by the number of the event that
// tells: the cloud's by its second start, a node's by the connection that it lost and the next one, made by a process
// that started later. What a fault did to a node is the fault's.
func restartsIn(before *Before, events []journal.Event) map[uint64]*Step {
	w := &restartWatch{steps: map[uint64]*Step{}, started: map[string]string{}, lost: map[string]*journal.Event{}}
	if before != nil {
		for i := range before.events {
			w.see(&before.events[i], true)
		}
	}
	for i := range events {
		w.see(&events[i], before == nil && i == 0)
	}
	return w.steps
}

type restartWatch struct {
	steps   map[uint64]*Step
	started map[string]string         // by node: when its process started, as it said last
	lost    map[string]*journal.Event // by node: the connection that it lost
	restart *Restart                  // the cloud's last
}

// see takes each event in order; known says that it tells how things began.
func (w *restartWatch) see(ev *journal.Event, known bool) {
	switch ev.Kind {
	case cloud.EventStarted:
		clear(w.lost)
		if !known {
			w.restart = &Restart{}
			w.steps[ev.Seq] = &Step{Seq: ev.Seq, Begin: ev.Time, End: ev.Time, Restart: w.restart}
		}
	case "fault.began", "fault.ended":
		if killKinds[ev.Attributes["kind"]] {
			clear(w.started) // a node that comes back then is the fault's
		}
	case "node.disconnected":
		w.lost[ev.Subject] = ev
	case "node.removed":
		delete(w.lost, ev.Subject)
	case "node.connected":
		w.connected(ev)
	}
}

// killKinds are the faults that end a node's connection by themselves.
var killKinds = map[string]bool{"node.kill": true, "node.freeze": true}

func (w *restartWatch) connected(ev *journal.Event) {
	node, started := ev.Subject, ev.Attributes["started"]
	was := w.started[node]
	lost := w.lost[node]
	w.started[node] = started
	delete(w.lost, node)
	if was == "" || started == "" || was == started {
		return
	}
	switch {
	case lost != nil:
		w.steps[lost.Seq] = &Step{Seq: lost.Seq, Begin: lost.Time, End: lost.Time, Killed: node}
		w.steps[ev.Seq] = &Step{Seq: ev.Seq, Begin: ev.Time, End: ev.Time, Revived: node}
	case w.restart != nil:
		w.restart.Nodes = append(w.restart.Nodes, node)
	}
}

// lateWords tells of what guests had done when their node was killed, and what the cloud heard of only when that had
// started again: it belongs before the kill.
type lateWords struct {
	began  map[string]time.Time // by guest: no later than that, by its own clock
	killed time.Time            // when a node was, last
}

// of returns an event with the time at which it belongs among the steps.
func (l *lateWords) of(ev *journal.Event, step *Step) *journal.Event {
	if step != nil && step.Killed != "" {
		l.killed = ev.Time
	}
	seconds, err := strconv.ParseFloat(ev.Attributes["t"], 64)
	if err != nil || ev.Kind != "guest.milestone" {
		return ev
	}
	lived := time.Duration(seconds * float64(time.Second))
	began := ev.Time.Add(-lived)
	if known, ok := l.began[ev.Subject]; !ok || began.Before(known) {
		l.began[ev.Subject] = began
	}
	if did := l.began[ev.Subject].Add(lived); l.killed.IsZero() || !did.Before(l.killed) {
		return ev
	}
	earlier := *ev
	earlier.Time = l.killed.Add(-time.Nanosecond)
	return &earlier
}
