package play

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// The kinds of events. Their subject is the fault's id, but for EventApplied, whose subject is what it happened to.
const (
	EventBegan   = "fault.began"
	EventEnded   = "fault.ended"
	EventApplied = "fault.applied" // at most maxApplied of each fault
	EventRefused = "fault.refused" // likewise
)

// maxApplied bounds what is told of one fault's occasions: of a lossy wire there are many a millisecond.
const maxApplied = 100

// run begins and ends faults at their time until ctx ends.
func (p *Player) run(ctx context.Context) {
	defer close(p.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.change:
		case <-timer.C:
		}
		if next, ok := p.advance(time.Now()); ok {
			timer.Reset(time.Until(next))
		}
	}
}

// advance begins and ends what is due at a time, and returns when the next one is.
func (p *Player) advance(now time.Time) (next time.Time, ok bool) {
	p.mu.Lock()
	for _, e := range slices.Clone(p.entries) {
		begins := p.base.Add(e.At.Duration)
		if e.State == Pending && !begins.After(now) {
			p.start(e, now)
		}
		ends := e.Began.Add(e.For.Duration)
		if e.State == Active && (e.info.Moment || e.For.Duration > 0 && !ends.After(now)) {
			p.end(e, now)
		}
		due := begins
		switch {
		case e.State == Ended, e.State == Active && e.For.Duration == 0:
			continue
		case e.State == Active:
			due = ends
		}
		if !ok || due.Before(next) {
			next, ok = due, true
		}
	}
	p.mu.Unlock()
	return next, ok
}

// start begins a fault. The caller holds mu.
func (p *Player) start(e *entry, now time.Time) {
	p.begun++
	e.State, e.Began, e.order = Active, now, p.begun
	p.changed()
	p.record(EventBegan, e.ID, e.Fault)
}

// end ends a fault. The caller holds mu. A moment that nodes are to have stays in their orders, see orders.
func (p *Player) end(e *entry, now time.Time) {
	e.State, e.Ended = Ended, now
	p.changed()
	p.record(EventEnded, e.ID, e.Fault)
}

// changed makes the present state what everybody follows. The caller holds mu.
func (p *Player) changed() {
	p.revision++
	close(p.wake)
	p.wake = make(chan struct{})
	busy := false
	for _, e := range p.entries {
		busy = busy || e.State == Active && (e.info.Scope == fault.Operations || e.info.Scope == fault.Records)
	}
	p.busy.Store(busy)
}

func (p *Player) record(kind, subject string, f fault.Fault) {
	attributes := map[string]string{"fault": f.ID, "kind": string(f.Kind)}
	for name, value := range map[string]string{"target": f.Target, "for": f.For.String(), "at": f.At.String()} {
		if value != "" && value != "0s" {
			attributes[name] = value
		}
	}
	if f.Rate != 0 {
		attributes["rate"] = strconv.FormatFloat(f.Rate, 'g', -1, 64)
	}
	// Whoever plays a recording again needs the same chance.
	if seed := cmp.Or(f.Seed, p.seed); seed != 0 {
		attributes["seed"] = strconv.FormatUint(seed, 10)
	}
	for name, value := range f.With {
		attributes["with."+name] = value
	}
	p.cfg.Journal.Record(context.Background(), journal.Event{Kind: kind, Subject: subject, Attributes: attributes})
}

// happened counts an occasion of a fault and tells the journal of the first ones. The caller holds mu.
func (p *Player) happened(e *entry, subject string, attributes map[string]string) {
	e.Applied++
	if e.Applied <= maxApplied {
		p.tell(EventApplied, e, subject, attributes)
	}
}

// refused counts an occasion on which it could not happen. The caller holds mu.
func (p *Player) refused(e *entry, subject, why string) {
	e.Refused++
	e.Why = why
	if e.Refused <= maxApplied {
		p.tell(EventRefused, e, subject, map[string]string{"reason": why})
	}
}

func (p *Player) tell(kind string, e *entry, subject string, more map[string]string) {
	attributes := map[string]string{"fault": e.ID, "kind": string(e.Kind)}
	for name, value := range more {
		if value != "" {
			attributes[name] = value
		}
	}
	p.cfg.Journal.Record(context.Background(), journal.Event{Kind: kind, Subject: subject, Attributes: attributes})
}
