package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

const (
	firstPause = 100 * time.Millisecond
	longPause  = 5 * time.Second
	// gather is how long small news wait for more, so that a talkative guest does not make a message of each line.
	gather = 10 * time.Millisecond
)

// errAnew ends a session on this node's own wish.
var errAnew = errors.New("the connection is made anew")

// Reconnect has the connection to the cloud made anew, with whatever Config.Cloud uses by now. Guests do not notice.
func (c *Controller) Reconnect() {
	select {
	case c.anew <- struct{}{}:
	default:
	}
}

// syncLoop keeps a connection to the cloud until ctx ends. An error says that the cloud does not want this node.
func (c *Controller) syncLoop(ctx context.Context) error {
	pause, linked := firstPause, linkUnknown
	tell := func(now linkState, err error) {
		if linked != now {
			linked = now
			c.cfg.OnLink(err)
		}
	}
	for ctx.Err() == nil {
		began := time.Now()
		err := c.session(ctx, func() { tell(linkMade, nil) })
		if ctx.Err() != nil {
			return nil
		}
		again, fatal := c.refused(ctx, err)
		if fatal != nil {
			return fatal
		}
		if again || errors.Is(err, errAnew) {
			pause = firstPause
			continue
		}
		if time.Since(began) > longPause {
			pause = firstPause
		}
		level := slog.LevelWarn
		if linked == linkLost {
			level = slog.LevelDebug // told once
		}
		c.log.Log(ctx, level, "connection to the cloud ended", "error", err, "retry", pause)
		tell(linkLost, err)
		jitter := time.Duration(rand.Int64N(int64(pause)/2 + 1)) //nolint:gosec // spreads retries, no secret
		wait(ctx, pause+jitter)
		pause = min(2*pause, longPause)
	}
	return nil
}

// linkState is what was told of the connection to the cloud last.
type linkState int

const (
	linkUnknown linkState = iota
	linkMade
	linkLost
)

// refused says what follows from a session's end if that was the NODECERT's refusal.
func (c *Controller) refused(ctx context.Context, err error) (again bool, fatal error) {
	refused, ok := nodelink.RefusalOf(err)
	switch {
	case !ok:
		return false, nil
	case refused.Reason == nodelink.ReasonRemoved:
		return false, fmt.Errorf("%w: %s", ErrRemoved, refused.Detail)
	default:
		return c.cfg.OnRefused(ctx, refused)
	}
}

// wait returns after d, or sooner when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// link is one connection to the cloud.
type link struct {
	stream  nodelink.NodeLink_SyncClient
	status  *nodelink.NodeStatus // as it was told last
	desired chan *nodelink.Desired
	failed  chan error
}

// session is one connection's life: everything known goes out, the snapshot comes in, then changes both ways.
// Guests hang on ctx, not on the connection. made is called once the snapshot is there.
func (c *Controller) session(ctx context.Context, made func()) error {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-c.anew: // it is made anew here
	default:
	}
	stream, err := c.cfg.Cloud.Sync(nodelink.WithStart(streamCtx, c.started))
	if err != nil {
		return fmt.Errorf("connect to the cloud: %w", err)
	}
	l := &link{stream: stream, status: c.status(), desired: make(chan *nodelink.Desired), failed: make(chan error, 1)}
	c.workers.Go(func() { l.receive(streamCtx) })
	if err := l.send(ctx, &nodelink.Report{
		First: true, Node: l.status, Instances: c.reports.everything(),
	}); err != nil {
		return err
	}
	select {
	case d := <-l.desired:
		if !d.GetSnapshot() {
			return errors.New("the cloud's first message is no snapshot")
		}
		c.log.Info("connected to the cloud", "instances", len(d.GetRun()))
		made()
		c.apply(ctx, d)
	case err := <-l.failed:
		return err
	case <-c.anew:
		return errAnew
	case <-ctx.Done():
		return ctx.Err()
	}
	return c.exchange(ctx, l)
}

func (c *Controller) exchange(ctx context.Context, l *link) error {
	heartbeat := time.NewTicker(c.cfg.Heartbeat)
	defer heartbeat.Stop()
	for {
		report, beat := &nodelink.Report{}, false
		select {
		case d := <-l.desired:
			if err := c.cfg.Trouble.Gate(ctx); err != nil {
				return err
			}
			c.apply(ctx, d)
			continue
		case err := <-l.failed:
			return err
		case <-c.anew:
			return errAnew
		case <-ctx.Done():
			return ctx.Err()
		case <-heartbeat.C:
			// A report that tells nothing is a sign of life.
			beat = true
			if st := c.status(); !proto.Equal(st, l.status) {
				report.Node, l.status = st, st
			}
		case <-c.reports.wake:
			wait(ctx, gather)
		}
		if err := c.cfg.Trouble.Gate(ctx); err != nil {
			return err
		}
		// Told together: what happened before a guest's word is there when that is.
		report.Instances, report.Events = c.reports.news(), c.happenings.take()
		if !beat && len(report.GetInstances())+len(report.GetEvents()) == 0 {
			continue
		}
		if err := l.send(ctx, report); err != nil {
			c.happenings.putBack(report.GetEvents())
			return err
		}
	}
}

// status is what the node says of itself.
func (c *Controller) status() *nodelink.NodeStatus {
	st := c.cfg.Status()
	st.Images = map[string]string{}
	for name, img := range c.images.all() {
		st.Images[name] = img.digest
	}
	takes := c.cfg.Guests.cost()
	if c.noForks != nil {
		takes = GuestsCold.cost()
	}
	st.GuestFixedMb, st.GuestMemoryPercent = uint32(takes.fixedMB), uint32(takes.percent)
	return st
}

// receive hands the cloud's messages over until the stream ends, and then says why it did.
func (l *link) receive(ctx context.Context) {
	for {
		d, err := l.stream.Recv()
		if err != nil {
			l.failed <- fmt.Errorf("hear the cloud: %w", err)
			return
		}
		select {
		case l.desired <- d:
		case <-ctx.Done():
			l.failed <- ctx.Err()
			return
		}
	}
}

// send tells the cloud. When the stream is broken the reason comes out of receive.
func (l *link) send(ctx context.Context, report *nodelink.Report) error {
	err := l.stream.Send(report)
	if err == nil {
		return nil
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case err = <-l.failed:
	case <-timer.C:
	case <-ctx.Done():
	}
	return fmt.Errorf("tell the cloud: %w", err)
}
