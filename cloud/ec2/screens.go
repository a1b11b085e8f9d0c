package ec2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// Errors of Screenshot, beside ErrNotFound.
var (
	// ErrNoDisplay means that an instance's guest has nothing to look at.
	ErrNoDisplay = errors.New("the guest has no display; 'cloudtwin up --displays' gives the guests of the web image one")
	// ErrNotRunning means that an instance's guest does not run, or not yet.
	ErrNotRunning = errors.New("the guest does not run")
	// ErrNoAnswer means that the instance's node is away, or gave no picture in time.
	ErrNoAnswer = errors.New("the guest's node gave no picture")
)

// screenTimeout bounds the wait for a node's picture.
const screenTimeout = 8 * time.Second

// screens are the nodes that can be asked for pictures.
type screens struct {
	mu    sync.Mutex
	nodes map[string]*screenNode
	next  uint64 // id of the next order
}

// screenNode is a node's open stream.
type screenNode struct {
	orders  chan *nodelink.ScreenOrder
	gone    chan struct{} // closed when the stream has ended
	waiting map[uint64]chan *nodelink.ScreenAnswer
}

// join makes the node one that can be asked. A stream of before is none any more.
func (s *screens) join(nodeID string) (n *screenNode, leave func()) {
	n = &screenNode{orders: make(chan *nodelink.ScreenOrder), gone: make(chan struct{}),
		waiting: map[uint64]chan *nodelink.ScreenAnswer{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes == nil {
		s.nodes = map[string]*screenNode{}
	}
	s.nodes[nodeID] = n
	return n, func() {
		close(n.gone)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.nodes[nodeID] == n {
			delete(s.nodes, nodeID)
		}
	}
}

// expect makes an order of which the answer comes on a channel.
func (s *screens) expect(nodeID, instanceID string) (n *screenNode, o *nodelink.ScreenOrder,
	answer chan *nodelink.ScreenAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = s.nodes[nodeID]; n == nil {
		return nil, nil, nil
	}
	s.next++
	answer = make(chan *nodelink.ScreenAnswer, 1)
	n.waiting[s.next] = answer
	return n, &nodelink.ScreenOrder{Id: s.next, InstanceId: instanceID}, answer
}

func (s *screens) forget(n *screenNode, id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(n.waiting, id)
}

// hear hands an answer to whoever waits for it; nobody may any more.
func (s *screens) hear(n *screenNode, a *nodelink.ScreenAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting := n.waiting[a.GetId()]; waiting != nil {
		waiting <- a
		delete(n.waiting, a.GetId())
	}
}

// Screenshot returns a PNG of what an instance's display shows now, at most nodelink.MaxPicture bytes. The errors are
// ErrNotFound, ErrNoDisplay, ErrNotRunning and ErrNoAnswer.
func (s *Service) Screenshot(ctx context.Context, instanceID string) ([]byte, error) {
	png, err := s.screenshot(ctx, instanceID)
	if err != nil {
		return nil, fmt.Errorf("screenshot of %s: %w", instanceID, err)
	}
	return png, nil
}

func (s *Service) screenshot(ctx context.Context, instanceID string) ([]byte, error) {
	e, ok := s.view.get(instanceID)
	switch {
	case !ok:
		return nil, ErrNotFound
	case e.inst.State != Running:
		return nil, fmt.Errorf("%w: the instance is %s", ErrNotRunning, e.inst.State)
	}
	ctx, cancel := context.WithTimeout(ctx, screenTimeout)
	defer cancel()
	n, order, waiting := s.screens.expect(e.inst.NodeID, instanceID)
	if n == nil {
		return nil, fmt.Errorf("%w: node %s is not connected", ErrNoAnswer, e.inst.NodeID)
	}
	defer s.screens.forget(n, order.GetId())
	select {
	case n.orders <- order:
	case <-n.gone:
		return nil, fmt.Errorf("%w: node %s went away", ErrNoAnswer, e.inst.NodeID)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	}
	select {
	case a := <-waiting:
		return picture(a)
	case <-n.gone:
		return nil, fmt.Errorf("%w: node %s went away", ErrNoAnswer, e.inst.NodeID)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	}
}

// picture is what a node answered.
func picture(a *nodelink.ScreenAnswer) ([]byte, error) {
	const maxDetail = 500 // bytes
	switch a.GetRefusal() {
	case "":
		if n := len(a.GetPng()); n == 0 || n > nodelink.MaxPicture {
			return nil, fmt.Errorf("%w: it sent %d bytes, want 1 to %d", ErrNoAnswer, n, nodelink.MaxPicture)
		}
		return a.GetPng(), nil
	case nodelink.ScreenNoDisplay:
		return nil, ErrNoDisplay
	case nodelink.ScreenNotRunning:
		return nil, ErrNotRunning
	default:
		return nil, fmt.Errorf("%w: %s", ErrNoAnswer, bounded(a.GetDetail(), maxDetail))
	}
}

// ScreenServer asks nodes for pictures. authenticate says which node calls and returns a context that ends when it may
// no longer.
func (s *Service) ScreenServer(
	authenticate func(ctx context.Context) (context.Context, string, error),
) nodelink.NodeScreensServer {
	return &screenServer{s: s, authenticate: authenticate}
}

type screenServer struct {
	nodelink.UnimplementedNodeScreensServer
	s            *Service
	authenticate func(ctx context.Context) (context.Context, string, error)
}

// Look implements nodelink.NodeScreensServer.
func (v *screenServer) Look(stream nodelink.NodeScreens_LookServer) error {
	ctx, id, err := v.authenticate(stream.Context())
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	n, leave := v.s.screens.join(id)
	defer leave()
	failed := make(chan error, 1)
	go func() { failed <- v.receive(n, stream) }()
	for {
		select {
		case o := <-n.orders:
			if err := stream.Send(o); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return status.Error(codes.Aborted, "superseded, or no longer allowed")
		case <-v.s.ctx.Done():
			return status.Error(codes.Unavailable, "the cloud is shutting down")
		}
	}
}

func (v *screenServer) receive(n *screenNode, stream nodelink.NodeScreens_LookServer) error {
	for {
		a, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		v.s.screens.hear(n, a)
	}
}
