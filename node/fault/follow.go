package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// The pauses between tries to reach the cloud.
const (
	firstPause = 50 * time.Millisecond
	longPause  = 2 * time.Second
)

// Follow does what the cloud orders, until ctx ends. The cloud being away is no error: the faults that go on do so. At
// the end nothing of them is left.
func (n *Node) Follow(ctx context.Context, cloud nodelink.NodeFaultsClient) {
	defer n.begin(context.WithoutCancel(ctx), &nodelink.FaultOrders{})
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, longPause) {
		followed, err := n.session(ctx, cloud)
		if followed {
			pause = firstPause
		}
		n.cfg.Logger.Debug("the cloud orders no faults", "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// session is one connection's life; followed says that there were orders.
func (n *Node) session(ctx context.Context, cloud nodelink.NodeFaultsClient) (followed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := cloud.Play(ctx)
	if err != nil {
		return false, fmt.Errorf("ask the cloud for faults: %w", err)
	}
	if err := stream.Send(&nodelink.FaultReport{Kinds: n.kinds(), Driver: n.cfg.Driver.Info().Driver}); err != nil {
		return false, fmt.Errorf("ask the cloud for faults: %w", err)
	}
	orders, failed := make(chan *nodelink.FaultOrders), make(chan error, 1)
	received := make(chan struct{})
	defer func() { cancel(); <-received }()
	go func() {
		defer close(received)
		for {
			next, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case orders <- next:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		report := &nodelink.FaultReport{}
		select {
		case o := <-orders:
			n.begin(ctx, o)
			report.Followed, followed = o.GetRevision(), true
		case <-n.wake:
		case err := <-failed:
			return followed, fmt.Errorf("hear of faults: %w", err)
		case <-ctx.Done():
			return followed, ctx.Err()
		}
		n.mu.Lock()
		report.Outcomes, n.news = n.news, nil
		n.mu.Unlock()
		if err := stream.Send(report); err != nil {
			return followed, fmt.Errorf("tell of faults: %w", err)
		}
	}
}
