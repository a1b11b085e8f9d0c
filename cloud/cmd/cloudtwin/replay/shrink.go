package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Errors of Shrink.
var (
	// ErrNoFailure means that the recording tells of nothing that failed.
	ErrNoFailure = errors.New("no failure in the recording")
	// ErrNotAgain means that the failure does not happen in a replay with all faults.
	ErrNotAgain = errors.New("the failure does not happen again")
)

// Failure is something that went wrong in a recording.
type Failure struct {
	Event uint64 `json:"event"`
	Track string `json:"track"`
	Text  string `json:"text"`
}

// Failure returns the failure that the event of a number tells, or when that is 0 the first one that there is: an
// invariant that broke, a guest that failed, a delivery that was denied, a call that failed for a fault of the cloud's.
func (r *Recording) Failure(seq uint64) (Failure, error) {
	for i := range r.all {
		ev := &r.all[i]
		if seq != 0 && ev.Seq != seq || seq == 0 && !fails(ev) {
			continue
		}
		if call := r.callAt(ev.Seq); call != nil {
			return Failure{Event: ev.Seq, Track: callTrack(call), Text: outcome{status: call.Status, code: call.Code}.short()},
				nil
		}
		if l, tells, known := r.trace.names.lineOf(ev); tells && known {
			return Failure{Event: ev.Seq, Track: l.track, Text: l.text}, nil
		}
		if seq != 0 {
			return Failure{}, fmt.Errorf("%w: event %d tells nothing that is compared", ErrNoFailure, seq)
		}
	}
	return Failure{}, fmt.Errorf("%w: no guest failed, no delivery was denied, no invariant broke; name the event that "+
		"it is about with --until", ErrNoFailure)
}

func fails(ev *journal.Event) bool {
	stage := ev.Attributes["stage"]
	switch ev.Kind {
	case "invariant.broken", "delivery.denied":
		return true
	case "instance.state":
		return ev.Attributes["state"] == "failed"
	case "guest.milestone":
		return strings.HasSuffix(stage, "failed") || strings.HasSuffix(stage, "refused")
	case "api.request":
		return strings.HasPrefix(ev.Attributes["status"], "5")
	}
	return false
}

func (r *Recording) callAt(seq uint64) *Call {
	i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Seq == seq })
	if i < 0 {
		return nil
	}
	return r.Steps[i].Call
}

// has says whether a failure happened in a replay.
func (r *Result) has(f Failure) bool {
	if r.calls[f.Track] == f.Text {
		return true
	}
	return slices.ContainsFunc(r.replay.tracks[f.Track], func(l line) bool { return l.text == f.Text })
}

// Shrink finds the smallest part of the recording's faults with which a failure still happens, by replaying. tried is
// told of each replay.
func Shrink(ctx context.Context, r *Recording, cfg Config, f Failure, tried func(faults int, failed bool)) (
	fault.Schedule, error) {
	all := r.Faults()
	play := func(ctx context.Context, s fault.Schedule) (bool, error) {
		c := cfg
		c.Faults, c.Stay, c.Until = &s, nil, 0
		result, err := Run(ctx, r, c)
		if err != nil {
			return false, err
		}
		tried(len(s.Faults), result.has(f))
		return result.has(f), nil
	}
	again, err := play(ctx, all)
	if err != nil {
		return all, err
	}
	if !again {
		return all, fmt.Errorf("%w: event %d, %s: %s", ErrNotAgain, f.Event, f.Track, f.Text)
	}
	smallest, err := fault.Shrink(ctx, all, play)
	r.lengths(&smallest)
	return smallest, err
}

// lengths notes how long faults lasted. A replay has no use for it: there a fault ends in its place among the steps.
func (r *Recording) lengths(s *fault.Schedule) {
	for i := range s.Faults {
		f := &s.Faults[i]
		info, _ := fault.InfoOf(f.Kind)
		end := slices.IndexFunc(r.Steps, func(step Step) bool { return step.Cleared == f.ID })
		if end >= 0 && !info.Moment {
			f.For.Duration = max(r.Steps[end].Begin.Sub(r.Began)-f.At.Duration, 0)
		}
	}
}
