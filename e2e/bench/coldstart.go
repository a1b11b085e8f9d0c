package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

const (
	coldStarts = 3
	atOnce     = 10
	// patience bounds how long a failure takes on a busy machine, not how slow a start may be.
	patience = 4 * time.Minute
	// coldStartAim is how much longer than a bare boot a cold start may take.
	coldStartAim = 1.4
)

// landmarks are the events by which the stages of a cold start end, in their order. The last stage, the client's
// handshake, leaves no event.
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

func stageNames() []string {
	var all []string
	for _, l := range landmarks() {
		all = append(all, nameStages+l.name())
	}
	return append(all, nameStages+stageHandshake)
}

// benchColdStarts measures from the answer to CreateLoadBalancer to the first verified handshake.
func benchColdStarts(ctx context.Context, s *suite) (err error) {
	bare, err := s.bareBoot(ctx)
	if err != nil {
		return err
	}
	t, err := startTwin(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if s.wants(nameFirstHandshake) || slices.ContainsFunc(stageNames(), s.wants) {
		if err := firstHandshakes(ctx, s, t, bare); err != nil {
			return err
		}
	}
	if s.wants(nameTenAtOnce) {
		return tenAtOnce(ctx, s, t, bare)
	}
	return nil
}

// coldStart is one load balancer's way to its first handshake.
type coldStart struct {
	asked      time.Time // CreateLoadBalancer was answered
	handshaken time.Time
	events     []journal.Event // of its LBVM
}

func (c coldStart) took() time.Duration { return c.handshaken.Sub(c.asked) }

func firstHandshakes(ctx context.Context, s *suite, t *twin, bare bareBoot) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var starts []coldStart
	for i := range coldStarts {
		name := "one-" + strconv.Itoa(i)
		if err := t.create(ctx, name); err != nil {
			return err
		}
		start := coldStart{asked: time.Now()}
		instance, err := t.serve(ctx, name)
		if err != nil {
			return err
		}
		start.handshaken = time.Now()
		start.events, _, _ = t.events.about(instance)
		starts = append(starts, start)
		if err := t.remove(ctx, name, instance); err != nil {
			return err
		}
	}
	middle := medianBy(starts, coldStart.took)
	s.emit(result{Name: nameFirstHandshake, Value: middle.took().Seconds(), Unit: seconds}.
		against(nameBareBoot, bare.floppyRead().Seconds(), atMost(coldStartAim)))
	for _, r := range middle.stages(bare) {
		s.emit(r)
	}
	return nil
}

// stages are the parts that a cold start's time is made of; they add up to it. Beside those that a bare boot has too
// is that boot's.
func (c coldStart) stages(bare bareBoot) []result {
	var out []result
	last, bareLast := c.asked, time.Duration(0)
	for _, l := range landmarks() {
		i := slices.IndexFunc(c.events, l.is)
		if i < 0 {
			continue
		}
		now := at(c.events[i])
		r := result{Name: nameStages + l.name(), Value: now.Sub(last).Seconds(), Unit: seconds}
		last = now
		if t, ok := bare.stages[l.stage]; ok {
			r = r.against("bare boot, same stage", (t - bareLast).Seconds(), aim{})
			bareLast = t
		}
		out = append(out, r)
	}
	return append(out, result{Name: nameStages + stageHandshake, Value: c.handshaken.Sub(last).Seconds(), Unit: seconds})
}

// tenAtOnce creates load balancers together and waits until each has served. With fewer cores than guests the boots
// share them, so its peer is as many bare boots, perfectly spread.
func tenAtOnce(ctx context.Context, s *suite, t *twin, bare bareBoot) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begun := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range atOnce {
		group.Go(func() error {
			name := "ten-" + strconv.Itoa(i)
			if err := t.create(groupCtx, name); err != nil {
				return err
			}
			_, err := t.serve(groupCtx, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("%d at once: %w", atOnce, err)
	}
	cores := min(runtime.GOMAXPROCS(0), atOnce)
	s.emit(result{Name: nameTenAtOnce, Value: time.Since(begun).Seconds(), Unit: seconds}.
		against(fmt.Sprintf("%d bare boots spread over %d cores", atOnce, cores),
			bare.floppyRead().Seconds()*atOnce/float64(cores), aim{}))
	return nil
}
