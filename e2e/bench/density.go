package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

const (
	dense         = 200
	densityLimit  = 45 // MB
	densePatience = 20 * time.Minute
	denseCreators = 4
	denseTick     = 500 * time.Millisecond
)

// benchDensity measures what a load-balancer VM costs its host when many serve: the memory of the twin's own process
// and of all guests, shared pages counted once.
func benchDensity(ctx context.Context, s *suite) (err error) {
	ctx, cancel := context.WithTimeout(ctx, densePatience)
	defer cancel()
	t, err := startTwin(ctx, s, 0, "--guests", "fork")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	begun := time.Now()
	if err := t.createMany(ctx, dense); err != nil {
		return err
	}
	addresses, err := t.awaitMany(ctx, dense)
	if err != nil {
		return err
	}
	served := 0
	for _, address := range addresses {
		if handshakeErr := t.handshake(ctx, address); handshakeErr != nil {
			err = handshakeErr
			continue
		}
		served++
	}
	if err != nil {
		return fmt.Errorf("%d of %d made a handshake: %w", served, dense, err)
	}
	took := time.Since(begun).Round(time.Second)
	bytes, processes, err := t.pss()
	if err != nil {
		return err
	}
	s.emit(result{Name: nameDensity, Value: float64(bytes) / (1 << 20) / dense, Unit: megabytes}.
		against(fmt.Sprintf("limit; %d of %d serve after %s, %d processes", served, dense, took, processes), densityLimit,
			atMost(1)))
	return nil
}

func (t *twin) createMany(ctx context.Context, n int) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(denseCreators)
	for i := range n {
		group.Go(func() error { return t.create(groupCtx, "many-"+strconv.Itoa(i)) })
	}
	return group.Wait()
}

// awaitMany waits until n load balancers serve and returns where.
func (t *twin) awaitMany(ctx context.Context, n int) (addresses []string, err error) {
	var all []operator.LoadBalancer
	tick := time.NewTicker(denseTick)
	defer tick.Stop()
	for len(all) < n {
		status, err := t.operator.Status(ctx)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(status.LoadBalancers, func(lb operator.LoadBalancer) bool {
			return len(lb.Instances) == 0 || len(lb.Listeners) == 0
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d load balancers have a VM: %w", len(all), n, context.Cause(ctx))
		}
	}
	for i, lb := range all {
		if err := t.events.await(ctx, lb.Instances[0], milestone(agent.StageServing)); err != nil {
			return nil, fmt.Errorf("%d of %d load balancers serve: %w", i, n, err)
		}
		addresses = append(addresses, lb.Listeners[0].HostAddress)
	}
	return addresses, nil
}
