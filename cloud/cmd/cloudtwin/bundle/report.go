package bundle

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Report sums a bundle up.
type Report struct {
	Manifest Manifest       `json:"manifest"`
	Events   int            `json:"events"`
	From     time.Time      `json:"from"` // the first event
	To       time.Time      `json:"to"`   // the last one
	Kinds    map[string]int `json:"kinds"`
	Guests   []*Guest       `json:"guests"`
	// Troubles are the events that tell of something that did not work, at most mostTroubles, the first ones.
	Troubles []journal.Event `json:"troubles"`
	// MoreTroubles is how many there were beyond those.
	MoreTroubles int `json:"moreTroubles,omitempty"`

	parts []int // events in each part
}

// mostTroubles bounds Report.Troubles: what went wrong first tells most.
const mostTroubles = 1000

// Guest is one guest's life.
type Guest struct {
	ID     string  `json:"id"`
	Image  string  `json:"image,omitempty"`
	Node   string  `json:"node,omitempty"`
	How    string  `json:"how,omitempty"` // fork, pooled, cold, sim
	State  string  `json:"state,omitempty"`
	Reason string  `json:"reason,omitempty"` // why it ended
	Stages []Stage `json:"stages"`
}

// Stage is a milestone of a guest.
type Stage struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
	Seq  uint64    `json:"seq"`
}

// Report reads all events.
func (b *Bundle) Report() (*Report, error) {
	r := &Report{Manifest: b.Manifest, Kinds: map[string]int{}}
	guests := map[string]*Guest{}
	err := eachPart(b, newDigest, func(d *digest) error {
		r.add(d, guests)
		return nil
	})
	r.Guests = slices.SortedFunc(maps.Values(guests), func(a, b *Guest) int {
		return cmp.Or(a.begun().Compare(b.begun()), cmp.Compare(a.ID, b.ID))
	})
	return r, err
}

// digest is what a report wants of some events.
type digest struct {
	events   int
	from, to time.Time
	kinds    map[string]int
	lives    []journal.Event // steps of guests' lives
	troubles []journal.Event // at most mostTroubles
	more     int             // troubles beyond those
}

func newDigest(int) (each func(*line, words) error, done func() *digest) {
	d := &digest{kinds: map[string]int{}}
	return d.take, func() *digest { return d }
}

func (d *digest) take(l *line, w words) error {
	if d.events++; d.events == 1 {
		d.from = l.time
	}
	d.to = l.time
	d.kinds[l.kind]++
	life, suspect := l.kind == milestoneEvent || l.kind == stateEvent, mayBeTrouble(l)
	if !life && !suspect {
		return nil
	}
	ev, err := l.event(w)
	if err != nil {
		return err
	}
	if life {
		d.lives = append(d.lives, ev)
	}
	switch {
	case !suspect || !isTrouble(&ev):
	case len(d.troubles) < mostTroubles:
		d.troubles = append(d.troubles, ev)
	default:
		d.more++
	}
	return nil
}

// failed says whether the guest's life has a step that did not work.
func (g *Guest) failed() bool {
	return g.State == "failed" || slices.ContainsFunc(g.Stages, func(s Stage) bool {
		return strings.HasSuffix(s.Name, "failed") || strings.HasSuffix(s.Name, "refused")
	})
}

func (g *Guest) begun() time.Time {
	if len(g.Stages) == 0 {
		return time.Time{}
	}
	return g.Stages[0].At
}

func (r *Report) add(d *digest, guests map[string]*Guest) {
	r.parts = append(r.parts, d.events)
	if d.events == 0 {
		return
	}
	if r.Events == 0 {
		r.From = d.from
	}
	r.Events += d.events
	r.To = d.to
	for kind, n := range d.kinds {
		r.Kinds[kind] += n
	}
	room := min(mostTroubles-len(r.Troubles), len(d.troubles))
	r.Troubles = append(r.Troubles, d.troubles[:room]...)
	r.MoreTroubles += d.more + len(d.troubles) - room
	for i := range d.lives {
		addLife(&d.lives[i], guests)
	}
}

// addLife notes a step of a guest's life.
func addLife(ev *journal.Event, guests map[string]*Guest) {
	g := guests[ev.Subject]
	if g == nil {
		g = &Guest{ID: ev.Subject, Stages: []Stage{}}
		guests[ev.Subject] = g
	}
	g.Image, g.Node = cmp.Or(g.Image, ev.Attributes["image"]), cmp.Or(ev.Attributes["node"], g.Node)
	name := ev.Attributes["stage"]
	if ev.Kind == stateEvent {
		name = ev.Attributes["state"]
		g.State, g.Reason = name, cmp.Or(ev.Attributes["reason"], g.Reason)
	}
	g.How = cmp.Or(g.How, ev.Attributes["guests"])
	at := ev.Time
	// Its node saw it before the cloud heard of it.
	if seen, err := time.Parse(time.RFC3339Nano, ev.Attributes["at"]); err == nil {
		at = seen
	}
	g.Stages = append(g.Stages, Stage{Name: name, At: at, Seq: ev.Seq})
}

// The kinds of events that a guest's life is told from, and requests.
const (
	milestoneEvent = "guest.milestone"
	stateEvent     = "instance.state"
	requestEvent   = "api.request"
	machineEvent   = "machine.state"
)

// mayBeTrouble rules out most events by what they are, before their attributes are opened.
func mayBeTrouble(l *line) bool {
	switch l.kind {
	case requestEvent:
		return bytes.Contains(l.attributes, []byte(`"status":"4`)) || bytes.Contains(l.attributes, []byte(`"status":"5`))
	case milestoneEvent, stateEvent:
		return true
	}
	return isTrouble(&journal.Event{Kind: l.kind}) || l.kind == machineEvent
}

// isTrouble says whether an event tells of something that did not work: a request that was refused or failed, a
// delivery that was denied, a guest or a start that failed, an invariant that broke.
func isTrouble(ev *journal.Event) bool {
	switch ev.Kind {
	case requestEvent:
		status := ev.Attributes["status"]
		return strings.HasPrefix(status, "4") || strings.HasPrefix(status, "5")
	case milestoneEvent:
		return strings.HasSuffix(ev.Attributes["stage"], "failed") || strings.HasSuffix(ev.Attributes["stage"], "refused")
	case stateEvent:
		return ev.Attributes["state"] == "failed"
	case machineEvent:
		return ev.Attributes["state"] == "crashed"
	}
	return strings.HasSuffix(ev.Kind, ".denied") || strings.HasSuffix(ev.Kind, "_failed") ||
		strings.HasSuffix(ev.Kind, "_refused") || ev.Kind == "node.down" || ev.Kind == "invariant.broken"
}
