package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/e2e/invariant"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

// checkPause is the pause between two looks at what must be so all along.
const checkPause = 100 * time.Millisecond

// trial is one cloud under one schedule.
type trial struct {
	cfg    Config
	layout local.Layout
	twin   *local.Twin
	client *client
	sites  []*site

	mu     sync.Mutex
	broken []*invariant.BrokenError
	err    error // that something could not be looked at
}

// try plays a schedule under the workload of its seed on a new cloud, and returns the invariants that broke. An error
// means that it could not be tried.
func try(ctx context.Context, cfg Config, seed uint64, s fault.Schedule) (_ []*invariant.BrokenError, err error) {
	dir, err := os.MkdirTemp(cfg.Dir, "ctchaos")
	if err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &trial{cfg: cfg, layout: local.Layout(filepath.Join(dir, "s"))}
	if t.twin, err = local.Start(ctx, local.Config{Layout: t.layout, Images: cfg.Images, APIAddress: "127.0.0.1:0",
		Guests: local.Guests{Mode: cfg.Guests}, MediumLife: mediumLife}); err != nil {
		return nil, fmt.Errorf("start a cloud: %w", err)
	}
	defer func() { err = errors.Join(err, t.twin.Close()) }()
	defer func() { err = errors.Join(err, t.closeNodes()) }()
	if err := t.startNodes(ctx, dir); err != nil {
		return nil, err
	}
	if err := t.begin(ctx); err != nil {
		return nil, err
	}
	t.play(ctx, seed, s)
	t.judge(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return t.broken, t.err
}

// mediumLife is how long a medium that nobody reads exists: less than usual, so that guests which lose theirs are
// replaced soon.
const mediumLife = 3 * time.Second

func (t *trial) begin(ctx context.Context) error {
	keys, err := t.twin.Credentials(ctx)
	if err != nil {
		return err
	}
	transport := http.RoundTripper(&http.Transport{MaxIdleConnsPerHost: loadBalancers + users})
	if t.cfg.Bug != nil {
		transport = t.cfg.Bug(t.twin, transport)
	}
	t.client, err = newClient(ctx, t.twin.Endpoint(), keys, transport)
	return err
}

// play plays the schedule and the workload together, and watches what must be so all along.
func (t *trial) play(ctx context.Context, seed uint64, s fault.Schedule) {
	stop := invariant.Watch(ctx, checkPause, t.report, invariant.Identities{Status: t.twin.Status})
	defer stop()
	defer t.watchBeside(ctx)()
	begun := time.Now()
	if err := t.twin.LoadFaults(ctx, s); err != nil {
		t.report(fmt.Errorf("play the schedule: %w", err))
		return
	}
	t.client.run(ctx, plan(seed, t.cfg.Length))
	timer := time.NewTimer(time.Until(begun.Add(t.cfg.Length)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := t.twin.ClearFaults(ctx, ""); err != nil {
		t.report(fmt.Errorf("end the faults: %w", err))
	}
}

// What is looked at while faults are played costs more than Identities, so less often.
const (
	besidePause = 300 * time.Millisecond
	// readerBehind is how long a reader may not see a write that was acknowledged, while the store is in trouble.
	readerBehind = 3 * time.Second
)

// watchBeside watches, until it is ended, what the cloud acknowledged and where keys lie. With faults in the way it
// often cannot look, which breaks nothing.
func (t *trial) watchBeside(ctx context.Context) (stop func()) {
	broke := func(err error) {
		if _, broken := errors.AsType[*invariant.BrokenError](err); broken {
			t.report(err)
		}
	}
	watched := []invariant.Invariant{t.client.ledger.Among(readerBehind)}
	for _, s := range t.sites {
		watched = append(watched, invariant.Keys{Run: t.keysNow(s)})
	}
	return invariant.Watch(ctx, besidePause, broke, watched...)
}

// keysNow are the keys that can be had without opening the cloud's records, and where on a node they must not be.
func (t *trial) keysNow(s *site) func(context.Context) (leakscan.Run, error) {
	return func(ctx context.Context) (leakscan.Run, error) {
		keys, err := t.nodeKeys(ctx)
		if err != nil {
			return leakscan.Run{}, err
		}
		users, err := t.client.userKeys()
		return leakscan.Run{Keys: append(keys, users...), Trees: []string{s.layout.Node(), s.layout.Media()},
			Media: []string{filepath.Join(s.layout.Media(), "media")}}, err
	}
}

// judge looks at what must be so when the last fault is over.
func (t *trial) judge(ctx context.Context) {
	stop := invariant.Watch(ctx, checkPause, t.report, invariant.Identities{Status: t.twin.Status})
	there := t.client.ledger.There()
	there = slices.DeleteFunc(there, func(name string) bool { return !strings.HasPrefix(name, "chaos-") })
	var unsure []string
	for n := range loadBalancers {
		if t.client.ledger.Unsure(lbName(n)) {
			unsure = append(unsure, lbName(n))
		}
	}
	all := []invariant.Invariant{
		&t.client.ledger,
		invariant.Converges{Status: t.twin.Status, Wanted: there, Unsure: unsure, Roots: t.client.ca.Pool(),
			ServerName: hostname, Within: t.cfg.Within},
		&t.client.ledger,
	}
	for _, s := range t.sites {
		all = append(all, invariant.Keys{Run: t.keys(s)})
	}
	for _, one := range all {
		if err := one.Check(ctx); err != nil {
			t.report(err)
		}
	}
	stop()
}

// keys are those that there are, and where on a node they must not be.
func (t *trial) keys(s *site) func(context.Context) (leakscan.Run, error) {
	return func(ctx context.Context) (leakscan.Run, error) {
		keys, err := t.stateKeys(ctx)
		if err != nil {
			return leakscan.Run{}, err
		}
		return leakscan.Run{Keys: keys, Trees: []string{string(s.layout), s.layout.Media()},
			Media: []string{filepath.Join(s.layout.Media(), "media")}}, nil
	}
}

// report keeps what broke, each invariant once.
func (t *trial) report(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	broken, ok := errors.AsType[*invariant.BrokenError](err)
	if !ok {
		t.err = cmp.Or(t.err, err)
		return
	}
	if !slices.ContainsFunc(t.broken, func(b *invariant.BrokenError) bool { return b.Invariant == broken.Invariant }) {
		t.broken = append(t.broken, broken)
	}
}
