package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

const (
	backends = 2
	atOnce   = 10
	// patience bounds how long a failure takes on a busy machine, not how slow a start may be.
	patience = 4 * time.Minute
)

// The aims of starts.
const (
	coldAim       = 1.4  // times a bare boot
	forkAim       = 0.25 // times a cold start in the same run
	forkLimit     = 1.0  // s
	pooledLimit   = 0.6  // s
	forkTenLimit  = 4.0  // s
	pooledForks   = 2
	coldMeasured  = 3
	quickMeasured = 5
)

// landmarks are the events by which the stages of a start end. The last stage, the client's handshake, leaves no event.
func landmarks() []landmark {
	return []landmark{
		milestone("machine-started"), milestone(agent.StageBooted), milestone(agent.StageModules),
		milestone(agent.StageNetwork), milestone(agent.StageReadyForMedium), milestone(agent.StageMediumRead),
		milestone(agent.StageCredentials), milestone(agent.StageListeners), {kind: "delivery.granted"},
		milestone(agent.StageKeyReceived), milestone(agent.StageServing),
	}
}

const stageHandshake = "handshake"

func (l landmark) name() string {
	if l.kind == "delivery.granted" {
		return "delivered"
	}
	return l.stage
}

// stageNames are those of the stages of a cold start or of a fork's, which begin with prefix.
func stageNames(prefix string) []string {
	var all []string
	for _, l := range landmarks() {
		all = append(all, prefix+l.name())
	}
	return append(all, prefix+stageHandshake)
}

// benchColdStarts measures from the answer to CreateLoadBalancer to the first verified handshake.
func benchColdStarts(ctx context.Context, s *suite) (err error) {
	bare, err := s.bareBoot(ctx)
	if err != nil {
		return err
	}
	t, err := startTwin(ctx, s, backends, "--guests", "cold")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if s.wants(nameFirstHandshake) || slices.ContainsFunc(stageNames(nameStages), s.wants) {
		middle, err := t.measureStarts(ctx, coldMeasured)
		if err != nil {
			return err
		}
		s.cold = &middle
		s.emit(result{Name: nameFirstHandshake, Value: middle.took().Seconds(), Unit: seconds}.
			against(nameBareBoot, bare.floppyRead().Seconds(), atMost(coldAim)))
		s.emitStages(nameStages, middle, bare.stages)
	}
	if !s.wants(nameTenAtOnce) {
		return nil
	}
	ten, err := t.tenAtOnce(ctx)
	if err != nil {
		return err
	}
	// With fewer cores than guests the boots share them, so the peer is as many bare boots, perfectly spread.
	cores := min(runtime.GOMAXPROCS(0), atOnce)
	s.emit(result{Name: nameTenAtOnce, Value: ten.took.Seconds(), Unit: seconds}.
		against(ten.beside(fmt.Sprintf("%d bare boots spread over %d cores", atOnce, cores)),
			bare.floppyRead().Seconds()*atOnce/float64(cores), aim{}))
	return nil
}

// coldStart returns the median cold start; it is measured when it is first asked for.
func (s *suite) coldStart(ctx context.Context) (_ start, err error) {
	if s.cold != nil {
		return *s.cold, nil
	}
	t, err := startTwin(ctx, s, backends, "--guests", "cold")
	if err != nil {
		return start{}, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	middle, err := t.measureStarts(ctx, coldMeasured)
	if err != nil {
		return start{}, err
	}
	s.cold = &middle
	return middle, nil
}

// benchForkStarts is benchColdStarts for guests that are copies of a template.
func benchForkStarts(ctx context.Context, s *suite) (err error) {
	cold, err := s.coldStart(ctx)
	if err != nil {
		return err
	}
	t, err := startTwin(ctx, s, backends, "--guests", "fork")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	middle, err := t.measureForks(ctx, "fork")
	if err != nil {
		return err
	}
	s.emit(result{Name: nameForkHandshake, Value: middle.took().Seconds(), Unit: seconds}.
		against(nameFirstHandshake, cold.took().Seconds(), atMost(forkAim).within(forkLimit)))
	s.emitStages(nameForkStages, middle, nil)
	if !s.wants(nameForkTen) {
		return nil
	}
	ten, err := t.tenAtOnce(ctx)
	if err != nil {
		return err
	}
	s.emit(result{Name: nameForkTen, Value: ten.took.Seconds(), Unit: seconds}.
		against(ten.beside("ten one by one"), middle.took().Seconds()*atOnce, aim{}.within(forkTenLimit)))
	return nil
}

// benchPooledStarts is benchForkStarts with forks that were prepared.
func benchPooledStarts(ctx context.Context, s *suite) (err error) {
	cold, err := s.coldStart(ctx)
	if err != nil {
		return err
	}
	t, err := startTwin(ctx, s, backends, "--guests", "fork", "--pool", strconv.Itoa(pooledForks))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	middle, err := t.measureForks(ctx, "pooled")
	if err != nil {
		return err
	}
	s.emit(result{Name: namePooledHandshake, Value: middle.took().Seconds(), Unit: seconds}.
		against(nameFirstHandshake, cold.took().Seconds(), atMost(forkAim).within(pooledLimit)))
	return nil
}

// benchPooledBurst is how long ten forks take that are asked for together and were all prepared.
func benchPooledBurst(ctx context.Context, s *suite) (err error) {
	t, err := startTwin(ctx, s, backends, "--guests", "fork", "--pool", strconv.Itoa(atOnce))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	middle, err := t.measureForks(ctx, "pooled")
	if err != nil {
		return err
	}
	ten, err := t.tenAtOnce(ctx)
	if err == nil {
		err = ten.allAre("pooled")
	}
	if err != nil {
		return err
	}
	s.emit(result{Name: namePooledTen, Value: ten.took.Seconds(), Unit: seconds}.
		against(ten.beside("ten one by one"), middle.took().Seconds()*atOnce, aim{}.within(forkTenLimit)))
	return nil
}

// benchSimStarts is benchColdStarts for simulated guests.
func benchSimStarts(ctx context.Context, s *suite) (err error) {
	cold, err := s.coldStart(ctx)
	if err != nil {
		return err
	}
	t, err := startTwin(ctx, s, backends, "--guests", "sim")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	middle, err := t.measureStarts(ctx, quickMeasured)
	if err != nil {
		return err
	}
	s.emit(result{Name: nameSimHandshake, Value: middle.took().Seconds(), Unit: seconds}.
		against(nameFirstHandshake, cold.took().Seconds(), aim{}))
	return nil
}

// start is one load balancer's way to its first handshake.
type start struct {
	asked      time.Time // CreateLoadBalancer was answered
	handshaken time.Time
	events     []journal.Event // of its LBVM
}

func (o start) took() time.Duration { return o.handshaken.Sub(o.asked) }

// how tells how the LBVM came to life: cold, fork, pooled, sim.
func (o start) how() string {
	i := slices.IndexFunc(o.events, milestone("machine-started").is)
	if i < 0 {
		return ""
	}
	return o.events[i].Attributes["guests"]
}

// measureForks makes the template and fills the pool by one start that does not count, and checks that the others
// came to life as they should.
func (t *twin) measureForks(ctx context.Context, how string) (start, error) {
	if _, err := t.measureStarts(ctx, 1); err != nil {
		return start{}, err
	}
	middle, err := t.measureStarts(ctx, quickMeasured)
	if err == nil && middle.how() != how {
		err = fmt.Errorf("the guest came to life as %q, not %q", middle.how(), how)
	}
	return middle, err
}

// measureStarts returns the median of n starts, one after the other on an idle twin.
func (t *twin) measureStarts(ctx context.Context, n int) (start, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var starts []start
	for range n {
		t.made++
		name := "one-" + strconv.Itoa(t.made)
		if err := t.idle(ctx); err != nil {
			return start{}, err
		}
		if err := t.create(ctx, name); err != nil {
			return start{}, err
		}
		one := start{asked: time.Now()}
		instance, err := t.serve(ctx, name)
		if err != nil {
			return start{}, err
		}
		one.handshaken = time.Now()
		one.events, _, _ = t.events.about(instance)
		starts = append(starts, one)
		if err := t.remove(ctx, name, instance); err != nil {
			return start{}, err
		}
	}
	return medianBy(starts, start.took), nil
}

// emitStages gives the parts that a start's time is made of; they add up to it. Beside those that a bare boot has too
// is that boot's.
func (s *suite) emitStages(prefix string, o start, bare map[string]time.Duration) {
	for _, r := range o.stages(prefix, bare) {
		s.emit(r)
	}
}

func (o start) stages(prefix string, bare map[string]time.Duration) []result {
	type passed struct {
		landmark
		at time.Time
	}
	var all []passed
	for _, l := range landmarks() {
		if i := slices.IndexFunc(o.events, l.is); i >= 0 {
			all = append(all, passed{l, at(o.events[i])})
		}
	}
	// A fork reads its medium before it has a network.
	slices.SortStableFunc(all, func(a, b passed) int { return a.at.Compare(b.at) })
	var out []result
	last, bareLast := o.asked, time.Duration(0)
	for _, p := range all {
		r := result{Name: prefix + p.name(), Value: p.at.Sub(last).Seconds(), Unit: seconds}
		last = p.at
		if t, ok := bare[p.stage]; ok {
			r = r.against("bare boot, same stage", (t - bareLast).Seconds(), aim{})
			bareLast = t
		}
		out = append(out, r)
	}
	return append(out, result{Name: prefix + stageHandshake, Value: o.handshaken.Sub(last).Seconds(), Unit: seconds})
}
