package vnet

import "sync/atomic"

// drop is why a frame or packet was not passed on.
type drop int

// The reasons. Those from dropSpoofedMAC to dropSpoofedDHCP are a guest's pretence to be another.
const (
	dropNone drop = iota
	dropMalformed
	dropOversize
	dropSpoofedMAC
	dropSpoofedIP
	dropSpoofedARP
	dropSpoofedDHCP
	dropICMP
	dropSourceRoute
	dropIPv6
	dropVLAN
	dropEtherType
	dropDestination
	dropUnreachable
	dropDisconnected
	dropQueueFull
	dropMisrouted
	dropImpaired
	dropReasons // how many there are
)

// Counters are a port's since Attach. Received means from the guest, sent means to it; bytes are those of whole
// Ethernet frames.
type Counters struct {
	ReceivedFrames, ReceivedBytes uint64
	SentFrames, SentBytes         uint64

	Connected bool   // the guest's socket is connected now
	Connects  uint64 // how often it was

	// Frames of the guest that were dropped.
	DroppedSpoofed     uint64 // the sum of the next four
	SpoofedMAC         uint64 // source MAC is not the guest's
	SpoofedIP          uint64 // source IP is not the guest's
	SpoofedARP         uint64 // sender in an ARP packet is not the guest
	SpoofedDHCP        uint64 // for another client, of another's lease, or a server's message
	DroppedICMP        uint64 // that only a router sends, or an error about another's packet
	DroppedSourceRoute uint64 // with an IP option that chooses its route
	DroppedMalformed   uint64 // a header that does not add up
	DroppedOversize    uint64 // longer than the MTU allows
	DroppedIPv6        uint64
	DroppedVLAN        uint64 // with a VLAN tag
	DroppedEtherType   uint64 // neither IPv4 nor ARP
	DroppedDestination uint64 // to a group, to itself, to a MAC that is not here
	// Packets for nobody: answered with ICMP.
	Unreachable uint64

	// Packets to the guest that were dropped.
	DroppedDisconnected uint64 // it was not connected
	DroppedQueueFull    uint64 // it did not read fast enough
	DroppedMisrouted    uint64 // to another's address; should stay 0

	// Frames of both directions that an impaired wire lost (Network.Impair).
	DroppedImpaired uint64
}

type counters struct {
	rxFrames, rxBytes, txFrames, txBytes, connects atomic.Uint64
	connected                                      atomic.Bool
	drops                                          [dropReasons]atomic.Uint64
}

func (c *counters) received(n int) {
	c.rxFrames.Add(1)
	c.rxBytes.Add(uint64(n))
}

func (c *counters) sent(n int) {
	c.txFrames.Add(1)
	c.txBytes.Add(uint64(n))
}

func (c *counters) drop(why drop) { c.drops[why].Add(1) }

// Stats returns the counters of an attached instance's port.
func (n *Network) Stats(instanceID string) (Counters, bool) {
	p, err := n.port(instanceID)
	if err != nil {
		return Counters{}, false
	}
	return p.counters.snapshot(), true
}

func (c *counters) snapshot() Counters {
	s := Counters{
		ReceivedFrames: c.rxFrames.Load(), ReceivedBytes: c.rxBytes.Load(),
		SentFrames: c.txFrames.Load(), SentBytes: c.txBytes.Load(),
		Connected: c.connected.Load(), Connects: c.connects.Load(),
		SpoofedMAC: c.drops[dropSpoofedMAC].Load(), SpoofedIP: c.drops[dropSpoofedIP].Load(),
		SpoofedARP: c.drops[dropSpoofedARP].Load(), SpoofedDHCP: c.drops[dropSpoofedDHCP].Load(),
		DroppedICMP: c.drops[dropICMP].Load(), DroppedSourceRoute: c.drops[dropSourceRoute].Load(),
		DroppedMalformed: c.drops[dropMalformed].Load(), DroppedOversize: c.drops[dropOversize].Load(),
		DroppedIPv6: c.drops[dropIPv6].Load(), DroppedVLAN: c.drops[dropVLAN].Load(),
		DroppedEtherType: c.drops[dropEtherType].Load(), DroppedDestination: c.drops[dropDestination].Load(),
		Unreachable:         c.drops[dropUnreachable].Load(),
		DroppedDisconnected: c.drops[dropDisconnected].Load(),
		DroppedQueueFull:    c.drops[dropQueueFull].Load(), DroppedMisrouted: c.drops[dropMisrouted].Load(),
		DroppedImpaired: c.drops[dropImpaired].Load(),
	}
	s.DroppedSpoofed = s.SpoofedMAC + s.SpoofedIP + s.SpoofedARP + s.SpoofedDHCP
	return s
}
