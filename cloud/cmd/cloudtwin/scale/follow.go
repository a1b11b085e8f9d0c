package scale

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

const downloadAction = "iam:DownloadServerCertificate"

// tracker follows the cloud's journal: which load balancers serve, how long deliveries took, what went wrong.
type tracker struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu         sync.Mutex
	changed    chan struct{}     // closed and replaced when a load balancer comes to serve or a node up
	nodes      int               // that are up
	launched   map[string]string // instance to load balancer's key
	serving    map[string]bool   // by the load balancer's key
	trouble    map[string]string // by the load balancer's key: the last thing that went wrong
	deliveries []time.Duration
	denied     int
}

func follow(c *cloud.Cloud) *tracker {
	ctx, cancel := context.WithCancel(context.Background())
	t := &tracker{
		cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{}),
		launched: map[string]string{}, serving: map[string]bool{}, trouble: map[string]string{},
	}
	events := c.Follow(ctx)
	go func() {
		defer close(t.ended)
		for ev := range events {
			t.take(ev)
		}
	}()
	return t
}

func (t *tracker) stop() {
	t.cancel()
	<-t.ended
}

func (t *tracker) take(ev journal.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch ev.Kind {
	case "node.up":
		t.nodes++
		t.wake()
	case "elb.lbvm_launched":
		t.launched[ev.Attributes["instance"]] = ev.Subject
	case "elb.reconcile_failed":
		t.trouble[ev.Subject] = ev.Attributes["reason"]
	case "guest.milestone":
		t.milestone(ev)
	case "instance.state":
		if key, ours := t.launched[ev.Subject]; ours && ev.Attributes["reason"] != "" {
			t.trouble[key] = fmt.Sprintf("%s is %s: %s", ev.Subject, ev.Attributes["state"], ev.Attributes["reason"])
		}
	case "delivery.denied":
		t.denied++
		t.trouble[t.launched[ev.Subject]] = "delivery denied: " + ev.Attributes["reason"]
	case "api.request":
		if ev.Attributes["action"] == downloadAction && ev.Attributes["status"] == "200" {
			if ms, err := strconv.ParseFloat(ev.Attributes["durationMs"], 64); err == nil {
				t.deliveries = append(t.deliveries, time.Duration(ms*float64(time.Millisecond)))
			}
		}
	}
}

func (t *tracker) milestone(ev journal.Event) {
	key := t.key(ev)
	if key == "" {
		return
	}
	switch stage := ev.Attributes["stage"]; stage {
	case agent.StageServing:
		if !t.serving[key] {
			t.serving[key] = true
			t.wake()
		}
	case agent.StageFailed, agent.StageListenerFailed, "fork-failed":
		t.trouble[key] = fmt.Sprintf("%s on %s: %s: %s", ev.Subject, ev.Attributes["node"], stage, ev.Attributes["reason"])
	default:
		if !t.serving[key] {
			t.trouble[key] = fmt.Sprintf("%s on %s came as far as %s", ev.Subject, ev.Attributes["node"], stage)
		}
	}
}

// key is the load balancer of the guest that an event is about.
func (t *tracker) key(ev journal.Event) string { return t.launched[ev.Subject] }

func (t *tracker) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// served says how many load balancers serve, and gives a channel that closes when there are more.
func (t *tracker) served() (int, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.serving), t.changed
}

// takeDeliveries returns how long the deliveries since the last call took.
func (t *tracker) takeDeliveries() []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.deliveries
	t.deliveries = nil
	return list
}

// awaitNodes returns when all nodes have reported.
func (t *tracker) awaitNodes(ctx context.Context, cfg Config) error {
	limit := time.NewTimer(cfg.Patience)
	defer limit.Stop()
	for {
		t.mu.Lock()
		up, changed := t.nodes, t.changed
		t.mu.Unlock()
		if up >= cfg.Nodes {
			return nil
		}
		select {
		case <-changed:
			limit.Reset(cfg.Patience)
		case <-limit.C:
			return fmt.Errorf("start nodes: %d of %d have reported, and no other in %s", up, cfg.Nodes, cfg.Patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
