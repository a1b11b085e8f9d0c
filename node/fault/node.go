// Package fault has the faults happen that a cloud orders from its node (package cloud/fault says what there is): to
// the guests' wires, their media, their machines, and to what the node's controller sees of time, memory and disk. It
// finds out what is to happen over nodelink (follow.go), and is asked by the controller where something may go wrong
// (seams.go, media.go).
package fault

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	plan "github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// Network is what is needed of the guests' network (vnet.Network).
type Network interface {
	Impair(instanceID string, fate vnet.Fate)
}

// Config of a Node. NodeID, Driver and Network are required.
type Config struct {
	NodeID  string
	Driver  hypervisor.Driver
	Network Network
	// Kill ends the node as a killed process ends, and has it back after a time; it must not wait for that. Nil: this
	// process is killed.
	Kill   func(down time.Duration)
	Logger *slog.Logger // default: silence
}

// Node has faults happen on one node. Its methods may be called from any goroutine; those that the controller calls do
// nothing while there is no fault.
type Node struct {
	cfg      Config
	settling sync.Mutex // held while what lasts is made to happen to guests

	mu      sync.Mutex
	active  []*active // in the order of their beginning
	moments uint64    // the order of the latest one that happened
	guests  map[string]*guest
	thawed  chan struct{} // closed while the node is not frozen
	media   map[string]string
	swapped map[string]chan struct{} // who waits for another's medium
	news    []*nodelink.FaultOutcome
	wake    chan struct{} // capacity 1: there is news
}

// active is a fault that goes on.
type active struct {
	plan.Fault
	order  uint64
	seed   uint64
	timer  *time.Timer     // ends it; nil when it has no end of its own
	told   map[string]bool // of what it was told that it happened to
	chance map[string]*rand.Rand
	free   map[string]time.Time // of plan.WireBandwidth: when a direction of a wire is free again
}

// guest is a guest that the controller looks after.
type guest struct {
	plan.Guest
	impaired, paused bool
	bad              []hypervisor.Sectors
	medium           string  // the file of its latest one
	falling          *active // what has the one fall out that is being put in
	fallen           string  // that of the one that fell out of its drive, until it is put back
}

// New returns a node without faults.
func New(cfg Config) *Node {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Kill == nil {
		cfg.Kill = func(time.Duration) { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) } // nothing comes after it
	}
	thawed := make(chan struct{})
	close(thawed)
	return &Node{cfg: cfg, guests: map[string]*guest{}, thawed: thawed, media: map[string]string{},
		swapped: map[string]chan struct{}{}, wake: make(chan struct{}, 1)}
}

// kinds are what can happen here.
func (n *Node) kinds() (out []string) {
	_, spoils := n.cfg.Driver.(hypervisor.MediumSpoiler)
	for _, info := range plan.Catalogue() {
		if info.OnNodes() && (spoils || info.Kind != plan.MediumReadError) {
			out = append(out, string(info.Kind))
		}
	}
	return out
}

// begin has faults be those of an order: new ones begin, missing ones end.
func (n *Node) begin(ctx context.Context, orders *nodelink.FaultOrders) {
	var happen []*active
	n.mu.Lock()
	wanted := map[string]bool{}
	for _, o := range orders.GetFaults() {
		f := &active{Fault: plan.Fault{ID: o.GetId(), Kind: plan.Kind(o.GetKind()), Target: o.GetTarget(), Rate: o.GetRate(),
			With: o.GetWith()}, order: o.GetOrder(), seed: o.GetSeed(), told: map[string]bool{},
			chance: map[string]*rand.Rand{}, free: map[string]time.Time{}}
		info, known := plan.InfoOf(f.Kind)
		if err := f.Validate(); err != nil || !known || !info.OnNodes() {
			n.tellLocked(f, "", nodelink.FaultRefused, "node "+n.cfg.NodeID+" knows no such fault")
			continue
		}
		if info.Scope == plan.Nodes && !f.Matches(n.cfg.NodeID) {
			continue
		}
		if info.Moment {
			if f.order > n.moments {
				happen = append(happen, f)
			}
			continue
		}
		wanted[f.ID] = true
		n.keep(ctx, f, time.Duration(o.GetRemainingNanos()))
	}
	for _, f := range slices.Clone(n.active) {
		if !wanted[f.ID] {
			n.endLocked(f)
		}
	}
	slices.SortFunc(happen, func(a, b *active) int { return cmp.Compare(a.order, b.order) })
	for _, f := range happen {
		n.moments = f.order
	}
	n.mu.Unlock()
	n.settle(ctx)
	for _, f := range happen {
		n.happen(ctx, f)
	}
}

// keep adds a fault unless it goes on already. The caller holds mu.
func (n *Node) keep(ctx context.Context, f *active, remaining time.Duration) {
	if slices.ContainsFunc(n.active, func(other *active) bool { return other.ID == f.ID && other.order == f.order }) {
		return
	}
	n.active = append(n.active, f)
	if remaining > 0 {
		// By itself: the cloud may be out of reach by then.
		f.timer = time.AfterFunc(remaining, func() {
			n.mu.Lock()
			n.endLocked(f)
			n.mu.Unlock()
			n.settle(context.WithoutCancel(ctx))
		})
	}
	if info, _ := plan.InfoOf(f.Kind); info.Scope == plan.Nodes {
		n.appliedLocked(f, "")
	}
}

func (n *Node) endLocked(f *active) {
	n.active = slices.DeleteFunc(n.active, func(other *active) bool { return other == f })
	if f.timer != nil {
		f.timer.Stop()
	}
}

// ofLocked returns the active faults of a kind.
func (n *Node) ofLocked(kinds ...plan.Kind) (out []*active) {
	for _, f := range n.active {
		if slices.Contains(kinds, f.Kind) {
			out = append(out, f)
		}
	}
	return out
}

// covering returns the first active fault of a kind that covers a guest and, if it goes by chance, happens now.
func (n *Node) coveringLocked(kind plan.Kind, g *guest) *active {
	for _, f := range n.ofLocked(kind) {
		if f.Covers(g.Guest) && f.Happens(f.chanceOf(g.ID)) {
			return f
		}
	}
	return nil
}

// chanceOf is a fault's chance for one guest, which does not depend on other guests.
func (f *active) chanceOf(id string) *rand.Rand {
	if f.chance[id] == nil {
		own := plan.Fault{ID: f.ID + "/" + id}
		f.chance[id] = own.Chance(f.seed)
	}
	return f.chance[id]
}

// maxNews bounds what is not told yet.
const maxNews = 1000

func (n *Node) tellLocked(f *active, instanceID, outcome, detail string) {
	if len(n.news) >= maxNews {
		return
	}
	n.news = append(n.news, &nodelink.FaultOutcome{FaultId: f.ID, InstanceId: instanceID, Outcome: outcome,
		Detail: detail})
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// appliedLocked tells, once, that a fault happened to a guest or, without one, to the node.
func (n *Node) appliedLocked(f *active, instanceID string) {
	if !f.told[instanceID] {
		f.told[instanceID] = true
		n.tellLocked(f, instanceID, nodelink.FaultApplied, "")
	}
}

func (n *Node) told(f *active, instanceID string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.appliedLocked(f, instanceID)
		return
	}
	n.cfg.Logger.Warn("a fault did not happen", "fault", f.ID, "kind", f.Kind, "instance", instanceID, "error", err)
	n.tellLocked(f, instanceID, nodelink.FaultRefused, err.Error())
}
