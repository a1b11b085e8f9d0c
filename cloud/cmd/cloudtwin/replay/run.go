package replay

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/node"
)

// Config of a replay. Layout and Images are required.
type Config struct {
	// Layout is the state folder of the new cloud; what is in it goes away.
	Layout local.Layout
	Images string // folder of guest images
	Guests local.Guests
	// Speed is how many times faster than the recording the steps are done; zero means as fast as may be: each as soon as
	// what was before it in the recording has happened. None is ever done before that, within Patience.
	Speed float64
	// Patience bounds the wait for something that happened in the recording; zero means as long as guests of the kind may
	// take to boot.
	Patience time.Duration
	// Until is the number of the event at which the replay ends; zero means the recording's end.
	Until uint64
	// Faults limits the recording's faults to these, by their ids; nil means all of them.
	Faults *fault.Schedule
	// Stay is called before everything ends, with what came out; ended is closed when the cloud was told to end.
	Stay func(ctx context.Context, r *Result, ended <-chan struct{}) error
}

func (c Config) withDefaults() Config {
	c.Guests.Mode = cmp.Or(c.Guests.Mode, local.DefaultGuests)
	if c.Patience == 0 {
		c.Patience = PatienceFor(c.Guests.Mode)
	}
	return c
}

// PatienceFor is how long guests of a kind may take to boot on a busy machine.
func PatienceFor(mode node.GuestMode) time.Duration {
	if mode == node.GuestsSim {
		return 10 * time.Second
	}
	return 90 * time.Second
}

func (c Config) faultWanted(f fault.Fault) bool {
	return c.Faults == nil || slices.ContainsFunc(c.Faults.Faults, func(w fault.Fault) bool { return w.ID == f.ID })
}

// Result is what came of a replay.
type Result struct {
	Recorded Summary `json:"recorded"`
	Replayed Summary `json:"replayed"`
	Speedup  float64 `json:"speedup"`
	// Lines and Tracks count what was compared.
	Lines  int `json:"lines"`
	Tracks int `json:"tracks"`
	// Same says that the replay did not leave the recording.
	Same bool `json:"same"`
	// First is where it did, and More how many other places there are.
	First *Difference `json:"firstDifference,omitempty"`
	More  int         `json:"moreDifferences,omitempty"`
	// NotPlayed are steps that could not be done again.
	NotPlayed []NotPlayed `json:"notPlayed,omitempty"`
	// Until is the event at which the replay ended, zero when that was the recording's end.
	Until uint64 `json:"until,omitempty"`
	// Guests are the instances of the replay that have not ended, at most 20.
	Guests []string `json:"guests,omitempty"`

	replay *trace
	calls  map[string]string // what came of calls, by their tracks
}

// Summary is one side of a replay.
type Summary struct {
	Guests  node.GuestMode `json:"guests"`
	Seconds float64        `json:"seconds"`
	Events  int            `json:"events"`
	Nodes   int            `json:"nodes"`
	Calls   int            `json:"calls"`
	Faults  int            `json:"faults"`
}

// Run plays a recording and returns what came out, also beside an error of the new cloud's end.
func Run(ctx context.Context, r *Recording, cfg Config) (result *Result, err error) {
	cfg = cfg.withDefaults()
	w, err := startWorld(ctx, cfg, r)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return nil, err
	}
	p, err := newPlayer(ctx, w, r)
	if err != nil {
		return nil, err
	}
	defer p.caller.http.CloseIdleConnections()
	if err := p.play(ctx, cfg.Until); err != nil {
		return nil, err
	}
	result = p.result(cfg)
	if cfg.Stay != nil {
		return result, cfg.Stay(ctx, result, w.twin.Done())
	}
	return result, nil
}

// result holds the two against each other.
func (p *player) result(cfg Config) *Result {
	p.live.mu.Lock()
	defer p.live.mu.Unlock()
	r := p.recording
	t := p.live.trace
	if cfg.Until > 0 {
		r = r.upTo(cfg.Until)
	}
	c := &comparison{recording: r, replay: t, began: p.live.began, marks: p.marks,
		patience: max(cfg.Patience, PatienceFor(r.Guests))}
	all := append(p.parted, c.differences()...)
	slices.SortStableFunc(all, func(a, b Difference) int { return cmp.Compare(a.order, b.order) })
	out := &Result{Same: len(all) == 0, NotPlayed: p.notPlayed, Until: cfg.Until, replay: t,
		Guests: t.alive(), calls: p.outcomes}
	if len(all) > 0 {
		out.First, out.More = &all[0], len(all)-1
	}
	for _, lines := range r.trace.tracks {
		out.Tracks++
		out.Lines += len(lines)
	}
	calls, faults := len(p.outcomes), 0
	for _, begun := range p.faults {
		if begun {
			faults++
		}
	}
	out.Recorded = Summary{Guests: r.Guests, Seconds: r.Ended.Sub(r.Began).Seconds(), Events: r.trace.events,
		Nodes: len(r.Nodes), Calls: r.Calls(), Faults: len(r.Faults().Faults)}
	out.Replayed = Summary{Guests: cfg.Guests.Mode, Seconds: time.Since(p.live.began).Seconds(), Events: t.events,
		Nodes: len(p.live.nodes), Calls: calls, Faults: faults}
	if out.Replayed.Seconds > 0 {
		out.Speedup = out.Recorded.Seconds / out.Replayed.Seconds
	}
	return out
}

// upTo is the recording as it was at an event.
func (r *Recording) upTo(seq uint64) *Recording {
	out := *r
	out.trace = newTrace()
	out.trace.names = r.trace.names
	for i := range r.all {
		if ev := &r.all[i]; ev.Seq <= seq {
			out.trace.add(ev)
			out.Ended = ev.Time
		}
	}
	out.trace.finish()
	out.Steps = slices.DeleteFunc(slices.Clone(r.Steps), func(s Step) bool { return s.Seq > seq })
	return &out
}

// mostGuests bounds the guests that a result names.
const mostGuests = 20

// alive are the guests that were told of and have not ended, in the order of their names.
func (t *trace) alive() []string {
	seen := map[string]bool{}
	for _, lines := range t.tracks {
		for _, l := range lines {
			if _, ended := t.ended[l.about]; !ended && l.about != "" {
				seen[l.about] = true
			}
		}
	}
	guests := slices.Sorted(maps.Keys(seen))
	return guests[:min(len(guests), mostGuests)]
}
