package libvirt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// spares makes machines of a pool with a network card.
func spares(shape hypervisor.Spec, names ...string) (plans []plan) {
	for _, name := range names {
		plans = append(plans, plan{name: name, spec: shape, kind: pooled})
	}
	return plans
}

func domains(plans []plan) (names []string) {
	for _, p := range plans {
		names = append(names, p.name)
	}
	return names
}

func TestPools(t *testing.T) {
	tmpl, other := hypervisor.Template{State: "a"}, hypervisor.Template{State: "b"}
	shape := goodSpec()
	p := newPools()
	if surplus := p.set(tmpl, shape, 2, nil); len(surplus) != 0 {
		t.Errorf("an empty pool has too many: %v", surplus)
	}
	for _, s := range spares(shape, "1", "2") {
		if !p.put(tmpl, s) {
			t.Errorf("%s is not wanted", s.name)
		}
	}
	if p.put(tmpl, spares(shape, "3")[0]) {
		t.Error("a third is wanted of two")
	}
	if p.put(other, spares(shape, "4")[0]) {
		t.Error("one of a template that nobody asked for is wanted")
	}
	bigger, bare := shape, shape
	bigger.MemoryMB *= 2
	bare.NIC = hypervisor.NIC{}
	for _, spec := range []hypervisor.Spec{bigger, bare} {
		if s, ok := p.take(tmpl, spec); ok {
			t.Errorf("%s taken for %+v", s.name, spec)
		}
	}
	mine := shape
	mine.ID, mine.Medium, mine.ConsoleLog = "i-2", "/m", "/c"
	mine.NIC = hypervisor.NIC{MAC: "02:00:00:00:00:09", Socket: "/s"}
	if s, ok := p.take(tmpl, mine); !ok || s.name != "1" {
		t.Errorf("took %q, %t; want the oldest", s.name, ok)
	}
	if got := p.set(tmpl, shape, 0, nil); len(got) != 1 || got[0].name != "2" {
		t.Errorf("none wanted: %v are too many", domains(got))
	}
	p.set(tmpl, shape, 1, nil)
	p.put(tmpl, spares(shape, "5")[0])
	if diff := cmp.Diff([]string{"5"}, domains(p.set(tmpl, bigger, 1, nil))); diff != "" {
		t.Errorf("another shape: %s", diff)
	}
	p.put(tmpl, spares(bigger, "6")[0])
	if diff := cmp.Diff([]string{"6"}, domains(p.empty())); diff != "" || p.ready() != 0 {
		t.Errorf("at the end: %s, %d left", diff, p.ready())
	}
}

func TestPoolsWaitForStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tmpl, shape := hypervisor.Template{State: "a"}, goodSpec()
		p := newPools()
		p.set(tmpl, shape, 1, nil)
		wanted := func() bool { _, _, ok := p.next(); return ok }
		if !wanted() {
			t.Error("nothing to fill at first")
		}
		done := p.begin()
		if wanted() || !p.busy() {
			t.Error("filled while a start is under way")
		}
		done()
		if wanted() || p.rest() != calm {
			t.Errorf("filled right after a start; %v to wait", p.rest())
		}
		<-time.After(p.rest())
		if !wanted() {
			t.Error("not filled after the calm")
		}
		p.jam(tmpl)
		if wanted() {
			t.Error("what does not work is tried again and again")
		}
		p.begin()()
		<-time.After(p.rest())
		if !wanted() {
			t.Error("not tried again after a start")
		}
	})
}

// A machine that rehearses stands back from guests that start, not only from their Fork.
func TestPoolsStandBackFromGuestsThatStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Driver{pools: newPools()}
		start := true
		d.AdmitSpares(nil, func() bool { return start })
		d.pools.begin()()
		<-time.After(d.pools.rest())
		if !d.pools.needed() || !d.pools.busy() {
			t.Error("the host is not left to a guest that starts")
		}
		if start = false; d.pools.needed() {
			t.Error("the host is left to a guest that serves")
		}
	})
}

func TestSparesAskForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Driver{pools: newPools(), quit: make(chan struct{})}
		if release, err := d.admitSpare(96); err != nil {
			t.Fatalf("nobody to be asked: %v", err)
		} else {
			release()
		}
		asked, released := 0, 0
		d.AdmitSpares(func(_ context.Context, memoryMB int) (func(), error) {
			asked += memoryMB
			return func() { released++ }, nil
		}, nil)
		release, err := d.admitSpare(96)
		if err != nil || asked != 96 || released != 0 {
			t.Fatalf("%v; asked for %d MB, given back %d times", err, asked, released)
		}
		if release(); released != 1 {
			t.Error("room is not given back")
		}
		d.AdmitSpares(func(ctx context.Context, _ int) (func(), error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, nil)
		time.AfterFunc(time.Second, func() { close(d.quit) })
		if _, err := d.admitSpare(96); !errors.Is(err, context.Canceled) {
			t.Errorf("a driver that closes waits on: %v", err)
		}
	})
}

func TestNames(t *testing.T) {
	n := newNames("ct-")
	const spare = "ct-pool.abc"
	if _, ok := n.machine(spare); ok || !n.fromPool(spare) || n.fromPool("ct-i-1") {
		t.Error("one of the pool is a machine, or the other way round")
	}
	if id, ok := n.machine("ct-i-1"); !ok || id != "i-1" || n.domain("i-1") != "ct-i-1" {
		t.Errorf("ct-i-1 is %q, %t", id, ok)
	}
	if _, ok := n.machine("other"); ok {
		t.Error("somebody else's domain is a machine")
	}
	n.take("i-1", spare)
	if id, ok := n.machine(spare); !ok || id != "i-1" || n.domain("i-1") != spare {
		t.Errorf("taken: %s is %q, %t, and i-1 %s", spare, id, ok, n.domain("i-1"))
	}
	n.forget("i-1")
	if id, ok := n.machine(spare); !ok || id != "i-1" || n.domain("i-1") != "ct-i-1" {
		t.Errorf("killed: %s is %q, %t, and i-1 %s; want its last event to find its way", spare, id, ok, n.domain("i-1"))
	}
	n.bury(spare)
	if _, ok := n.machine(spare); ok {
		t.Error("buried, and still a machine")
	}
}

func TestMoveConsole(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before string // of the machine's log; empty for none
		want   string
		from   int64
	}{
		{"a new log", "", "mine\n", 0},
		{"the log of a machine before", "theirs\n", "theirs\nmine\n", 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			spare, log := filepath.Join(dir, "spare"), filepath.Join(dir, "log")
			// QEMU has the file open, to append.
			qemu, err := os.OpenFile(spare, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer qemu.Close()
			if _, err := qemu.WriteString("rehearsed\n"); err != nil {
				t.Fatal(err)
			}
			if tc.before != "" {
				if err := os.WriteFile(log, []byte(tc.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			from, err := moveConsole(spare, log)
			if err != nil || from != tc.from {
				t.Errorf("from %d, %v; want %d", from, err, tc.from)
			}
			if _, err := qemu.WriteString("mine\n"); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(log); err != nil || string(got) != tc.want {
				t.Errorf("the log has %q, %v; want %q", got, err, tc.want)
			}
			if _, err := os.Stat(spare); err == nil {
				t.Error("the spare's log is left")
			}
		})
	}
}
