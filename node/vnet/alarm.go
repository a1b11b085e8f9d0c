package vnet

import (
	"sync"
	"sync/atomic"
	"time"
)

// How often an instance's dropped frames are told of.
const (
	// tellGather is how long the first is waited after, so that an attempt of several frames is told as one.
	tellGather = 100 * time.Millisecond
	// While frames go on being dropped the pause doubles, from tellFirst to tellLast. An instance that sent none for
	// twice its pause begins anew.
	tellFirst = time.Second
	tellLast  = 10 * time.Minute
)

// name is the reason as operators read it; empty for what is no fault of a guest.
func (d drop) name() string {
	switch d {
	case dropSpoofedMAC:
		return "spoofed-mac"
	case dropSpoofedIP:
		return "spoofed-ip"
	case dropSpoofedARP:
		return "spoofed-arp"
	case dropSpoofedDHCP:
		return "spoofed-dhcp"
	case dropICMP:
		return "forged-icmp"
	case dropSourceRoute:
		return "source-route"
	case dropIPv6:
		return "ipv6"
	case dropVLAN:
		return "vlan"
	case dropEtherType:
		return "ether-type"
	case dropDestination:
		return "destination"
	case dropMalformed:
		return "malformed"
	case dropOversize:
		return "oversize"
	case dropNone, dropUnreachable, dropDisconnected, dropQueueFull, dropMisrouted, dropImpaired, dropReasons:
	}
	return ""
}

// Dropped returns how many frames of the guest were dropped as none that a guest may send, by reason: spoofed-mac,
// spoofed-ip, spoofed-arp, spoofed-dhcp, forged-icmp, source-route, ipv6, vlan, ether-type, destination, malformed,
// oversize. Reasons without a frame are left out.
func (c *Counters) Dropped() map[string]uint64 {
	reasons := map[string]uint64{}
	for d, n := range map[drop]uint64{
		dropSpoofedMAC: c.SpoofedMAC, dropSpoofedIP: c.SpoofedIP, dropSpoofedARP: c.SpoofedARP,
		dropSpoofedDHCP: c.SpoofedDHCP, dropICMP: c.DroppedICMP, dropSourceRoute: c.DroppedSourceRoute,
		dropIPv6: c.DroppedIPv6, dropVLAN: c.DroppedVLAN, dropEtherType: c.DroppedEtherType,
		dropDestination: c.DroppedDestination, dropMalformed: c.DroppedMalformed, dropOversize: c.DroppedOversize,
	} {
		if n > 0 {
			reasons[d.name()] = n
		}
	}
	return reasons
}

// drop counts a frame of the guest that was not passed on.
func (p *port) drop(why drop) {
	p.counters.drop(why)
	if p.net.cfg.Dropped != nil && why.name() != "" {
		p.alarm.raise(p)
	}
}

// alarm tells of a port's dropped frames without letting the guest decide how often.
type alarm struct {
	raised atomic.Bool // a timer runs already

	mu    sync.Mutex // held while somebody is told, so that nobody is after end
	timer *time.Timer
	pause time.Duration
	told  time.Time // zero: never
	over  bool
}

// raise has somebody told in a while. It is called for each frame, so a flood costs one look at raised.
func (a *alarm) raise(p *port) {
	if a.raised.Load() || !a.raised.CompareAndSwap(false, true) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	wait := tellGather
	if quiet := time.Since(a.told); a.told.IsZero() || quiet > 2*a.pause {
		a.pause = tellFirst
	} else {
		wait = max(a.pause-quiet, tellGather)
		a.pause = min(2*a.pause, tellLast)
	}
	a.timer = time.AfterFunc(wait, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.over {
			a.tell(p)
		}
	})
}

// tell is called with mu held. A frame that is dropped meanwhile raises the alarm again.
func (a *alarm) tell(p *port) {
	a.raised.Store(false)
	a.told = time.Now()
	s := p.counters.snapshot()
	p.net.cfg.Dropped(p.id, s.Dropped())
}

// end tells what was not told yet. No frame of the guest is under way any more.
func (a *alarm) end(p *port) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over = true; a.timer != nil && a.timer.Stop() {
		a.tell(p)
	}
}
