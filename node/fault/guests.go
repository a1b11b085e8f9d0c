package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	plan "github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// verbTimeout bounds what is done to one machine.
const verbTimeout = 10 * time.Second

// GuestBegins makes an instance known before its machine starts, or when it was found.
func (n *Node) GuestBegins(in *nodelink.Instance) {
	n.mu.Lock()
	n.guests[in.GetId()] = &guest{Guest: plan.Guest{ID: in.GetId(), LoadBalancer: plan.LoadBalancerOf(in.GetRoleName()),
		Image: in.GetImage(), Node: n.cfg.NodeID}}
	quiet := len(n.active) == 0
	n.mu.Unlock()
	if !quiet {
		n.settle(context.Background())
	}
}

// GuestRuns tells that an instance's machine was started.
func (n *Node) GuestRuns(ctx context.Context, id string) {
	n.mu.Lock()
	wanted := n.guests[id] != nil && n.coveringLocked(plan.GuestPause, n.guests[id]) != nil
	n.mu.Unlock()
	if wanted {
		n.settle(ctx)
	}
}

// GuestEnds forgets an instance.
func (n *Node) GuestEnds(id string) {
	n.mu.Lock()
	g := n.guests[id]
	delete(n.guests, id)
	delete(n.media, id)
	n.mu.Unlock()
	if g == nil {
		return
	}
	if g.impaired {
		n.cfg.Network.Impair(id, nil)
	}
	if len(g.bad) > 0 {
		if err := n.spoil(context.Background(), id, nil); err != nil {
			n.cfg.Logger.Warn("the media of an instance that ended stay spoiled", "instance", id, "error", err)
		}
	}
}

// change is what is to be done to a guest for the active faults to be what happens to it.
type change struct {
	id             string
	fate           bool // its wire's is another
	impair         bool
	spoil          bool // its media are others
	bad            []hypervisor.Sectors
	putBack        string // a medium that fell out
	pause, resume  bool
	spoiler, still *active
}

// settle has the faults that last happen to all guests.
func (n *Node) settle(ctx context.Context) {
	n.settling.Lock()
	defer n.settling.Unlock()
	n.mu.Lock()
	n.freezeLocked()
	var todo []change
	for _, g := range n.guests {
		todo = append(todo, n.wishesLocked(g))
	}
	n.mu.Unlock()
	for _, c := range todo {
		n.carryOut(ctx, c)
	}
}

func (n *Node) wishesLocked(g *guest) change {
	c := change{id: g.ID}
	c.impair = len(n.wireFaultsLocked(g)) > 0
	c.fate, g.impaired = c.impair != g.impaired, c.impair
	for _, f := range n.ofLocked(plan.MediumReadError) {
		if f.Covers(g.Guest) {
			c.bad = append(c.bad, hypervisor.Sectors{First: f.Number("sector"), Count: f.Number("sectors")})
			c.spoiler = f
		}
	}
	c.spoil, g.bad = !slices.Equal(c.bad, g.bad), c.bad
	if g.fallen != "" && !slices.ContainsFunc(n.ofLocked(plan.MediumEject), func(f *active) bool {
		return f.Covers(g.Guest)
	}) {
		c.putBack, g.fallen = g.fallen, ""
	}
	for _, f := range n.ofLocked(plan.GuestPause) {
		if f.Covers(g.Guest) {
			c.still = f
		}
	}
	c.pause, c.resume = c.still != nil && !g.paused, c.still == nil && g.paused
	return c
}

func (n *Node) carryOut(ctx context.Context, c change) {
	if c.fate {
		if c.impair {
			n.cfg.Network.Impair(c.id, n.fateOf(c.id))
		} else {
			n.cfg.Network.Impair(c.id, nil)
		}
	}
	if c.spoil {
		err := n.spoil(ctx, c.id, c.bad)
		if c.spoiler != nil {
			n.told(c.spoiler, c.id, err)
		}
	}
	if c.putBack != "" {
		n.putBack(ctx, c.id, c.putBack)
	}
	if c.pause || c.resume {
		n.stand(ctx, c)
	}
}

func (n *Node) spoil(ctx context.Context, id string, bad []hypervisor.Sectors) error {
	spoiler, ok := n.cfg.Driver.(hypervisor.MediumSpoiler)
	if !ok {
		return n.unsupported(plan.MediumReadError)
	}
	ctx, cancel := context.WithTimeout(ctx, verbTimeout)
	defer cancel()
	return spoiler.SpoilMedia(ctx, id, bad)
}

func (n *Node) unsupported(kind plan.Kind) error {
	return fmt.Errorf("%s cannot be done by the driver %s of node %s: %w", kind, n.cfg.Driver.Info().Driver, n.cfg.NodeID,
		errors.ErrUnsupported)
}

// stand has a guest stand still, or go on.
func (n *Node) stand(ctx context.Context, c change) {
	ctx, cancel := context.WithTimeout(ctx, verbTimeout)
	defer cancel()
	machine, err := n.cfg.Driver.Find(ctx, c.id)
	if err != nil {
		return // it has not been started yet, or has ended
	}
	pauser, ok := machine.(hypervisor.Pauser)
	switch {
	case !ok:
		err = n.unsupported(plan.GuestPause)
	case c.pause:
		err = pauser.Pause(ctx)
	default:
		err = pauser.Resume(ctx)
	}
	n.mu.Lock()
	if g := n.guests[c.id]; g != nil && err == nil {
		g.paused = c.pause
	}
	n.mu.Unlock()
	if c.still != nil {
		n.told(c.still, c.id, err)
	}
}

// happen has a moment happen.
func (n *Node) happen(ctx context.Context, f *active) {
	if f.Kind == plan.NodeKill {
		n.cfg.Kill(f.Time("down"))
		return
	}
	n.mu.Lock()
	var ids []string
	for id, g := range n.guests {
		if f.Covers(g.Guest) {
			ids = append(ids, id)
		}
	}
	n.mu.Unlock()
	slices.Sort(ids)
	for _, id := range ids {
		err := n.strike(ctx, f, id)
		if errors.Is(err, hypervisor.ErrNotFound) || errors.Is(err, hypervisor.ErrNotRunning) {
			continue // there is nothing that it could happen to
		}
		n.told(f, id, err)
	}
}

func (n *Node) strike(ctx context.Context, f *active, id string) error {
	ctx, cancel := context.WithTimeout(ctx, verbTimeout)
	defer cancel()
	machine, err := n.cfg.Driver.Find(ctx, id)
	if err != nil {
		return err
	}
	switch f.Kind { //nolint:exhaustive // those that happen to guests at once
	case plan.GuestKill:
		return machine.Kill(ctx)
	case plan.GuestNMI:
		if m, ok := machine.(hypervisor.Interrupter); ok {
			return m.Interrupt(ctx)
		}
	case plan.GuestPanic:
		if m, ok := machine.(hypervisor.Panicker); ok {
			return m.Panic(ctx)
		}
	}
	return n.unsupported(f.Kind)
}
