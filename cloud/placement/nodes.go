package placement

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Errors that callers test for with errors.Is.
var (
	ErrNodeExists = errors.New("a node with this id is enrolled")
	ErrNoNode     = errors.New("no such node")
	// ErrNodeEnding means that instances of a removed node still hold its name.
	ErrNodeEnding = errors.New("instances of the removed node of this id are still being ended")
)

// Node is the record of an enrolled node.
type Node struct {
	ID             string
	CertificateDER []byte // its NODECERT, to which credentials are sealed
	// NextDER is the NODECERT that it was given last and has not connected with; until NextUntil it may.
	NextDER   []byte    `json:",omitempty"`
	NextUntil time.Time `json:",omitzero"`
	// RenewalAsked is when the operator asked for another NODECERT; zero once the node has one.
	RenewalAsked time.Time `json:",omitzero"`
	EnrolledAt   time.Time
	Status       Status
	// LastSeen is the last sign of life that changed the record; zero until the first. Later ones are in presence.
	LastSeen time.Time
	// Down is set when signs of life ceased, until the next one.
	Down bool
	// ReservedMBAtReport is what was reserved when Status came, so that what was placed since then can be
	// taken from the free memory that the node reported.
	ReservedMBAtReport int
	Version            uint64 // grows with every write
}

// Status is what a node says of itself.
type Status struct {
	MemoryMBTotal int // what it offers to guests
	MemoryMBFree  int // what its host has free now
	Cores         int
	Hypervisor    string
	Accelerator   string            // kvm, tcg, none
	Images        map[string]string // image name -> "sha256:" + hex digest of its manifest
	// GuestFixedMB and GuestMemoryPercent are what a guest takes of MemoryMBTotal: so many MB, and so many percent of
	// its own memory. Both zero: Config.GuestOverheadMB and all of its memory.
	GuestFixedMB, GuestMemoryPercent int
}

// Load is what the instances placed on a node have reserved.
type Load struct {
	NodeID    string
	MemoryMB  int // their own; what that is on the node follows from its Status
	VCPUs     int
	Instances int
	Version   uint64 // grows with every write
}

// NodeLoad is a node with its reservations.
type NodeLoad struct {
	Node Node
	Load Load
}

// Nodes returns all nodes in the order of their ids.
func (s *Service) Nodes() []NodeLoad { return s.view.all() }

// Report keeps a node's sign of life; status is nil when nothing changed. Only what changes the record's meaning
// is written, so that the heartbeats of many nodes do not flood the store.
func (s *Service) Report(ctx context.Context, nodeID string, status *Status) error {
	now := s.cfg.Clock()
	if n, ok := s.view.node(nodeID); ok && !worthWriting(n, status) {
		s.presence.hear(nodeID, now)
		return nil
	}
	cameBack := false
	var written Node
	err := s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
		n, err := s.nodes.In(tx).Get(nodeID)
		if err != nil {
			return err
		}
		cameBack = n.Down || n.LastSeen.IsZero()
		n.LastSeen, n.Down = now, false
		n.Version++
		if status != nil {
			load, err := s.loads.In(tx).Get(nodeID)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			n.Status, n.ReservedMBAtReport = *status, s.takes(status, load)
		}
		written = n
		return s.nodes.In(tx).Put(nodeID, n)
	})
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNoNode, nodeID)
	}
	if err != nil {
		return fmt.Errorf("report of node %s: %w", nodeID, err)
	}
	s.view.applyNode(store.Change[Node]{Key: nodeID, Value: &written})
	s.presence.hear(nodeID, now)
	if cameBack {
		s.record(ctx, "node.up", nodeID, map[string]string{"hypervisor": written.Status.Hypervisor,
			"memoryMB": strconv.Itoa(written.Status.MemoryMBTotal), "cores": strconv.Itoa(written.Status.Cores)})
	}
	return nil
}

func worthWriting(n Node, status *Status) bool {
	if n.Down || n.LastSeen.IsZero() {
		return true
	}
	if status == nil {
		return false
	}
	old := n.Status
	drift := old.MemoryMBFree - status.MemoryMBFree
	return drift*drift > 64*64 || old.MemoryMBTotal != status.MemoryMBTotal || old.Cores != status.Cores ||
		old.GuestFixedMB != status.GuestFixedMB || old.GuestMemoryPercent != status.GuestMemoryPercent ||
		old.Hypervisor != status.Hypervisor || old.Accelerator != status.Accelerator ||
		!maps.Equal(old.Images, status.Images)
}

// Sweep marks the nodes down whose signs of life ceased. The service calls it by itself from time to time.
func (s *Service) Sweep(ctx context.Context) {
	now := s.cfg.Clock()
	for _, nl := range s.view.all() {
		if nl.Node.Down || s.live(&nl.Node, now) {
			continue
		}
		marked := false
		n, err := s.nodes.Update(ctx, nl.Node.ID, func(n *Node) error {
			if marked = !n.Down && !s.live(n, now); marked {
				n.Down = true
				n.Version++
			}
			return nil
		})
		if err == nil && marked {
			s.view.applyNode(store.Change[Node]{Key: n.ID, Value: &n})
			s.record(ctx, "node.down", n.ID, map[string]string{"lastSeen": n.LastSeen.UTC().Format(time.RFC3339)})
		}
	}
}

func (s *Service) live(n *Node, now time.Time) bool {
	last := n.LastSeen
	if heard := s.presence.last(n.ID); heard.After(last) {
		last = heard
	}
	return !n.Down && now.Sub(last) < s.cfg.DownAfter
}

func (s *Service) record(ctx context.Context, kind, nodeID string, attributes map[string]string) {
	s.cfg.Journal.Record(ctx, journal.Event{
		Time: s.cfg.Clock(), Kind: kind, Subject: nodeID, Attributes: attributes,
	})
}
