package vnet

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// handleARP answers a guest's question for any address but its own with the gateway's MAC: behind it the node
// routes. A guest that probes for its own address (RFC 5227) hears nothing, so it may use it.
func (p *port) handleARP(b []byte) drop {
	if len(b) < header.ARPSize {
		return dropMalformed
	}
	arp := header.ARP(b[:header.ARPSize])
	if !arp.IsValid() {
		return dropMalformed
	}
	sender := [4]byte(arp.ProtocolAddressSender())
	if [6]byte(arp.HardwareAddressSender()) != p.mac || (sender != p.ip4 && sender != [4]byte{}) {
		return dropSpoofedARP
	}
	if sender == p.ip4 {
		p.hear()
	}
	if arp.Op() == header.ARPReply {
		return dropNone // the node keeps no table that a reply could change
	}
	if arp.Op() != header.ARPRequest {
		return dropMalformed
	}
	asked := [4]byte(arp.ProtocolAddressTarget())
	if asked == p.ip4 || asked == [4]byte{} {
		return dropNone
	}
	answer := header.ARP(make([]byte, header.ARPSize))
	answer.SetIPv4OverEthernet()
	answer.SetOp(header.ARPReply)
	copy(answer.HardwareAddressSender(), p.net.mac)
	copy(answer.ProtocolAddressSender(), asked[:])
	copy(answer.HardwareAddressTarget(), p.mac[:])
	copy(answer.ProtocolAddressTarget(), sender[:])
	p.send(etherARP, answer)
	return dropNone
}
