package vnet

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPartition cuts a guest off, in both directions or one, and lets it back.
func TestPartition(t *testing.T) {
	for _, toGuest := range [][]bool{{true}, {false}, {true, false}} {
		n := newNetwork(t, Config{})
		g := newGuest(t, n, "i-a", "10.64.0.10")
		n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
		cut := make(chan struct{})
		once := sync.OnceFunc(func() { close(cut) })
		n.Impair("i-a", func(to bool, _ int) []time.Duration {
			if slices.Contains(toGuest, to) {
				once()
				return nil
			}
			return []time.Duration{0}
		})
		answered := make(chan string, 1)
		go func() {
			got, _ := g.get("http://169.254.169.254/")
			answered <- got
		}()
		<-cut
		select {
		case got := <-answered:
			t.Fatalf("%v: the guest got %q while it was cut off", toGuest, got)
		default:
		}
		n.Impair("i-a", nil)
		// TCP sends again what was lost.
		if got := <-answered; got != "i-a" {
			t.Errorf("%v: the guest got %q afterwards", toGuest, got)
		}
		if c, _ := n.Stats("i-a"); c.DroppedImpaired == 0 {
			t.Errorf("%v: no frame counts as lost", toGuest)
		}
	}
}

// TestBadWire has a guest reach a service although frames are lost, doubled and overtaken.
func TestBadWire(t *testing.T) {
	n := newNetwork(t, Config{})
	fates := [][]time.Duration{{0}, {0, 0}, {2 * time.Millisecond}, {0}, {time.Millisecond, 3 * time.Millisecond},
		{0}, {0}, nil}
	var mu sync.Mutex
	i := 0
	n.Impair("i-a", func(bool, int) []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		i++
		return fates[i%len(fates)]
	})
	g := newGuest(t, n, "i-a", "10.64.0.10") // attached after it was impaired
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	for range 3 {
		if got, err := g.get("http://169.254.169.254/"); err != nil || got != "i-a" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if i == 0 {
		t.Error("the wire was never asked")
	}
}

// TestOtherWires shows that a guest's wire is nobody else's.
func TestOtherWires(t *testing.T) {
	n := newNetwork(t, Config{})
	a, b := newGuest(t, n, "i-a", "10.64.0.10"), newGuest(t, n, "i-b", "10.64.0.11")
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	n.Impair("i-a", func(bool, int) []time.Duration { return nil })
	if got, err := b.get("http://169.254.169.254/"); err != nil || got != "i-b" {
		t.Errorf("got %q, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.dial(ctx, netip.MustParseAddrPort("169.254.169.254:80")); err == nil {
		t.Error("the guest that is cut off got through")
	}
}

func TestLateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l late
		p := &port{}
		var got []string
		begun := time.Now()
		at := func(name string) func() {
			return func() { got = append(got, name+" "+time.Since(begun).String()) }
		}
		dropped := 0
		l.after(p, 2*time.Second, at("c"), nil)
		l.after(p, time.Second, at("a"), nil)
		l.after(p, time.Second, at("b"), nil)
		l.after(p, 0, at("now"), nil)
		l.after(p, time.Hour, at("never"), func() { dropped++ })
		time.Sleep(3 * time.Second)
		synctest.Wait()
		l.end()
		l.after(p, 0, at("never"), func() { dropped++ })
		if diff := cmp.Diff([]string{"now 0s", "a 1s", "b 1s", "c 2s"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if dropped != 2 || p.counters.snapshot().DroppedImpaired != 1 {
			t.Errorf("%d frames were let go of, %d count as lost", dropped, p.counters.snapshot().DroppedImpaired)
		}
	})
}
