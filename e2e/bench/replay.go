package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/bundle"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/replay"
	"github.com/cloudtwin/cloudtwin/node"
)

const (
	nameReplaySpeedup = "replay.sim.speedup"
	// replayAim is how many times faster than the recording a replay on simulated guests should be.
	replayAim = 20.0
	// thinking is how long a person takes between two steps.
	thinking = 4 * time.Second
)

// benchReplay records a person's work with forked guests and plays it again on simulated ones.
func benchReplay(ctx context.Context, s *suite) error {
	dir, err := s.room.scratch()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "bundle.zip")
	if err := record(ctx, s, file); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	recording, err := openRecording(file)
	if err != nil {
		return err
	}
	state, err := os.MkdirTemp("", "ctr") // short, since sockets lie in it
	if err != nil {
		return fmt.Errorf("make a state folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(state) }()
	if err := local.Prepare(local.Layout(state)); err != nil {
		return err
	}
	got, err := replay.Run(ctx, recording, replay.Config{Layout: local.Layout(state), Images: s.images,
		Guests: local.Guests{Mode: node.GuestsSim}})
	if err != nil {
		return err
	}
	if !got.Same {
		return fmt.Errorf("the replay left the recording: %+v", got.First)
	}
	s.emit(result{Name: nameReplaySpeedup, Value: got.Speedup, Unit: "x"}.
		against("the recording on forked guests", 1, atLeast(replayAim)))
	return nil
}

func openRecording(file string) (_ *replay.Recording, err error) {
	b, err := bundle.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return replay.Read(b)
}

// record has a load balancer with backends come up, change and go, with pauses, and makes a bundle of it.
func record(ctx context.Context, s *suite, file string) (err error) {
	t, err := startTwin(ctx, s, backends, "--guests", string(node.GuestsFork))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	const name = "recorded"
	var instance string
	for _, step := range []func() error{
		func() error { return t.create(ctx, name) },
		func() (err error) { instance, err = t.serve(ctx, name); return err },
		func() error {
			_, err := t.elb.CreateLoadBalancerListeners(ctx, &elasticloadbalancing.CreateLoadBalancerListenersInput{
				LoadBalancerName: aws.String(name), Listeners: []types.Listener{{Protocol: aws.String("TCP"),
					LoadBalancerPort: 8080, InstancePort: aws.Int32(80)}}})
			return err
		},
		func() error { return t.remove(ctx, name, instance) },
	} {
		if err := step(); err != nil {
			return err
		}
		if err := pause(ctx, thinking); err != nil {
			return err
		}
	}
	_, err = bundle.Write(ctx, file, bundle.Source{State: t.layout, Images: s.images}, nil)
	return err
}

func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
