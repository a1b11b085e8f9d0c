package vnet

import (
	"context"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Probe intervals: a guest that boots is asked often enough that its first connection does not wait, and one that
// stays silent costs little.
const (
	probeFirst = 5 * time.Millisecond
	probeLast  = 100 * time.Millisecond
)

// setConnected notes that the guest's connection began or ended. Either way the guest has yet to show that it uses
// its address: behind the same socket may be a machine that boots.
func (p *port) setConnected(yes bool) {
	p.counters.connected.Store(yes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heard.Swap(false) {
		p.answers = make(chan struct{})
	}
	if yes {
		close(p.up)
	} else {
		p.up = make(chan struct{})
	}
}

// hear notes that a frame came from the guest's address. It is called for each.
func (p *port) hear() {
	if p.heard.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.heard.Swap(true) {
		close(p.answers)
	}
}

// waitReachable returns when the guest is connected and uses its address. Without that, a connection's first segment
// would be lost on a guest that boots, and its second comes a second later. The guest is asked by ARP, as a router
// does before it sends to a neighbour that it does not know.
func (p *port) waitReachable(ctx context.Context) error {
	wait := probeFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.mu.Lock()
		up, answers := p.up, p.answers
		p.mu.Unlock()
		select {
		case <-up:
		case <-p.stopped:
			return ErrNotAttached
		case <-ctx.Done():
			return ctx.Err()
		}
		if p.heard.Load() {
			return nil
		}
		select {
		case <-answers:
		case <-timer.C:
			p.probe()
			timer.Reset(wait)
			wait = min(2*wait, probeLast)
		case <-p.stopped:
			return ErrNotAttached
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// probe asks the guest for its MAC, which the node knows, to see whether the guest knows its IP.
func (p *port) probe() {
	request := header.ARP(make([]byte, header.ARPSize))
	request.SetIPv4OverEthernet()
	request.SetOp(header.ARPRequest)
	copy(request.HardwareAddressSender(), p.net.mac)
	copy(request.ProtocolAddressSender(), p.net.cfg.Gateway.AsSlice())
	copy(request.ProtocolAddressTarget(), p.ip4[:])
	p.send(etherARP, request)
}
