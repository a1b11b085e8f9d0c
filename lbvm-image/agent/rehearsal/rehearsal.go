// Package rehearsal plays a guest's life once, from its medium to the first request of a client, against a cloud that
// it makes up in memory: a metadata service, the API, a backend and a client.
//
// A template does it before it is saved. What runs for the first time is slow, most of all under emulation: code and
// tables are brought into memory, parsers look at the types that they fill, the heap grows, stacks and threads are
// made. The copies of the template find all that done. Nothing of a rehearsal stays: every key in it is made for it
// and thrown away, and in a template no connection leaves the process, so that none of the kernel's own secrets (of
// TCP's sequence numbers, source ports) is made before a copy has its randomness.
//
// The reader starts at LBVM; cloud.go is what it plays against.
package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

// limit bounds a rehearsal: one that hangs must not keep a template from being one.
const limit = 30 * time.Second

// Stage is what a rehearsal is played with.
type Stage struct {
	// Files makes the file system of a medium, as the guest's own source does. Needed.
	Files func(map[string][]byte) fs.FS
	// Network carries the connections. Needed.
	Network Network
	// Brief leaves out what comes after the first handshake of a client. A machine that keeps what it has translated
	// then keeps less.
	Brief bool
}

// LBVM rehearses agent.RunLBVM until a client has been answered through its listener.
func LBVM(ctx context.Context, stage Stage) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := newCloud(stage)
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	defer c.close()
	medium, err := c.medium()
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	return play(ctx, c, agent.RunLBVM, medium, func() error { return c.visit(ctx) })
}

// Web rehearses agent.RunWeb until a client has been answered.
func Web(ctx context.Context, stage Stage) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := newCloud(stage)
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	defer c.close()
	boot := c.boot()
	medium, err := boot.Files()
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	return play(ctx, c, agent.RunWeb, medium, func() error { return c.visitWeb(ctx) })
}

// play runs a guest until it serves, visits it, and waits for its end.
func play(
	ctx context.Context, c *cloud, run func(context.Context, agent.World) error, medium map[string][]byte,
	visit func() error,
) error {
	guestCtx, stop := context.WithCancel(ctx)
	defer stop()
	serving := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- run(guestCtx, agent.World{
			Medium: &source{files: c.stage.Files(medium)}, Now: time.Now, Logger: c.logger,
			Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
				return c.stage.Network.Dial(ctx, guestIP, address)
			},
			Listen: func(_, address string) (net.Listener, error) { return c.stage.Network.Listen(guestIP, address) },
			Console: observer(func(stage string) {
				if stage == agent.StageServing {
					serving <- struct{}{}
				}
			}),
		})
	}()
	var err error
	select {
	case err = <-ended:
		return fmt.Errorf("rehearse: guest ended: %w", err)
	case <-serving:
		err = visit()
	}
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	return nil
}

// observer is a console of which only the stages count.
type observer func(stage string)

// Milestone implements agent.Console.
func (o observer) Milestone(stage string, _ ...slog.Attr) { o(stage) }

// source is a drive with one medium.
type source struct{ files fs.FS }

// Open implements agent.MediumSource.
func (s *source) Open(context.Context) (fs.FS, error) { return s.files, nil }

// Changed implements agent.MediumSource.
func (s *source) Changed() <-chan struct{} { return nil }
