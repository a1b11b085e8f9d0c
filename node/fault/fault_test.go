package fault

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	plan "github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// driver and machine remember what was done to them.
type driver struct {
	hypervisor.Driver
	done    []string
	spoiled map[string]int // sectors by machine
}

func (d *driver) Info() hypervisor.Info { return hypervisor.Info{Driver: "fake"} }

func (d *driver) Find(_ context.Context, id string) (hypervisor.Machine, error) {
	return &machine{id: id, driver: d}, nil
}

func (d *driver) SpoilMedia(_ context.Context, id string, bad []hypervisor.Sectors) error {
	d.spoiled[id] = len(bad)
	return nil
}

type machine struct {
	hypervisor.Machine
	id     string
	driver *driver
}

func (m *machine) note(what string) error {
	m.driver.done = append(m.driver.done, what+" "+m.id)
	return nil
}
func (m *machine) Kill(context.Context) error        { return m.note("kill") }
func (m *machine) EjectMedium(context.Context) error { return m.note("eject") }
func (m *machine) InsertMedium(_ context.Context, path string) error {
	return m.note("insert " + filepath.Base(path) + " into")
}
func (m *machine) Pause(context.Context) error  { return m.note("pause") }
func (m *machine) Resume(context.Context) error { return m.note("resume") }

// network remembers the wires that are impaired; timers impair and heal them too.
type network struct {
	mu    sync.Mutex
	fates map[string]vnet.Fate
}

func (n *network) Impair(id string, fate vnet.Fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if fate == nil {
		delete(n.fates, id)
		return
	}
	n.fates[id] = fate
}

func (n *network) fate(id string) vnet.Fate {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fates[id]
}

func (n *network) impaired() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.fates)
}

// world is a node with two guests: i-lb of load balancer web, i-back of none.
func world() (*Node, *driver, *network) {
	d, wires := &driver{spoiled: map[string]int{}}, &network{fates: map[string]vnet.Fate{}}
	n := New(Config{NodeID: "node-1", Driver: d, Network: wires, Kill: func(down time.Duration) {
		d.done = append(d.done, "node down for "+down.String())
	}})
	n.GuestBegins(&nodelink.Instance{Id: "i-lb", RoleName: "loadbalancer-vm-123456789012-web", Image: "lbvm"})
	n.GuestBegins(&nodelink.Instance{Id: "i-back", Image: "web"})
	return n, d, wires
}

func orders(faults ...*nodelink.ActiveFault) *nodelink.FaultOrders {
	for i, f := range faults {
		f.Order = uint64(i + 1)
	}
	return &nodelink.FaultOrders{Faults: faults}
}

func order(kind plan.Kind, target string, with map[string]string) *nodelink.ActiveFault {
	return &nodelink.ActiveFault{Id: string(kind), Kind: string(kind), Target: target, With: with}
}

func TestWires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tests := []struct {
			order *nodelink.ActiveFault
			in    []time.Duration // the copies of a frame of 1000 bytes to the guest
			out   []time.Duration // from it
		}{
			{order(plan.WirePartition, "lb:web", nil), nil, nil},
			{order(plan.WirePartition, "lb:web", map[string]string{"direction": "in"}), nil, []time.Duration{0}},
			{order(plan.WireDelay, "lb:web", map[string]string{"delay": "50ms"}), []time.Duration{50e6}, []time.Duration{50e6}},
			{order(plan.WireDuplicate, "i-lb", map[string]string{"direction": "out"}),
				[]time.Duration{0}, []time.Duration{0, 0}},
			{order(plan.WireBandwidth, "image:lbvm", map[string]string{"bytesPerSecond": "10000"}),
				[]time.Duration{100e6}, []time.Duration{100e6}},
			{order(plan.NodeFreeze, "node-*", nil), nil, nil},
		}
		for _, tt := range tests {
			n, _, wires := world()
			n.begin(t.Context(), orders(tt.order))
			fate := wires.fate("i-lb")
			if fate == nil {
				t.Errorf("%s: the wire is perfect", tt.order.GetKind())
				continue
			}
			for toGuest, want := range map[bool][]time.Duration{true: tt.in, false: tt.out} {
				if got := fate(toGuest, 1000); len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
					t.Errorf("%s, to the guest %v: copies after %v, want %v", tt.order.GetKind(), toGuest, got, want)
				}
			}
			if other := wires.fate("i-back"); (other != nil) != (tt.order.GetKind() == string(plan.NodeFreeze)) {
				t.Errorf("%s: the other guest's wire is impaired: %v", tt.order.GetKind(), other != nil)
			}
			n.begin(t.Context(), orders())
			if wires.impaired() != 0 {
				t.Errorf("%s: wires are still impaired after its end", tt.order.GetKind())
			}
		}
	})
}

// TestEndsByItself has a fault end at its time though the cloud says nothing.
func TestEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d, wires := world()
		loss, still := order(plan.WireLoss, "*", nil), order(plan.GuestPause, "i-back", nil)
		loss.RemainingNanos, still.RemainingNanos = int64(time.Second), int64(2*time.Second)
		n.begin(t.Context(), orders(loss, still))
		if wires.impaired() != 2 {
			t.Errorf("%d wires impaired", wires.impaired())
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if wires.impaired() != 0 {
			t.Error("wires are impaired after the end")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(d.done) != 2 || d.done[0] != "pause i-back" || d.done[1] != "resume i-back" {
			t.Errorf("done: %v", d.done)
		}
	})
}

// TestMoments shows that what is a moment happens once, however often it is ordered.
func TestMoments(t *testing.T) {
	n, d, _ := world()
	kill, down := order(plan.GuestKill, "lb:*", nil), order(plan.NodeKill, "node-1", map[string]string{"down": "3s"})
	for range 3 {
		n.begin(t.Context(), orders(kill, down, order(plan.NodeKill, "node-2", nil)))
	}
	if len(d.done) != 2 || d.done[0] != "kill i-lb" || d.done[1] != "node down for 3s" {
		t.Errorf("done: %v", d.done)
	}
}

func TestSeams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d, _ := world()
		now := time.Now()
		n.begin(t.Context(), orders(order(plan.NodeClockSkew, "", map[string]string{"offset": "-2h"}),
			order(plan.GuestClockJump, "lb:web", map[string]string{"offset": "1h"}), order(plan.GuestNoEntropy, "i-lb", nil),
			order(plan.NodeOutOfDisk, "", nil), order(plan.NodeOutOfMemory, "", nil), order(plan.NodeFreeze, "", nil),
			order(plan.MediumReadError, "i-lb", map[string]string{"sector": "3"})))
		if got := n.Now().Sub(now); got != -2*time.Hour {
			t.Errorf("the node's clock is off by %s", got)
		}
		if got := n.BootTime("i-lb").Sub(now); got != -time.Hour {
			t.Errorf("the guest's clock is off by %s", got)
		}
		if !n.WithoutEntropy("i-lb") || n.WithoutEntropy("i-back") {
			t.Error("entropy is missing for the wrong guest")
		}
		if !errors.Is(n.Disk(), syscall.ENOSPC) || !n.OutOfMemory() {
			t.Errorf("disk %v, out of memory %v", n.Disk(), n.OutOfMemory())
		}
		if d.spoiled["i-lb"] != 1 || d.spoiled["i-back"] != 0 {
			t.Errorf("spoiled media: %v", d.spoiled)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.Gate(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a frozen node goes on: %v", err)
		}
		n.begin(t.Context(), orders())
		if err := n.Gate(t.Context()); err != nil || n.Disk() != nil || n.OutOfMemory() || d.spoiled["i-lb"] != 0 {
			t.Errorf("after the end: gate %v, disk %v, memory %v, spoiled %v", err, n.Disk(), n.OutOfMemory(), d.spoiled)
		}
	})
}

func TestMedia(t *testing.T) {
	medium := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, append(bytes.Repeat([]byte(name), 500), make([]byte, 4096)...), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var corrupted []string
	for range 2 {
		n, d, _ := world()
		n.begin(t.Context(), orders(order(plan.MediumCorrupt, "i-lb", nil), order(plan.MediumEject, "i-back", nil)))
		path, other := medium("a"), medium("b")
		before := read(other)
		n.MediumWritten(t.Context(), "i-lb", path)
		n.MediumWritten(t.Context(), "i-back", other)
		for _, id := range []string{"i-back", "i-lb"} {
			if empty := n.DriveEmpty(id); empty != (id == "i-back") {
				t.Errorf("the drive of %s stays empty: %v", id, empty)
			}
			n.MediumInserted(t.Context(), id)
		}
		if read(other) != before || len(d.done) != 1 || d.done[0] != "eject i-back" {
			t.Errorf("the other guest's medium changed, or done: %v", d.done)
		}
		corrupted = append(corrupted, read(path))
	}
	if corrupted[0] != corrupted[1] || corrupted[0] == read(medium("a")) {
		t.Error("a medium is not corrupted, or not twice in the same way")
	}
	n, _, _ := world()
	n.begin(t.Context(), orders(order(plan.MediumSwap, "i-lb", map[string]string{"with": "i-back"})))
	a, b := medium("a"), medium("b")
	first, second := read(a), read(b)
	done := make(chan struct{})
	go func() { defer close(done); n.MediumWritten(t.Context(), "i-lb", a) }()
	n.MediumWritten(t.Context(), "i-back", b)
	<-done
	if read(a) != second || read(b) != first {
		t.Error("the media were not exchanged")
	}
}

// TestAMediumThatFellOut: it is put back when its fault is over, unless it was wiped meanwhile.
func TestAMediumThatFellOut(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wiped bool
		want  []string
	}{
		{"is put back", false, []string{"eject i-lb", "insert medium.img into i-lb"}},
		{"is not when it is gone", true, []string{"eject i-lb"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, d, _ := world()
			path := filepath.Join(t.TempDir(), "medium.img")
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			n.begin(t.Context(), orders(order(plan.MediumEject, "i-lb", nil)))
			n.MediumWritten(t.Context(), "i-lb", path)
			if !n.DriveEmpty("i-lb") {
				t.Error("the medium is put in")
			}
			n.MediumInserted(t.Context(), "i-lb")
			if tt.wiped {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			n.begin(t.Context(), orders())
			n.begin(t.Context(), orders()) // once is enough
			if !slices.Equal(d.done, tt.want) {
				t.Errorf("done %q, want %q", d.done, tt.want)
			}
		})
	}
}
