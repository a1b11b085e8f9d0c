package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// burst is how load balancers came to serve that were created together.
type burst struct {
	took time.Duration // until each has served
	// cpu is the processor time of all of the twin's processes meanwhile: on a host that is busy with other things it
	// tells more than took does.
	cpu    time.Duration
	starts []start
}

// tenAtOnce creates load balancers together and returns when each has served.
func (t *twin) tenAtOnce(ctx context.Context) (burst, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := t.idle(ctx); err != nil {
		return burst{}, err
	}
	before, err := t.cpu()
	if err != nil {
		return burst{}, err
	}
	b := burst{starts: make([]start, atOnce)}
	begun := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range b.starts {
		group.Go(func() error {
			name := "ten-" + strconv.Itoa(i)
			if err := t.create(groupCtx, name); err != nil {
				return err
			}
			one := start{asked: time.Now()}
			instance, err := t.serve(groupCtx, name)
			one.handshaken = time.Now()
			one.events, _, _ = t.events.about(instance)
			b.starts[i] = one
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return burst{}, fmt.Errorf("%d at once: %w", atOnce, err)
	}
	b.took = time.Since(begun)
	after, err := t.cpu()
	if err != nil {
		return burst{}, err
	}
	b.cpu = after - before
	return b, nil
}

// ways counts how the guests came to life.
func (b burst) ways() map[string]int {
	ways := map[string]int{}
	for _, one := range b.starts {
		ways[one.how()]++
	}
	return ways
}

// allAre is an error when some came to life in another way.
func (b burst) allAre(how string) error {
	if ways := b.ways(); ways[how] != len(b.starts) {
		return fmt.Errorf("the guests came to life as %v, want %d %s", ways, len(b.starts), how)
	}
	return nil
}

// beside adds to a reference how the guests came to life and what processor time they took.
func (b burst) beside(reference string) string {
	ways := b.ways()
	var parts []string
	for _, how := range slices.Sorted(maps.Keys(ways)) {
		parts = append(parts, fmt.Sprintf("%d %s", ways[how], how))
	}
	return fmt.Sprintf("%s; %s, %.1f s CPU", reference, strings.Join(parts, ", "), b.cpu.Seconds())
}
