package sim

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// handshake makes a verified handshake with a guest's listener and returns what it says next.
func handshake(t *testing.T, s *site, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	raw, err := s.network.Dial(ctx, id, lbPort)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.cloud.ca.Leaf)
	conn := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: hostName, MinVersion: tls.VersionTLS13})
	defer conn.Close()
	if err := conn.HandshakeContext(ctx); err != nil {
		t.Fatalf("handshake with %s: %v", id, err)
	}
}

// TestServes follows an LBVM from its start with a medium to its power button.
func TestServes(t *testing.T) {
	c := newFakeCloud(t)
	s := newSite(t, c, Config{Lifecycle: fixture(t, "tcg-cold.json")})
	spec, ip := s.spec(LBVM)
	spec.Medium = c.medium(s.dir, spec.ID)
	m := s.start(spec, ip)
	awaitStage(t, spec.ConsoleLog, "serving")
	handshake(t, s, spec.ID)

	// Another medium is read, and one for somebody else is not taken.
	for _, tt := range []struct{ owner, stage string }{{spec.ID, "medium-read"}, {"i-somebody-else", "medium-refused"}} {
		before := count(t, spec.ConsoleLog, tt.stage)
		if err := m.InsertMedium(t.Context(), c.medium(s.dir, tt.owner)); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if after := count(t, spec.ConsoleLog, tt.stage); after != before+1 {
				return fmt.Errorf("%d times %s, want %d", after, tt.stage, before+1)
			}
			return nil
		})
	}
	handshake(t, s, spec.ID)

	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := readAll(t, m)
	var stages []string
	for line := range strings.Lines(text) {
		if stage, ok := strings.CutPrefix(line, `@cloudtwin {"stage":"`); ok {
			// How many handshakes there were is counted from time to time.
			if name, _, _ := strings.Cut(stage, `"`); name != agent.StageHandshakes {
				stages = append(stages, name)
			}
		}
	}
	want := "booted modules network ready-for-medium medium-read credentials listeners key-received serving " +
		"medium-read medium-refused listener-closed power-off"
	if got := strings.Join(stages, " "); got != want {
		t.Errorf("its life was\n%s\nwant\n%s", got, want)
	}
	if state, _ := m.State(t.Context()); state != hypervisor.Stopped {
		t.Errorf("it is %s", state)
	}
}

// TestServesAgainAtOnce starts a machine at the address and port of one that has just ended amid a connection.
func TestServesAgainAtOnce(t *testing.T) {
	c := newFakeCloud(t)
	s := newSite(t, c, Config{})
	spec, ip := s.spec(LBVM)
	for turn := range 5 {
		spec.Medium = c.medium(s.dir, spec.ID)
		m := s.start(spec, ip)
		eventually(t, func() error {
			if n := count(t, spec.ConsoleLog, "serving"); n != turn+1 {
				return fmt.Errorf("it served %d times, want %d", n, turn+1)
			}
			return nil
		})
		raw, err := s.network.Dial(t.Context(), spec.ID, lbPort)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		handshake(t, s, spec.ID)
		if err := m.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		readAll(t, m)
		if err := m.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.network.Detach(spec.ID)
	}
	if n := count(t, spec.ConsoleLog, "listener-failed"); n != 0 {
		t.Errorf("its port could not be opened %d times", n)
	}
}

func count(t *testing.T, log, stage string) int {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte(`"stage":"`+stage+`"`))
}

// TestDamagedMedium: what is on a medium is read with the floppy's reader, and one that is damaged ends the guest.
func TestDamagedMedium(t *testing.T) {
	c := newFakeCloud(t)
	s := newSite(t, c, Config{})
	spec, ip := s.spec(LBVM)
	spec.Medium = c.medium(s.dir, spec.ID)
	image, err := os.ReadFile(spec.Medium)
	if err != nil {
		t.Fatal(err)
	}
	const firstTable = 512
	image[firstTable+5] ^= 0xff // the two allocation tables differ
	if err := os.WriteFile(spec.Medium, image, 0o600); err != nil {
		t.Fatal(err)
	}
	m := s.start(spec, ip)
	if text := readAll(t, m); !strings.Contains(text, `"stage":"failed"`) || strings.Contains(text, "medium-read") {
		t.Errorf("its console:\n%s", text)
	}
}

// TestGuestsAreApart: guests of one driver share a process, a stack and a pump, but reach one another by the node's
// network alone, and nobody sees another's medium.
func TestGuestsAreApart(t *testing.T) {
	c := newFakeCloud(t)
	s := newSite(t, c, Config{})
	lbSpec, lbIP := s.spec(LBVM)
	waitSpec, waitIP := s.spec(LBVM)
	webSpec, webIP := s.spec(Web)
	lbSpec.Medium = c.medium(s.dir, lbSpec.ID)
	s.start(waitSpec, waitIP)
	web := s.start(webSpec, webIP).(*machine)
	lb := s.start(lbSpec, lbIP).(*machine)
	awaitStage(t, lbSpec.ConsoleLog, "serving")
	awaitStage(t, webSpec.ConsoleLog, "serving")
	awaitStage(t, waitSpec.ConsoleLog, "ready-for-medium")
	if n := count(t, waitSpec.ConsoleLog, "medium-read"); n != 0 {
		t.Errorf("a guest read the medium in another's drive")
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	target := netip.AddrPortFrom(webIP, 80).String()
	conn, err := s.Driver.network.dial(ctx, lb.nic, target)
	if err != nil {
		t.Fatalf("by the node's network: %v", err)
	}
	_ = conn.Close()
	if _, err := s.Driver.network.listen(lb.nic, ":443"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the same port twice on one guest: %v", err)
	}
	other, err := s.Driver.network.listen(web.nic, ":443")
	if err != nil {
		t.Errorf("a port that another guest has open: %v", err)
	} else {
		_ = other.Close()
	}

	// Off the wire, nothing of what the two share leads from one to the other.
	s.network.Detach(webSpec.ID)
	if _, err := s.Driver.network.dial(ctx, lb.nic, target); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("without the node's network: %v", err)
	}
	if err := lb.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Driver.network.dial(ctx, lb.nic, target); !errors.Is(err, errNoNetwork) {
		t.Errorf("from a guest that ended: %v", err)
	}
	if _, err := s.Driver.network.listen(lb.nic, ":81"); !errors.Is(err, errNoNetwork) {
		t.Errorf("on a guest that ended: %v", err)
	}
}

// TestKillThousand: a thousand guests that wait for their medium, killed, leave nothing.
func TestKillThousand(t *testing.T) {
	c := newFakeCloud(t)
	s := newSite(t, c, Config{})
	const guests = 1000
	before := runtime.NumGoroutine()
	machines := make([]hypervisor.Machine, guests)
	specs := make([]hypervisor.Spec, guests)
	for i := range machines {
		var ip netip.Addr
		specs[i], ip = s.spec(LBVM)
		machines[i] = s.start(specs[i], ip)
	}
	for _, spec := range specs {
		awaitStage(t, spec.ConsoleLog, "ready-for-medium")
	}
	if during := runtime.NumGoroutine(); during < before+guests {
		t.Fatalf("%d goroutines for %d guests: do they run?", during-before, guests)
	}
	for i, m := range machines {
		if err := m.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.network.Detach(specs[i].ID)
	}
	eventually(t, func() error {
		if after := runtime.NumGoroutine(); after > before {
			return fmt.Errorf("%d goroutines are left", after-before)
		}
		return nil
	})
	if left, err := os.ReadDir(s.cfg.Dir); err != nil || len(left) != 0 {
		t.Errorf("records are left: %v %v", left, err)
	}
	if len(s.Driver.network.nics) != 0 {
		t.Errorf("%d addresses are left", len(s.Driver.network.nics))
	}
	for _, l := range s.Driver.network.links {
		if l.addresses != 0 {
			t.Errorf("%d addresses are left on a link", l.addresses)
		}
	}
}
