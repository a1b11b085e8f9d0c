package placement

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// ErrNoCapacity is what every *NoCapacityError is.
var ErrNoCapacity = errors.New("no node has room")

// Need is what one instance takes.
type Need struct {
	MemoryMB int
	VCPUs    int
	Image    string // name of the image that the node must hold; empty means any
	Digest   string // the image's digest; empty means any
}

// Choice is a node that has room.
type Choice struct {
	NodeID      string
	Certificate *x509.Certificate // its NODECERT
	ImageDigest string            // of Need.Image on that node
}

// NoCapacityError says what was asked for and why each node cannot give it.
type NoCapacityError struct {
	Need  Need
	Nodes []Shortage // at most 8 of them
	More  int        // nodes that are not listed
	// Found and Wanted are set when there was room for some instances, but not for as many as were asked for.
	Found, Wanted int
}

// Shortage is one node's lack.
type Shortage struct {
	NodeID       string
	Reason       string // down, image, memory, cores
	FreeMemoryMB int
	FreeVCPUs    int
}

func (e *NoCapacityError) Error() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%v for %d MB and %d vCPUs", ErrNoCapacity, e.Need.MemoryMB, e.Need.VCPUs)
	switch {
	case e.Wanted > 0:
		_, _ = fmt.Fprintf(&b, ": room for %d of %d", e.Found, e.Wanted)
	case len(e.Nodes) == 0:
		b.WriteString(": no node is enrolled")
	}
	for i, n := range e.Nodes {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		_, _ = fmt.Fprintf(&b, "%s%s lacks %s (%d MB, %d vCPUs free)", sep, n.NodeID, n.Reason, n.FreeMemoryMB, n.FreeVCPUs)
	}
	if e.More > 0 {
		_, _ = fmt.Fprintf(&b, "; and %d more nodes", e.More)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrNoCapacity) true.
func (e *NoCapacityError) Is(target error) bool { return target == ErrNoCapacity }

// Choose returns the node with the most room for need, or a *NoCapacityError. It reserves nothing: call Reserve
// in the transaction that creates the instance, and choose again when that finds the node full.
func (s *Service) Choose(ctx context.Context, need Need) (nodeID string, cert *x509.Certificate, err error) {
	choices, err := s.Plan(ctx, need, 1)
	if err != nil {
		return "", nil, err
	}
	return choices[0].NodeID, choices[0].Certificate, nil
}

// sample is how many nodes a plan looks at first. Among so many there is one with about as much room as any; looking
// at all of a large cloud's nodes would make each launch dearer than the last.
const sample = 64

// Plan chooses nodes for up to count instances of one need, spreading them, and returns at least one choice or a
// *NoCapacityError. In a cloud of many nodes it looks at some of them, each time at others, and at all when those have
// not room for all.
func (s *Service) Plan(_ context.Context, need Need, count int) ([]Choice, error) {
	if choices, err := s.planAmong(sample, need, count); err == nil && len(choices) == count {
		return choices, nil
	}
	return s.planAmong(math.MaxInt, need, count)
}

// planAmong is Plan among at most so many nodes.
func (s *Service) planAmong(nodes int, need Need, count int) ([]Choice, error) {
	now := s.cfg.Clock()
	var candidates []candidate
	refusal := &NoCapacityError{Need: need}
	first := 0
	if nodes == sample {
		first = int(s.turns.Add(sample) % (1 << 30))
	}
	s.view.some(first, nodes, func(n *Node, l Load) {
		c := s.newCandidate(n, l)
		if reason := s.lacks(&c, need, s.live(n, now)); reason != "" {
			refusal.add(c, reason)
			return
		}
		candidates = append(candidates, c)
	})
	var choices []Choice
	for len(choices) < count {
		best := s.best(candidates, need)
		if best == nil {
			break
		}
		best.freeMB -= s.takes(&best.node.Status, need.load())
		best.freeVCPUs -= need.VCPUs
		cert, err := x509.ParseCertificate(best.node.CertificateDER)
		if err != nil {
			return nil, fmt.Errorf("parse certificate of node %s: %w", best.node.ID, err)
		}
		choices = append(choices, Choice{
			NodeID: best.node.ID, Certificate: cert, ImageDigest: best.node.Status.Images[need.Image],
		})
	}
	if len(choices) == 0 {
		return nil, refusal
	}
	return choices, nil
}

// best returns the candidate with the most room, nil when none has enough. Among equals each call begins with
// another one, so that launches at the same time do not all reserve on one node and wait for each other.
func (s *Service) best(candidates []candidate, need Need) *candidate {
	var best *candidate
	first := int(s.turns.Add(1) % uint64(max(1, len(candidates))))
	for i := range candidates {
		c := &candidates[(first+i)%len(candidates)]
		if s.lacks(c, need, true) == "" && (best == nil || c.score() > best.score()) {
			best = c
		}
	}
	return best
}

type candidate struct {
	node              *Node
	freeMB, freeVCPUs int
}

func (s *Service) newCandidate(n *Node, l Load) candidate {
	st := &n.Status
	// The host's own word counts as well as our bookkeeping: somebody else may use its memory.
	reserved := s.takes(st, l)
	hostFree := st.MemoryMBFree - max(0, reserved-n.ReservedMBAtReport)
	return candidate{
		node:      n,
		freeMB:    min(st.MemoryMBTotal-reserved, hostFree),
		freeVCPUs: st.Cores*s.cfg.VCPUsPerCore - l.VCPUs,
	}
}

// takes is how much of a node's memory the guests of a load take, in MB.
func (s *Service) takes(st *Status, l Load) int {
	fixed, percent := st.GuestFixedMB, st.GuestMemoryPercent
	if fixed == 0 && percent == 0 {
		fixed, percent = s.cfg.GuestOverheadMB, 100
	}
	return l.Instances*fixed + l.MemoryMB*percent/100
}

// load is what one instance adds to its node's.
func (n Need) load() Load { return Load{MemoryMB: n.MemoryMB, VCPUs: n.VCPUs, Instances: 1} }

// lacks returns what c misses for need, or "".
func (s *Service) lacks(c *candidate, need Need, live bool) string {
	digest, held := c.node.Status.Images[need.Image]
	switch {
	case !live:
		return "life (it is down)"
	case need.Image != "" && (!held || need.Digest != "" && digest != need.Digest):
		return "the image"
	case c.freeMB < s.takes(&c.node.Status, need.load()):
		return "memory"
	case c.freeVCPUs < need.VCPUs:
		return "cores"
	}
	return ""
}

// score is the share of the node that is free, of memory or of cores, whichever is scarcer.
func (c *candidate) score() float64 {
	st := &c.node.Status
	return min(float64(c.freeMB)/float64(max(st.MemoryMBTotal, 1)), float64(c.freeVCPUs)/float64(max(st.Cores, 1)))
}

func (e *NoCapacityError) add(c candidate, reason string) {
	if len(e.Nodes) == 8 {
		e.More++
		return
	}
	e.Nodes = append(e.Nodes, Shortage{
		NodeID: c.node.ID, Reason: reason, FreeMemoryMB: max(c.freeMB, 0), FreeVCPUs: max(c.freeVCPUs, 0),
	})
}

// Reserve takes need from nodeID as part of tx, or returns a *NoCapacityError when it has become full. It must be
// in the transaction that creates the instance.
func (s *Service) Reserve(tx *store.Tx, nodeID string, need Need) error {
	node, err := s.nodes.In(tx).Get(nodeID)
	if errors.Is(err, store.ErrNotFound) {
		return &NoCapacityError{Need: need, Nodes: []Shortage{{NodeID: nodeID, Reason: "its record (it was removed)"}}}
	}
	if err != nil {
		return err
	}
	load, err := s.loads.In(tx).Get(nodeID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	was := load
	load.NodeID = nodeID
	load.MemoryMB += need.MemoryMB
	load.VCPUs += need.VCPUs
	load.Instances++
	load.Version++
	reason := ""
	switch {
	case s.takes(&node.Status, load) > node.Status.MemoryMBTotal:
		reason = "memory"
	case load.VCPUs > node.Status.Cores*s.cfg.VCPUsPerCore:
		reason = "cores"
	default:
		return s.loads.In(tx).Put(nodeID, load)
	}
	return &NoCapacityError{Need: need, Nodes: []Shortage{{
		NodeID: nodeID, Reason: reason,
		FreeMemoryMB: max(0, node.Status.MemoryMBTotal-s.takes(&node.Status, was)),
		FreeVCPUs:    max(0, node.Status.Cores*s.cfg.VCPUsPerCore-was.VCPUs),
	}}}
}

// Release gives back what Reserve took, as part of the transaction that ends the instance.
func (s *Service) Release(tx *store.Tx, nodeID string, need Need) error {
	load, err := s.loads.In(tx).Get(nodeID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	load.MemoryMB = max(0, load.MemoryMB-need.MemoryMB)
	load.VCPUs = max(0, load.VCPUs-need.VCPUs)
	load.Instances = max(0, load.Instances-1)
	load.Version++
	return s.loads.In(tx).Put(nodeID, load)
}

// Refresh reads what is reserved on the nodes, for a caller whom Reserve told that one of them has become full:
// the next Plan then knows it too.
func (s *Service) Refresh(ctx context.Context, nodeIDs ...string) error {
	for _, id := range nodeIDs {
		load, err := s.loads.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		s.view.applyLoad(store.Change[Load]{Key: id, Value: &load})
	}
	return nil
}
