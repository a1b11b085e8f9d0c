package play

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// node is a node that follows orders.
type node struct {
	kinds    []string
	driver   string
	followed uint64
	changed  chan struct{} // closed when it has followed more
	gone     context.CancelFunc
	joined   time.Time // it missed the moments before
}

// The bounds of what a node tells.
const (
	maxKinds    = 200
	maxOutcomes = 1000 // in one report
	maxDetail   = 500  // bytes
)

// followTimeout bounds the wait for nodes to follow.
const followTimeout = time.Second

// momentLife is how long nodes are told of a moment: one that connects later has missed it.
const momentLife = 5 * time.Second

// Server answers nodes. authenticate says which node calls and returns a context that ends when it may no longer.
func (p *Player) Server(
	authenticate func(ctx context.Context) (context.Context, string, error),
) nodelink.NodeFaultsServer {
	return &server{p: p, authenticate: authenticate}
}

type server struct {
	nodelink.UnimplementedNodeFaultsServer
	p            *Player
	authenticate func(ctx context.Context) (context.Context, string, error)
}

// Play implements nodelink.NodeFaultsServer.
func (s *server) Play(stream nodelink.NodeFaults_PlayServer) error {
	ctx, id, err := s.authenticate(stream.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(first.GetKinds()) > maxKinds || len(first.GetDriver()) > maxDetail {
		return status.Error(codes.InvalidArgument, "the node tells too much of itself")
	}
	n := s.p.join(id, first, cancel)
	defer s.p.leave(id, n)
	failed := make(chan error, 1)
	go func() { failed <- s.receive(id, n, stream) }()
	for {
		orders, changed := s.p.orders(n)
		if err := stream.Send(orders); err != nil {
			return err
		}
		select {
		case <-changed:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return status.Error(codes.Aborted, "superseded, or no longer allowed")
		}
	}
}

func (s *server) receive(id string, n *node, stream nodelink.NodeFaults_PlayServer) error {
	for {
		report, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(report.GetOutcomes()) > maxOutcomes {
			return status.Error(codes.InvalidArgument, "too many outcomes in one report")
		}
		s.p.hear(id, n, report)
	}
}

func (p *Player) join(id string, first *nodelink.FaultReport, gone context.CancelFunc) *node {
	n := &node{kinds: first.GetKinds(), driver: first.GetDriver(), changed: make(chan struct{}), gone: gone,
		joined: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	if before := p.nodes[id]; before != nil {
		before.gone()
	}
	p.nodes[id] = n
	close(p.joins)
	p.joins = make(chan struct{})
	return n
}

func (p *Player) leave(id string, n *node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nodes[id] == n {
		delete(p.nodes, id)
	}
	close(n.changed)
	n.changed = make(chan struct{})
	n.followed = ^uint64(0) // nobody need wait for it
}

// orders are what a node is to follow now, and a channel that is closed when that changes.
func (p *Player) orders(n *node) (*nodelink.FaultOrders, <-chan struct{}) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &nodelink.FaultOrders{Revision: p.revision}
	for _, e := range p.entries {
		recent := e.info.Moment && now.Sub(e.Began) < momentLife && e.Began.After(n.joined)
		if !e.info.OnNodes() || e.State == Pending || !recent && e.State == Ended {
			continue
		}
		seed := p.seed
		if e.Seed != 0 {
			seed = e.Seed
		}
		f := &nodelink.ActiveFault{Id: e.ID, Kind: string(e.Kind), Target: e.Target, Rate: e.Rate, With: e.With, Seed: seed,
			Order: e.order}
		if e.For.Duration > 0 {
			f.RemainingNanos = int64(max(e.Began.Add(e.For.Duration).Sub(now), 1))
		}
		out.Faults = append(out.Faults, f)
	}
	return out, p.wake
}

// hear works in what a node tells.
func (p *Player) hear(id string, n *node, report *nodelink.FaultReport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if followed := report.GetFollowed(); followed > n.followed {
		n.followed = followed
		close(n.changed)
		n.changed = make(chan struct{})
	}
	for _, o := range report.GetOutcomes() {
		e := p.find(o.GetFaultId())
		if e == nil {
			continue // it was forgotten meanwhile
		}
		subject := o.GetInstanceId()
		if subject == "" || len(subject) > maxDetail {
			subject = id
		}
		detail := o.GetDetail()
		detail = detail[:min(len(detail), maxDetail)]
		if o.GetOutcome() == nodelink.FaultRefused {
			p.refused(e, subject, detail)
			continue
		}
		p.happened(e, subject, map[string]string{"node": id, "detail": detail})
	}
}

// awaitNodes waits until the nodes that are connected have followed what is ordered now, a second at most.
func (p *Player) awaitNodes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	p.mu.Lock()
	wanted := p.revision
	p.mu.Unlock()
	for {
		p.mu.Lock()
		var behind <-chan struct{}
		for _, n := range p.nodes {
			if n.followed < wanted {
				behind = n.changed
				break
			}
		}
		p.mu.Unlock()
		if behind == nil {
			return
		}
		select {
		case <-behind:
		case <-ctx.Done():
			return
		}
	}
}

// AwaitNode returns when a node takes orders, or with ctx's error.
func (p *Player) AwaitNode(ctx context.Context, id string) error {
	for {
		p.mu.Lock()
		_, there := p.nodes[id]
		joins := p.joins
		p.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-joins:
		case <-ctx.Done():
			return fmt.Errorf("wait for node %s to take orders of faults: %w", id, ctx.Err())
		}
	}
}

// supported says whether the nodes that are connected can have a fault happen.
func (p *Player) supported(f fault.Fault) error {
	info, _ := fault.InfoOf(f.Kind)
	if !info.OnNodes() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var first *UnsupportedError
	for id, n := range p.nodes {
		if info.Scope == fault.Nodes && !f.Matches(id) {
			continue
		}
		if slices.Contains(n.kinds, string(f.Kind)) {
			return nil // on one of them at least
		}
		if first == nil || id < first.Node {
			first = &UnsupportedError{Kind: f.Kind, Driver: n.driver, Node: id}
		}
	}
	if first != nil {
		return first
	}
	if info.Scope == fault.Nodes && len(p.nodes) > 0 {
		return fmt.Errorf("%w: fault %s: target %q: no node of that name is connected", fault.ErrInvalid, f.ID, f.Target)
	}
	return nil
}
