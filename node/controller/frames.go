package controller

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// FramesDropped tells the cloud that frames of an instance were dropped: how many since it was plugged in, by reason.
// It is for vnet.Config.Dropped, which bounds how often that is.
func (c *Controller) FramesDropped(instanceID string, reasons map[string]uint64) {
	g := c.guest(instanceID)
	if g == nil {
		return
	}
	attributes := make(map[string]string, len(reasons))
	for reason, n := range reasons {
		attributes[reason] = strconv.FormatUint(n, 10)
	}
	g.log.Warn("frames dropped", "reasons", reasons)
	g.tell(nodelink.StageFramesDropped, attributes)
}

// FrameCounter is a Network that counts the guests' frames.
type FrameCounter interface {
	Stats(instanceID string) (vnet.Counters, bool)
}

// Frames are counted once in countPause, of at most countGuests guests, in turns: what is told of a node's guests is
// bounded, however many they are.
const (
	countPause  = 10 * time.Second
	countGuests = 64
)

// countFrames tells of the guests' frames from time to time, until ctx ends.
func (c *Controller) countFrames(ctx context.Context) {
	if _, ok := c.cfg.Network.(FrameCounter); !ok {
		return
	}
	tick := time.NewTicker(countPause)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-tick.C:
			last = c.countSome(last)
		case <-ctx.Done():
			return
		}
	}
}

// countSome counts the frames of those guests whose turn it is, and returns the last of them.
func (c *Controller) countSome(last string) string {
	c.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.guests))
	c.mu.Unlock()
	first, found := slices.BinarySearch(ids, last)
	if found {
		first++
	}
	told := 0
	for i := range ids {
		id := ids[(first+i)%len(ids)]
		if g := c.guest(id); g != nil && g.countFrames() {
			last = id
			if told++; told == countGuests {
				break
			}
		}
	}
	return last
}

// frameCounts are the counts that were told last.
type frameCounts struct {
	mu   sync.Mutex
	last vnet.Counters
}

// countFrames tells how many frames the guest has had, unless there were none since it was told last.
func (g *guest) countFrames() (told bool) {
	counter, ok := g.c.cfg.Network.(FrameCounter)
	if !ok {
		return false
	}
	now, ok := counter.Stats(g.id)
	g.frames.mu.Lock()
	defer g.frames.mu.Unlock()
	if !ok || now == g.frames.last {
		return false
	}
	g.frames.last = now
	attributes := map[string]string{}
	for name, n := range map[string]uint64{
		"in": now.ReceivedFrames, "inBytes": now.ReceivedBytes, "out": now.SentFrames, "outBytes": now.SentBytes,
		"queueFull": now.DroppedQueueFull, "unreachable": now.Unreachable,
	} {
		if n > 0 {
			attributes[name] = strconv.FormatUint(n, 10)
		}
	}
	for reason, n := range now.Dropped() {
		if n > 0 {
			attributes[reason] = strconv.FormatUint(n, 10)
		}
	}
	g.c.happened(&nodelink.Event{Kind: nodelink.EventFrames, InstanceId: g.id, Attributes: attributes})
	return true
}
