package vnet

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// alarmed is a port without a wire that notes what is told of it, and when.
type alarmed struct {
	*port

	mu    sync.Mutex
	began time.Time
	at    []time.Duration
	last  map[string]uint64
}

// told returns when somebody was told since it was called last, and what last.
func (a *alarmed) told() (at []time.Duration, last map[string]uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, last = a.at, a.last
	a.began, a.at, a.last = time.Now(), nil, nil
	return at, last
}

func newAlarmed() *alarmed {
	a := &alarmed{began: time.Now()}
	a.port = &port{id: "i-a", net: &Network{cfg: Config{Dropped: func(_ string, reasons map[string]uint64) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.at = append(a.at, time.Since(a.began).Round(time.Millisecond))
		a.last = reasons
	}}}}
	return a
}

func TestDropsAreToldSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlarmed()
		flood := func(d, every time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(every) {
				a.drop(dropSpoofedMAC)
			}
			synctest.Wait()
		}
		flood(20*time.Second, 50*time.Millisecond)
		want := []time.Duration{100 * time.Millisecond, 1100 * time.Millisecond, 3100 * time.Millisecond,
			7100 * time.Millisecond, 15100 * time.Millisecond}
		at, _ := a.told()
		if d := cmp.Diff(want, at); d != "" {
			t.Error(d)
		}
		flood(24*time.Hour, 10*time.Second)
		if at, _ = a.told(); len(at) < 24*6 || len(at) > 24*6+20 {
			t.Errorf("told %d times in a day's flood", len(at))
		}

		time.Sleep(time.Hour) // it behaves
		synctest.Wait()
		a.told()
		a.drop(dropVLAN)
		a.drop(dropVLAN)
		time.Sleep(time.Second)
		synctest.Wait()
		at, last := a.told()
		if d := cmp.Diff([]time.Duration{tellGather}, at); d != "" {
			t.Errorf("after an hour without: %s", d)
		}
		if last["vlan"] != 2 || last["spoofed-mac"] != a.counters.snapshot().SpoofedMAC || len(last) != 2 {
			t.Errorf("told %v", last)
		}
		a.alarm.end(a.port)
	})
}

func TestDropsAreToldAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlarmed()
		a.drop(dropSpoofedARP)
		a.alarm.end(a.port)
		at, last := a.told()
		if d := cmp.Diff(map[string]uint64{"spoofed-arp": 1}, last); d != "" || len(at) != 1 {
			t.Errorf("told %d times: %s", len(at), d)
		}
		a.drop(dropSpoofedARP)
		time.Sleep(time.Hour)
		if at, _ := a.told(); len(at) > 0 {
			t.Error("told of an instance that is gone")
		}
	})
}

// TestTellsOnlyWhatGuestsDid: that a packet is for nobody, or that a guest reads slowly, is no news.
func TestTellsOnlyWhatGuestsDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for why := dropNone + 1; why < dropReasons; why++ {
			a := newAlarmed()
			a.drop(why)
			time.Sleep(time.Second)
			synctest.Wait()
			at, last := a.told()
			fault := why < dropUnreachable
			if told := len(at) == 1; told != fault {
				t.Errorf("reason %d: told %t, want %t", why, told, fault)
			}
			if fault && (len(last) != 1 || last[why.name()] != 1) {
				t.Errorf("reason %d is told as %v", why, last)
			}
			a.alarm.end(a.port)
		}
	})
}
