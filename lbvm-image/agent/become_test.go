package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

// order notes what a copied machine does to itself, in order.
type order struct {
	mu    sync.Mutex
	steps []string
}

func (o *order) note(step string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.steps = append(o.steps, step)
}

func (o *order) first(n int) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.steps[:min(n, len(o.steps))])
}

// copied makes the world one of a machine that was copied from a template.
func copied(o *order, world *agent.World, become func(keydelivery.Boot) error) {
	dial := world.Dial
	world.Entropy = func([]byte) error { o.note("entropy"); return nil }
	world.Become = func(_ context.Context, boot keydelivery.Boot) error {
		o.note("become " + boot.InstanceID + " " + boot.MAC)
		if !bytes.Equal(boot.Entropy, make([]byte, keydelivery.EntropySize)) {
			o.note("entropy is still there")
		}
		return become(boot)
	}
	world.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		o.note("dial")
		return dial(ctx, network, address)
	}
}

func TestCopyBecomesItsMachineBeforeItUsesTheNetwork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		o := &order{}
		g := boot(t, cloud, func(g *guest, w *agent.World) {
			g.offset = -time.Hour // the template was saved an hour ago
			copied(o, w, func(b keydelivery.Boot) error { return g.setClock(b.Time) })
		})
		m := cloud.medium(guestID, time.Now().Add(time.Hour))
		m.Boot.MAC, m.Boot.Time = "02:00:0a:40:00:05", time.Now()
		m.Boot.Entropy = bytes.Repeat([]byte{1}, keydelivery.EntropySize)
		g.insert(m)
		g.expect(time.Minute, 1, agent.StageCredentials)
		want := []string{"entropy", "become " + guestID + " 02:00:0a:40:00:05", "dial"}
		if diff := cmp.Diff(want, o.first(3)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCopyThatCannotBecomeItsMachineStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		o := &order{}
		g := boot(t, cloud, func(_ *guest, w *agent.World) {
			copied(o, w, func(keydelivery.Boot) error { return errors.New("no card") })
		})
		g.insert(cloud.medium(guestID, time.Now().Add(time.Hour)))
		g.expect(time.Minute, 1, agent.StageFailed, "reason=machine did not become "+guestID)
		if slices.Contains(o.first(9), "dial") {
			t.Error("the network was used")
		}
	})
}

func TestWebCopyWaitsForItsMedium(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		o := &order{}
		disk := &media{queue: make(chan fs.FS, 1)}
		out := newConsole()
		ctx, stop := context.WithCancel(context.Background())
		host := cloud.net.Host(guestIP)
		world := agent.World{
			Medium: disk, Dial: host.Dial, Listen: host.Listen, Now: time.Now,
			Console: agent.NewConsole(out, func() time.Duration { return 0 }),
		}
		copied(o, &world, func(keydelivery.Boot) error { return nil })
		ended := make(chan error, 1)
		go func() { ended <- agent.RunWeb(ctx, world) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		g := &guest{t: t, console: out}
		g.expect(time.Minute, 1, agent.StageReadyForMedium)
		if got := o.first(9); len(got) != 0 {
			t.Errorf("before there was a medium: %v", got)
		}
		files, err := keydelivery.Boot{
			FormatVersion: keydelivery.BootFormat, InstanceID: guestID, MAC: "02:00:0a:40:00:05",
			Entropy: bytes.Repeat([]byte{1}, keydelivery.EntropySize),
		}.Files()
		if err != nil {
			t.Fatal(err)
		}
		disk.queue <- fstest.MapFS{keydelivery.BootFile: &fstest.MapFile{Data: files[keydelivery.BootFile]}}
		g.expect(time.Minute, 1, agent.StageServing)
		want := []string{"entropy", "become " + guestID + " 02:00:0a:40:00:05", "dial"}
		if diff := cmp.Diff(want, o.first(3)); diff != "" {
			t.Error(diff)
		}
	})
}
