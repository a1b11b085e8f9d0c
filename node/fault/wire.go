package fault

import (
	"time"

	plan "github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// wireFaultsLocked are those that a guest's wire has now.
func (n *Node) wireFaultsLocked(g *guest) (out []*active) {
	for _, f := range n.active {
		switch f.Kind { //nolint:exhaustive // those of wires
		case plan.NodeFreeze: // its process moves no frames
			out = append(out, f)
		case plan.WireLoss, plan.WireDelay, plan.WireJitter, plan.WireDuplicate, plan.WireReorder, plan.WirePartition,
			plan.WireBandwidth:
			if f.Covers(g.Guest) {
				out = append(out, f)
			}
		}
	}
	return out
}

// fateOf is what becomes of the frames of a guest.
func (n *Node) fateOf(id string) vnet.Fate {
	return func(toGuest bool, bytes int) []time.Duration {
		n.mu.Lock()
		defer n.mu.Unlock()
		g := n.guests[id]
		if g == nil {
			return []time.Duration{0}
		}
		copies := []time.Duration{0}
		for _, f := range n.wireFaultsLocked(g) {
			if !f.goes(toGuest) || !f.Happens(f.chanceOf(id)) {
				continue
			}
			n.appliedLocked(f, id)
			if copies = f.frame(copies, id, toGuest, bytes); len(copies) == 0 {
				return nil
			}
		}
		return copies
	}
}

// goes says whether a fault is of a direction.
func (f *active) goes(toGuest bool) bool {
	switch f.Param("direction") {
	case "in":
		return toGuest
	case "out":
		return !toGuest
	default:
		return true
	}
}

// frame is what one fault makes of the copies of a frame.
func (f *active) frame(copies []time.Duration, id string, toGuest bool, bytes int) []time.Duration {
	var late time.Duration
	switch f.Kind { //nolint:exhaustive // wireFaults returns no other
	case plan.NodeFreeze, plan.WirePartition, plan.WireLoss:
		return nil
	case plan.WireDelay:
		late = f.Time("delay")
		if jitter := f.Time("jitter"); jitter > 0 {
			late = max(late+time.Duration((2*f.chanceOf(id).Float64()-1)*float64(jitter)), 0)
		}
	case plan.WireJitter:
		late = time.Duration(f.chanceOf(id).Float64() * float64(f.Time("jitter")))
	case plan.WireReorder:
		late = f.Time("delay")
	case plan.WireDuplicate:
		return append(copies, copies...)
	case plan.WireBandwidth:
		late = f.queue(id, toGuest, bytes)
	}
	for i := range copies {
		copies[i] += late
	}
	return copies
}

// queue is how long a frame waits behind those before it, and takes itself.
func (f *active) queue(id string, toGuest bool, bytes int) time.Duration {
	direction := id + " out"
	if toGuest {
		direction = id + " in"
	}
	now := time.Now()
	free := f.free[direction]
	if free.Before(now) {
		free = now
	}
	free = free.Add(time.Duration(bytes) * time.Second / time.Duration(f.Number("bytesPerSecond")))
	f.free[direction] = free
	return free.Sub(now)
}
