package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/api"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// Pauses of the player.
const (
	// pollPause is between two attempts of a call whose answer is not yet what it was.
	pollPause = 20 * time.Millisecond
	// shortPatience is what is left once the replay has left the recording.
	shortPatience = time.Second
)

// player does a recording's steps to a new cloud.
type player struct {
	recording *Recording
	world     *world
	live      *live
	caller    *caller
	replaced  *substitutes
	marks     []mark
	landmarks *landmarks
	patience  time.Duration
	speed     float64 // 0: as soon as what was before has happened
	wanted    func(fault.Fault) bool

	notPlayed []NotPlayed
	parted    []Difference      // calls that came out otherwise
	outcomes  map[string]string // by the calls' tracks
	faults    map[string]bool   // that were begun
	began     time.Time
}

// NotPlayed is a step that was left out.
type NotPlayed struct {
	Event  uint64 `json:"event"`
	What   string `json:"what"`
	Reason string `json:"reason"`
}

func newPlayer(ctx context.Context, w *world, r *Recording) (*player, error) {
	c, err := w.caller(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &player{recording: r, world: w, live: w.live, caller: c, landmarks: newLandmarks(r.trace),
		patience: w.cfg.Patience, speed: w.cfg.Speed, wanted: w.cfg.faultWanted,
		faults: map[string]bool{}, outcomes: map[string]string{}, began: now,
		replaced: &substitutes{ids: map[string]string{}, passwords: map[string]int{}, ports: portsOf(r), recorded: r.Began,
			now: now}}, nil
}

// play does the steps up to that of an event, and waits for what had happened until then; 0 means all.
func (p *player) play(ctx context.Context, until uint64) error {
	if err := p.build(ctx); err != nil {
		return err
	}
	end := p.recording.Ended.Add(time.Nanosecond)
	for i := range p.recording.Steps {
		step := &p.recording.Steps[i]
		if until > 0 && step.Seq > until {
			break
		}
		if err := p.before(ctx, step.Begin); err != nil {
			return err
		}
		p.marks = append(p.marks, mark{step: step, begun: time.Now()})
		if err := p.step(ctx, step); err != nil {
			return fmt.Errorf("play event %d: %w", step.Seq, err)
		}
	}
	if at, ok := p.recording.timeOf(until); ok {
		end = at.Add(time.Nanosecond)
	}
	return p.before(ctx, end)
}

// before waits until the replay is where the recording was before a time.
func (p *player) before(ctx context.Context, at time.Time) error {
	if p.speed > 0 {
		due := p.began.Add(time.Duration(float64(at.Sub(p.recording.Began)) / p.speed))
		timer := time.NewTimer(time.Until(due))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	missing, err := p.landmarks.await(ctx, p.live, at, p.patience)
	if missing != "" {
		p.patience = min(p.patience, shortPatience)
	}
	return err
}

func (p *player) step(ctx context.Context, step *Step) error {
	switch {
	case step.Call != nil:
		return p.call(ctx, step)
	case step.Began != nil:
		return p.begin(ctx, step)
	case step.Cleared != "":
		return p.clear(ctx, step.Cleared)
	case step.Node != nil:
		return p.world.join(ctx, *step.Node)
	case step.Killed != "", step.Revived != "", step.Restart != nil:
		return p.again(ctx, step)
	case step.Operated != nil:
		return p.operate(ctx, step)
	case step.Removed != "":
		_, err := p.world.twin.RemoveNode(ctx, step.Removed, "removed in the recording")
		if refusal, ok := errors.AsType[*operator.Refusal](err); ok {
			p.skip(step, "the removal of "+step.Removed, refusal.Message)
			return nil
		}
		return err
	}
	return nil
}

func (p *player) skip(step *Step, what, reason string) {
	p.notPlayed = append(p.notPlayed, NotPlayed{Event: step.Seq, What: what, Reason: reason})
}

// begin has a fault begin. How long it lasts the recording tells, by the place of its end.
func (p *player) begin(ctx context.Context, step *Step) error {
	f := *step.Began
	f.Target = p.here(f.Target)
	if !p.wanted(f) {
		return nil
	}
	_, err := p.world.twin.AddFault(ctx, f)
	if refusal, ok := errors.AsType[*operator.Refusal](err); ok {
		p.skip(step, "the fault "+f.ID+" ("+string(f.Kind)+")", refusal.Message)
		return nil
	}
	p.faults[f.ID] = err == nil
	return err
}

func (p *player) clear(ctx context.Context, id string) error {
	if !p.faults[id] {
		return nil
	}
	err := p.world.twin.ClearFaults(ctx, id)
	if _, ended := errors.AsType[*operator.Refusal](err); ended { // one that is a moment has ended by itself
		return nil
	}
	return err
}

// call makes a call and holds its outcome against the recorded one.
func (p *player) call(ctx context.Context, step *Step) error {
	call := step.Call
	key, err := p.caller.credentialFor(call)
	var form map[string][]string
	if err == nil {
		form, err = p.replaced.form(call)
	}
	if reason, ok := asUnplayable(err); ok {
		p.skip(step, call.Action, reason)
		return nil
	}
	if err != nil {
		return err
	}
	got, at, err := p.ask(ctx, call, form, key)
	if err != nil {
		return err
	}
	if len(call.Made) > 0 {
		made := api.Made(got.body)
		p.replaced.learn(call.Made, made)
		p.caller.learn(call.Made, made, got.body)
		p.live.learnCall(call.Number, made)
	}
	p.outcomes[callTrack(call)] = got.short()
	if !got.same(call) {
		p.patience = min(p.patience, shortPatience)
		p.parted = append(p.parted, p.differenceOf(step, got, at))
	}
	return nil
}

// ask sends a call until it comes out as it did. A question is asked again, and so is what was refused and was not in
// the recording: what they wait for may have taken longer there.
func (p *player) ask(ctx context.Context, call *Call, form map[string][]string, key credential) (
	got outcome, at time.Time, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for deadline := time.Now().Add(p.patience); ; {
		got, err = p.caller.send(ctx, call, form, key)
		at = time.Now()
		if err != nil || got.same(call) || at.After(deadline) || !p.mayRepeat(call, got) {
			return got, at, err
		}
		timer := time.NewTimer(pollPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return got, at, ctx.Err()
		}
	}
}

// callTrack names what a call is compared under.
func callTrack(c *Call) string { return fmt.Sprintf("call %d, %s", c.Number, c.Action) }

func (p *player) mayRepeat(call *Call, got outcome) bool {
	_, operation, _ := strings.Cut(call.Action, ":")
	reads := strings.HasPrefix(operation, "Describe") || strings.HasPrefix(operation, "List") ||
		strings.HasPrefix(operation, "Get")
	return reads || call.Status < 300 && got.status >= 300
}

func (p *player) differenceOf(step *Step, got outcome, at time.Time) Difference {
	call := step.Call
	recorded := outcome{status: call.Status, code: call.Code, message: call.Message}
	d := Difference{Track: callTrack(call), order: float64(step.Seq),
		Recorded: &Side{Event: step.Seq, At: step.End.Sub(p.recording.Began).Seconds(), About: call.Caller,
			Text: recorded.String()},
		Replayed: &Side{At: at.Sub(p.live.start()).Seconds(), About: p.replaced.text(call.Caller), Text: got.String()}}
	for i := range p.recording.Steps {
		if next := &p.recording.Steps[i]; next.Seq > step.Seq && next.Call != nil {
			d.RecordedNext = &Side{Event: next.Seq, At: next.End.Sub(p.recording.Began).Seconds(), About: next.Call.Caller,
				Text: next.Call.Action}
			break
		}
	}
	return d
}
