package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/node"
)

// restarts says whether processes of the recording ended and started again.
func (r *Recording) restarts() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Killed != "" || s.Restart != nil })
}

// again ends and starts processes as the recording did.
func (p *player) again(ctx context.Context, step *Step) error {
	// Real guests outlive their node's process, simulated ones do not.
	survive := p.recording.Guests != node.GuestsSim && p.world.cfg.Guests.Mode == node.GuestsSim
	var nodes []string
	switch {
	case step.Restart != nil:
		nodes = step.Restart.Nodes
	case survive:
		if step.Killed != "" {
			p.skip(step, "the restart of "+step.Killed, "its real guests outlived it, which simulated ones do not")
		}
		return nil
	case step.Killed != "":
		return p.world.kill(step.Killed)
	default:
		return p.world.revive(ctx, step.Revived)
	}
	if survive && len(nodes) > 0 {
		p.skip(step, fmt.Sprintf("the restart of %v with the cloud", nodes),
			"their real guests outlived it, which simulated ones do not")
		nodes = nil
	}
	for _, id := range nodes {
		if err := p.world.kill(id); err != nil {
			return err
		}
	}
	if err := p.world.restart(ctx, nodes); err != nil {
		return err
	}
	status, err := p.world.twin.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask what runs: %w", err)
	}
	p.caller.endpoint = status.Endpoint
	for _, id := range nodes {
		if err := p.world.revive(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// kill ends a node as a killed process ends.
func (w *world) kill(id string) error {
	n := w.nodes[id]
	if n == nil {
		return fmt.Errorf("%w: it tells of an end of %s, which never joined", ErrRecording, id)
	}
	if err := n.Kill(); err != nil {
		return fmt.Errorf("end %s: %w", id, err)
	}
	return nil
}

// revive starts a node again that was killed.
func (w *world) revive(ctx context.Context, id string) error {
	n := w.nodes[id]
	if n == nil {
		return fmt.Errorf("%w: it tells of a start of %s, which never joined", ErrRecording, id)
	}
	before := w.live.connections()
	if err := n.Revive(ctx); err != nil {
		return fmt.Errorf("start %s again: %w", id, err)
	}
	return w.awaitConnected(ctx, before, id)
}

// awaitConnected returns when nodes have connected once more than they had.
func (w *world) awaitConnected(ctx context.Context, before map[string]int, nodes ...string) error {
	for _, id := range nodes {
		connected, err := w.live.await(ctx, nodeTimeout, func() bool { return w.live.connected[id] > before[id] })
		if err == nil && !connected {
			err = errNodeAway
		}
		if err == nil {
			err = w.twin.AwaitFaultNode(ctx, id)
		}
		if err != nil {
			return fmt.Errorf("wait for %s to connect again: %w", id, err)
		}
	}
	return nil
}

// restart ends the cloud and starts it again on its state, where its nodes and callers find it. It returns when the
// nodes have, but for those that are down.
func (w *world) restart(ctx context.Context, down []string) error {
	status, err := w.twin.Status(ctx)
	if err != nil {
		return fmt.Errorf("restart the cloud: %w", err)
	}
	w.lookAway()
	if err := w.twin.CloseAndKeep(); err != nil {
		return fmt.Errorf("restart the cloud: %w", err)
	}
	w.config.APIAddress, w.config.NodeAddress = strings.TrimPrefix(status.Endpoint, "http://"), status.NodeLink
	w.config.Fresh = false
	w.twin = nil
	before := w.live.connections()
	if err := w.start(ctx); err != nil {
		return err
	}
	isDown := func(id string) bool { return slices.Contains(down, id) }
	up := slices.DeleteFunc(slices.Sorted(maps.Keys(w.nodes)), isDown)
	return w.awaitConnected(ctx, before, up...)
}
