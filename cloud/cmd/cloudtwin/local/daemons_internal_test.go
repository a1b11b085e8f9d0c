package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// noDaemon is a URI at which nobody listens.
const noDaemon = "qemu+unix:///session?socket=/nonexistent/libvirt"

func TestDaemons(t *testing.T) {
	l := Layout(t.TempDir())
	list := func(want ...string) {
		t.Helper()
		got, err := l.Daemons()
		if diff := cmp.Diff(strings.Join(want, " "), strings.Join(got, " ")); err != nil || diff != "" {
			t.Errorf("error %v (-want +got):\n%s", err, diff)
		}
	}
	note := func(uri string) (undo func() error) {
		t.Helper()
		undo, err := l.noteDaemon(uri)
		if err != nil {
			t.Fatal(err)
		}
		return undo
	}
	list()
	note("qemu:///session")
	list("qemu:///session")
	undo := note("qemu:///system")
	list("qemu:///session", "qemu:///system")
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	list("qemu:///session")
	if err := note("qemu:///session")(); err != nil { // it was there before
		t.Fatal(err)
	}
	list("qemu:///session")
	if err := os.WriteFile(l.DaemonsFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Daemons(); err == nil || !strings.Contains(err.Error(), l.DaemonsFile()) {
		t.Errorf("error %v, want one that names %s", err, l.DaemonsFile())
	}
}

// TestRemoveNeedsTheDaemon keeps the state folder while a daemon may have guests of it: it alone knows of them.
func TestRemoveNeedsTheDaemon(t *testing.T) {
	t.Setenv("LIBVIRT_AUTOSTART", "0") // a daemon that is not there stays away
	l := Layout(filepath.Join(t.TempDir(), "state"))
	if err := Prepare(l); err != nil {
		t.Fatal(err)
	}
	undo, err := l.noteDaemon(noDaemon)
	if err != nil {
		t.Fatal(err)
	}
	err = Remove(t.Context(), l)
	if !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), noDaemon) ||
		!strings.Contains(err.Error(), l.DaemonsFile()) || !IsInfrastructure(err) {
		t.Errorf("error %v, want ErrUnavailable that names %s and %s", err, noDaemon, l.DaemonsFile())
	}
	if _, err := os.Stat(l.DaemonsFile()); err != nil {
		t.Error(err)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), l); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(string(l)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state folder is there: %v", err)
	}
}

// TestDaemonThatWasNeverThere shows that a driver which cannot be opened leaves no word of its daemon.
func TestDaemonThatWasNeverThere(t *testing.T) {
	t.Setenv("LIBVIRT_AUTOSTART", "0")
	l := Layout(t.TempDir())
	_, err := openDriver(t.Context(), NodeConfig{Layout: l, HypervisorURI: noDaemon})
	if !errors.Is(err, hypervisor.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
	if uris, err := l.Daemons(); err != nil || len(uris) > 0 {
		t.Errorf("daemons %v, %v; want none", uris, err)
	}
}
