package controller

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/imds"
)

// What of a guest's requests is told: it may ask as often as it likes. The rest is counted.
const (
	requestRate, requestBurst = 20, 100
	maxPath                   = 200
)

// happenings holds what the cloud's journal is to be told, until it is. It never makes anybody wait: what there is no
// room for is counted.
type happenings struct {
	mu     sync.Mutex
	events []*nodelink.Event
	lost   map[string]int // by instance
}

func (h *happenings) add(ev *nodelink.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) < nodelink.MaxEvents {
		h.events = append(h.events, ev)
		return
	}
	if h.lost == nil {
		h.lost = map[string]int{}
	}
	h.lost[ev.GetInstanceId()]++
}

// take returns what is to be told, in the order in which it happened, and forgets it.
func (h *happenings) take() []*nodelink.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := h.events
	h.events = nil
	for id, n := range h.lost {
		if len(events) == nodelink.MaxEvents {
			break
		}
		events = append(events, &nodelink.Event{Kind: nodelink.EventsLost, InstanceId: id,
			UnixNanos: time.Now().UnixNano(), Attributes: map[string]string{"count": fmt.Sprint(n)}})
		delete(h.lost, id)
	}
	return events
}

// putBack takes back what could not be told.
func (h *happenings) putBack(events []*nodelink.Event) {
	h.mu.Lock()
	newer := h.events
	h.events = nil
	h.mu.Unlock()
	for _, ev := range append(events, newer...) {
		h.add(ev)
	}
}

// happened tells the cloud's journal of something about a guest that is here. It returns at once.
func (c *Controller) happened(ev *nodelink.Event) {
	if c.guest(ev.GetInstanceId()) == nil {
		return
	}
	if ev.UnixNanos == 0 {
		ev.UnixNanos = c.cfg.Trouble.Now().UnixNano()
	}
	c.happenings.add(ev)
	c.reports.nudge()
}

// machineChanged tells of a change that the hypervisor told.
func (c *Controller) machineChanged(ev *hypervisor.Event) {
	attributes := map[string]string{"state": string(ev.State)}
	if ev.Reason != "" {
		attributes["reason"] = ev.Reason
	}
	c.happened(&nodelink.Event{Kind: nodelink.EventMachine, InstanceId: ev.ID, Attributes: attributes})
}

// tellHandshakes tells of the TLS handshakes that a guest counted, once.
func (g *guest) tellHandshakes(m *nodelink.Milestone) {
	if g.replaying {
		return
	}
	g.c.happened(&nodelink.Event{Kind: nodelink.EventTLS, InstanceId: g.id, UnixNanos: m.GetUnixNanos(),
		Attributes: m.GetAttributes()})
}

// followMonitors tells of what the guests' monitors say, where the driver has any.
func (c *Controller) followMonitors(ctx context.Context) error {
	driver, ok := c.cfg.Driver.(hypervisor.MonitorWatcher)
	if !ok {
		return nil
	}
	events, err := driver.MonitorEvents(ctx)
	if err != nil {
		return fmt.Errorf("follow the guests' monitors: %w", err)
	}
	c.workers.Go(func() {
		for ev := range events {
			attributes := map[string]string{"event": ev.Name}
			if ev.Data != "" {
				attributes["data"] = clip(ev.Data)
			}
			c.happened(&nodelink.Event{Kind: nodelink.EventQMP, InstanceId: ev.ID, UnixNanos: ev.At.UnixNano(),
				Attributes: attributes})
		}
	})
	return nil
}

// requests bounds what is told of one guest's requests to the metadata service.
type requests struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	untold  int
}

// next says whether the next request is to be told, and how many were not since the last that was.
func (r *requests) next() (untold int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limiter == nil {
		r.limiter = rate.NewLimiter(requestRate, requestBurst)
	}
	if !r.limiter.Allow() {
		r.untold++
		return 0, false
	}
	untold, r.untold = r.untold, 0
	return untold, true
}

// MetadataAsked tells of a request to the metadata service. It is for imds.Config.Asked.
func (c *Controller) MetadataAsked(r imds.Request) {
	g := c.guest(r.InstanceID)
	if g == nil {
		return
	}
	untold, ok := g.requests.next()
	if !ok {
		return
	}
	path := r.Path
	if len(path) > maxPath {
		path = path[:maxPath] + "..."
	}
	attributes := map[string]string{"path": clip(path), "status": fmt.Sprint(r.Status)}
	if r.Method != http.MethodGet {
		attributes["method"] = clip(r.Method)
	}
	if untold > 0 {
		attributes["untold"] = fmt.Sprint(untold)
	}
	c.happened(&nodelink.Event{Kind: nodelink.EventMetadata, InstanceId: r.InstanceID, Attributes: attributes,
		Traceparent: r.Traceparent})
}
