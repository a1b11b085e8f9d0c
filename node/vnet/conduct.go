package vnet

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// firstFragment is the least that a packet's first fragment holds of its payload: UDP's whole header, TCP's and ICMP's
// beginning. With less its ports could hide in the second one (RFC 1858).
const firstFragment = 8

// notForGuests says why no guest may send a packet even from its own address: what only routers and servers of the
// network send, which here are the node's, and what would be checked as one packet and put together as another.
func notForGuests(ip header.IPv4) drop {
	if sourceRouted(ip) {
		return dropSourceRoute
	}
	if ip.FragmentOffset() != 0 {
		return dropNone
	}
	payload := ip.Payload()
	if ip.More() && len(payload) < firstFragment {
		return dropMalformed
	}
	switch ip.TransportProtocol() {
	case header.ICMPv4ProtocolNumber:
		if forgedICMP(payload, ip.SourceAddress().As4()) {
			return dropICMP
		}
	case header.UDPProtocolNumber:
		if len(payload) >= header.UDPMinimumSize && header.UDP(payload).DestinationPort() == dhcpClientPort {
			return dropSpoofedDHCP // what a DHCP server sends to its clients
		}
	}
	return dropNone
}

// forgedICMP says whether an ICMP message is one that only a router sends, since it changes its receiver's routes
// (RFC 792, RFC 1256), or an error about a packet that was not for the guest: with those, connections of others could
// be ended or slowed down (RFC 5927).
func forgedICMP(message []byte, guest [4]byte) bool {
	const routerAdvertisement, sourceQuench = 9, 4
	if len(message) == 0 {
		return false // for nobody
	}
	kind := header.ICMPv4Type(message[0])
	if kind == header.ICMPv4Redirect || kind == routerAdvertisement {
		return true
	}
	isError := kind == header.ICMPv4DstUnreachable || kind == sourceQuench || kind == header.ICMPv4TimeExceeded ||
		kind == header.ICMPv4ParamProblem
	if !isError {
		return false
	}
	return len(message) < header.ICMPv4MinimumSize+header.IPv4MinimumSize ||
		header.IPv4(message[header.ICMPv4MinimumSize:]).DestinationAddress().As4() != guest
}

// sourceRouted says whether an IP option of the packet names stations to pass (RFC 791): its receiver would answer
// along that route. Options that do not add up count as such.
func sourceRouted(ip header.IPv4) bool {
	const endOfList, noOperation, looseRoute, strictRoute = 0, 1, 131, 137
	for options := ip[header.IPv4MinimumSize:ip.HeaderLength()]; len(options) > 0; {
		switch options[0] {
		case endOfList:
			return false
		case noOperation:
			options = options[1:]
			continue
		case looseRoute, strictRoute:
			return true
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return true
		}
		options = options[options[1]:]
	}
	return false
}
