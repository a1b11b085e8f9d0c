package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/template"
)

// screens gives the cloud pictures of the guests' displays.
type screens struct {
	driver hypervisor.Driver
	gate   func(context.Context) error // a frozen node gives none
	log    *slog.Logger
}

const (
	// The pauses between tries to reach the cloud.
	firstScreenPause = 50 * time.Millisecond
	longScreenPause  = 2 * time.Second
	// screenTimeout bounds the making of one picture.
	screenTimeout = 5 * time.Second
)

// follow answers the cloud's orders until ctx ends. The cloud being away is no error.
func (s *screens) follow(ctx context.Context, cloud nodelink.NodeScreensClient) {
	for pause := firstScreenPause; ctx.Err() == nil; pause = min(2*pause, longScreenPause) {
		answered, err := s.session(ctx, cloud)
		if answered {
			pause = firstScreenPause
		}
		s.log.Debug("the cloud asks for no pictures", "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// session is one connection's life; answered says that there were orders.
func (s *screens) session(ctx context.Context, cloud nodelink.NodeScreensClient) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := cloud.Look(ctx)
	if err != nil {
		return false, fmt.Errorf("let the cloud ask for pictures: %w", err)
	}
	if err := stream.Send(&nodelink.ScreenAnswer{}); err != nil {
		return false, fmt.Errorf("let the cloud ask for pictures: %w", err)
	}
	for {
		order, err := stream.Recv()
		if err == nil {
			err = s.gate(ctx)
		}
		if err == nil {
			err = stream.Send(s.answer(ctx, order))
		}
		if err != nil {
			return answered, fmt.Errorf("give the cloud pictures: %w", err)
		}
		answered = true
	}
}

// answer takes a picture, or says why there is none.
func (s *screens) answer(ctx context.Context, order *nodelink.ScreenOrder) *nodelink.ScreenAnswer {
	a := &nodelink.ScreenAnswer{Id: order.GetId()}
	ctx, cancel := context.WithTimeout(ctx, screenTimeout)
	defer cancel()
	png, err := s.take(ctx, order.GetInstanceId())
	switch {
	case err == nil:
		a.Png = png
		return a
	case errors.Is(err, errNoDisplay):
		a.Refusal = nodelink.ScreenNoDisplay
	case errors.Is(err, hypervisor.ErrNotRunning), errors.Is(err, hypervisor.ErrNotFound):
		a.Refusal = nodelink.ScreenNotRunning
	default:
		a.Refusal = nodelink.ScreenFailed
	}
	a.Detail = err.Error()
	return a
}

var errNoDisplay = errors.New("it has no display")

func (s *screens) take(ctx context.Context, id string) ([]byte, error) {
	if template.IsMachine(id) { // no guest of the cloud's
		return nil, fmt.Errorf("screenshot of machine %s: %w", id, hypervisor.ErrNotFound)
	}
	machine, err := s.driver.Find(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("screenshot: %w", err)
	}
	screen, ok := machine.(hypervisor.Screenshotter)
	if !ok {
		return nil, fmt.Errorf("screenshot of machine %s: %w", id, errNoDisplay)
	}
	png, err := screen.Screenshot(ctx)
	if err == nil && len(png) > nodelink.MaxPicture {
		err = fmt.Errorf("screenshot of machine %s: it has %d bytes, at most %d are sent", id, len(png),
			nodelink.MaxPicture)
	}
	return png, err
}
