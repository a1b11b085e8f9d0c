package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// testURI is libvirt's driver for tests: domains in this process, the same on all connections.
const testURI = "test:///default"

// patience bounds how long a failure takes.
const patience = time.Minute

// daemon plays a libvirt daemon that goes away and comes back.
type daemon struct {
	t       *testing.T
	driver  *Driver
	conn    *libvirt.Connect // the test's own
	dead    atomic.Pointer[libvirt.Connect]
	away    atomic.Bool
	refused chan struct{} // holds a token when somebody tried while it was away
}

// withDaemon opens a driver of its own prefix, after the machines were started that ids name.
func withDaemon(t *testing.T, ids ...string) *daemon {
	t.Helper()
	if err := loop.acquire(""); err != nil {
		t.Fatal(err)
	}
	conn, err := libvirt.NewConnect(testURI)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close() })
	f := &daemon{t: t, conn: conn, refused: make(chan struct{}, 1)}
	cfg := Config{URI: testURI, NamePrefix: strings.ToLower(t.Name()) + "-", Logger: slog.New(slog.DiscardHandler)}
	warm := &warmUp{cancel: func() {}, done: make(chan struct{})}
	close(warm.done)
	d := &Driver{
		cfg: cfg, files: newFileWatch(cfg.Logger), names: newNames(cfg.NamePrefix), pools: newPools(),
		lines: newLines(cfg), raw: make(chan rawEvent, rawEvents), quit: make(chan struct{}), warm: warm,
	}
	d.lines.alive = func(conn *libvirt.Connect) bool { return conn != f.dead.Load() }
	d.lines.open = func() (*libvirt.Connect, error) {
		if f.away.Load() {
			nudge(f.refused)
			return nil, libvirt.Error{Code: libvirt.ERR_SYSTEM_ERROR, Message: "nobody listens"}
		}
		return libvirt.NewConnect(testURI)
	}
	f.driver = d
	for _, id := range ids {
		f.begin(cfg.NamePrefix+id, true)
	}
	if err := d.connect(); err != nil {
		t.Fatal(err)
	}
	known, err := d.takeOver(d.lines.current().conn, false)
	if err != nil {
		t.Fatal(err)
	}
	d.ops.Add(1)
	go d.dispatch(known)
	d.startKeeping()
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// begin defines a domain that ends with the test, and starts it.
func (f *daemon) begin(name string, ours bool) *libvirt.Domain {
	f.t.Helper()
	_, id, _ := strings.Cut(name, "-")
	text, err := xml.Marshal(notes{ID: id, Console: "/none", Socket: filepath.Join(f.t.TempDir(), "socket")})
	if err != nil {
		f.t.Fatal(err)
	}
	if !ours {
		text = nil
	}
	domain, err := f.conn.DomainDefineXML(fmt.Sprintf("<domain type='test'><name>%s</name><metadata>%s</metadata>"+
		"<memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>", name, text))
	if err == nil {
		err = domain.Create()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = domain.Destroy() // the test may have done so
		_ = domain.Undefine()
		_ = domain.Free()
	})
	return domain
}

// end ends a machine, and forgets it if it is to be gone.
func (f *daemon) end(id string, gone bool) {
	f.t.Helper()
	domain, err := f.conn.LookupDomainByName(f.driver.cfg.NamePrefix + id)
	if err == nil {
		err = domain.Destroy()
	}
	if err == nil && gone {
		err = domain.Undefine()
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// leave has the daemon go; the driver has noticed, and hears nothing of it any more, when leave returns.
func (f *daemon) leave() {
	f.t.Helper()
	f.away.Store(true)
	f.dead.Store(f.driver.lines.current().conn)
	nudge(f.driver.lines.suspect)
	receive(f.t, f.refused, "a try to connect again")
}

// receive waits for a word of something.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %v", what, patience)
		panic("not reached")
	}
}

// told collects n events: the state and reason of each machine.
func told(t *testing.T, events <-chan hypervisor.Event, n int) map[string]string {
	t.Helper()
	got := map[string]string{}
	for range n {
		e := receive(t, events, "event")
		got[e.ID] = string(e.State) + " " + e.Reason
	}
	return got
}

func TestReconnect(t *testing.T) {
	f := withDaemon(t, "i-stays", "i-dies", "i-goes")
	d, ctx := f.driver, t.Context()
	events, err := d.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stays, err := d.Find(ctx, "i-stays")
	if err != nil {
		t.Fatal(err)
	}

	f.leave()
	for name, call := range map[string]func() error{
		"State":  func() error { _, err := stays.State(ctx); return err },
		"Kill":   func() error { return stays.Kill(ctx) },
		"Find":   func() error { _, err := d.Find(ctx, "i-stays"); return err },
		"List":   func() error { _, err := d.List(ctx); return err },
		"Medium": func() error { return stays.EjectMedium(ctx) },
	} {
		err := call()
		if !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), testURI) {
			t.Errorf("%s: error %v, want ErrUnavailable that names %s", name, err, testURI)
		}
	}
	f.end("i-dies", false)
	f.end("i-goes", true)

	f.away.Store(false)
	want := map[string]string{"i-dies": "stopped " + reasonAway, "i-goes": "gone " + reasonAway}
	if diff := cmp.Diff(want, told(t, events, 2)); diff != "" {
		t.Errorf("told after it was back (-want +got):\n%s", diff)
	}
	state, err := stays.State(ctx) // who hears an event may ask at once
	if state != hypervisor.Running || err != nil {
		t.Errorf("a machine that stays is %q, %v", state, err)
	}
	if machines, err := d.List(ctx); err != nil || len(machines) != 2 {
		t.Errorf("%d machines, %v; want 2", len(machines), err)
	}

	f.end("i-stays", false)
	want = map[string]string{"i-stays": "stopped destroyed"}
	if diff := cmp.Diff(want, told(t, events, 1)); diff != "" {
		t.Errorf("told on the new line (-want +got):\n%s", diff)
	}
}

// TestReconnectClearsHalfMade has a machine's making be broken off: its domain is there, but no call said so.
func TestReconnectClearsHalfMade(t *testing.T) {
	f := withDaemon(t, "i-whole")
	d, prefix := f.driver, f.driver.cfg.NamePrefix
	events, err := d.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failed := libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: "client socket is closed"}
	before := d.lines.current()
	d.lines.halfMade(before, prefix+"i-whole", failed) // that line is alive: it could be cleared away then
	f.leave()
	d.lines.halfMade(before, prefix+"i-half", failed)
	d.lines.halfMade(before, prefix+"i-never", failed)
	f.begin(prefix+"i-half", true)
	f.away.Store(false)
	whole, err := d.Find(t.Context(), "i-whole")
	for errors.Is(err, hypervisor.ErrUnavailable) {
		<-time.After(firstRedial / 10)
		whole, err = d.Find(t.Context(), "i-whole")
	}
	if err != nil {
		t.Fatal(err)
	}
	if state, err := whole.State(t.Context()); err != nil || state != hypervisor.Running {
		t.Errorf("a whole machine is %s, %v", state, err)
	}
	if _, err := d.Find(t.Context(), "i-half"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("half a machine is left: %v", err)
	}
	f.end("i-whole", false)
	if diff := cmp.Diff(map[string]string{"i-whole": "stopped destroyed"}, told(t, events, 1)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if left := d.lines.takeHalf(); len(left) > 0 {
		t.Errorf("still noted: %v", left)
	}
}

// TestCloseWhileAway closes a driver whose daemon does not come back, or hangs.
func TestCloseWhileAway(t *testing.T) {
	f := withDaemon(t)
	f.leave()
	if err := f.driver.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.driver.List(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("a closed driver lists with %v", err)
	}

	f = withDaemon(t)
	hanging, goOn := make(chan struct{}, 1), make(chan struct{})
	t.Cleanup(func() { close(goOn) })
	f.driver.lines.open = func() (*libvirt.Connect, error) { // nobody opens now
		nudge(hanging)
		<-goOn
		return nil, errClosed
	}
	f.dead.Store(f.driver.lines.current().conn)
	nudge(f.driver.lines.suspect)
	receive(t, hanging, "try to connect again")
	if err := f.driver.Close(); err != nil {
		t.Error(err)
	}
}

func TestBlame(t *testing.T) {
	f := withDaemon(t)
	d := f.driver
	broken := libvirt.Error{Code: libvirt.ERR_RPC, Message: "cannot write"}
	missing := libvirt.Error{Code: libvirt.ERR_NO_DOMAIN, Message: "no such domain"}
	before := d.lines.current()
	for _, alive := range []bool{true, false} {
		if !alive {
			f.leave()
		}
		for _, tc := range []struct {
			name string
			err  error
			lost bool
		}{
			{"success", nil, false},
			{"libvirt's error", fmt.Errorf("define: %w", broken), !alive},
			{"plain", plain(broken), !alive},
			{"a domain that is not there", missing, false},
			{"another's", os.ErrNotExist, false},
		} {
			got := d.blame(before, tc.err)
			if errors.Is(got, hypervisor.ErrUnavailable) != tc.lost || (tc.err != nil && !errors.Is(got, tc.err) && !tc.lost) {
				t.Errorf("line alive %t, %s: %v, want ErrUnavailable: %t", alive, tc.name, got, tc.lost)
			}
		}
	}
}

func TestMissed(t *testing.T) {
	last := map[string]hypervisor.State{
		"runs": hypervisor.Running, "pauses": hypervisor.Running, "ends": hypervisor.Running,
		"crashes": hypervisor.Paused, "gone": hypervisor.Running, "ended": hypervisor.Stopped,
		"removed": hypervisor.Stopped, "told": hypervisor.Crashed,
	}
	found := map[string]hypervisor.State{
		"runs": hypervisor.Running, "pauses": hypervisor.Paused, "ends": hypervisor.Stopped,
		"crashes": hypervisor.Crashed, "ended": hypervisor.Stopped, "told": hypervisor.Stopped,
		"new": hypervisor.Running,
	}
	want := map[string]hypervisor.State{
		"ends": hypervisor.Stopped, "crashes": hypervisor.Crashed, "gone": hypervisor.Gone,
		"removed": hypervisor.Gone, "new": hypervisor.Running,
	}
	if diff := cmp.Diff(want, missed(last, found)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRemoveAll(t *testing.T) {
	f := withDaemon(t, "i-runs", "i-stopped")
	prefix := f.driver.cfg.NamePrefix
	f.end("i-stopped", false)
	f.begin(prefix+"stranger", false)
	f.begin("another-"+prefix+"i-theirs", true)
	if err := f.driver.removeAll(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		prefix + "i-runs": false, prefix + "i-stopped": false,
		prefix + "stranger": true, "another-" + prefix + "i-theirs": true,
	} {
		domain, err := f.conn.LookupDomainByName(name)
		if there := err == nil; there != want || (err != nil && !is(err, libvirt.ERR_NO_DOMAIN)) {
			t.Errorf("%s: %v, want it to be there: %t", name, err, want)
		}
		if err == nil {
			_ = domain.Free()
		}
	}
	if err := f.driver.removeAll(); err != nil {
		t.Errorf("with nothing left: %v", err)
	}
}

func TestRemoveAllRefuses(t *testing.T) {
	t.Setenv("LIBVIRT_AUTOSTART", "0") // a daemon that is not there stays away
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const nobody = "qemu+unix:///session?socket=/nonexistent/libvirt"
	for _, tc := range []struct {
		name   string
		config Config
		want   string
		host   bool
	}{
		{"no prefix", Config{URI: nobody}, "NamePrefix must be set", false},
		{"no URI", Config{Root: "/tmp/r", NamePrefix: "ct-"}, "URI", false},
		{"another host", Config{URI: "qemu+ssh://far/system", NamePrefix: "ct-"}, "far", false},
		{"nobody there", Config{URI: nobody, NamePrefix: "ct-"}, nobody, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := RemoveAll(ctx, tc.config)
			if err == nil || !strings.Contains(err.Error(), tc.want) ||
				errors.Is(err, hypervisor.ErrUnavailable) != tc.host {
				t.Errorf("error %v, want one with %q, the host at fault: %t", err, tc.want, tc.host)
			}
		})
	}
}
