package vnet

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The node routes between guests by itself and not through the stack: the stack would look through all interfaces
// for every packet, and lets a packet with a TTL of 1 pass.

// route hands a packet for another guest to that guest's port, its TTL decremented. Whatever is not a guest's
// address is unreachable: no packet leaves for the host's networks.
func (p *port) route(ip header.IPv4, to netip.Addr) drop {
	peer := p.net.table.guest(to)
	if peer == nil {
		code := header.ICMPv4NetUnreachable
		if p.net.cfg.Prefix.Contains(to) {
			code = header.ICMPv4HostUnreachable
		}
		p.sendICMP(header.ICMPv4DstUnreachable, code, ip)
		return dropUnreachable
	}
	if ip.TTL() <= 1 {
		p.sendICMP(header.ICMPv4TimeExceeded, header.ICMPv4TTLExceeded, ip)
		return dropUnreachable
	}
	// The frame lies in this port's read buffer, so its bytes may be changed before they are copied.
	ip.SetTTL(ip.TTL() - 1)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	peer.emit(newPacket(header.IPv4ProtocolNumber, ip))
	return dropNone
}

// sendICMP tells the guest what became of its packet: the packet's header and its first eight bytes go along, by
// which the guest finds the connection (RFC 792). No error is sent about an error or about a later fragment
// (RFC 1122, 3.2.2).
func (p *port) sendICMP(kind header.ICMPv4Type, code header.ICMPv4Code, about header.IPv4) {
	if about.FragmentOffset() != 0 {
		return
	}
	payload := about.Payload()
	if about.TransportProtocol() == header.ICMPv4ProtocolNumber &&
		(len(payload) == 0 || header.ICMPv4Type(payload[0]) != header.ICMPv4Echo) {
		return
	}
	quoted := about[:int(about.HeaderLength())+min(len(payload), 8)]
	b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize+len(quoted))
	icmp := header.ICMPv4(b[header.IPv4MinimumSize:])
	icmp.SetType(kind)
	icmp.SetCode(code)
	copy(icmp[header.ICMPv4MinimumSize:], quoted)
	icmp.SetChecksum(^checksum.Checksum(icmp, 0))
	encodeIPv4(b, p.net.cfg.Gateway, p.ip, header.ICMPv4ProtocolNumber)
	p.send(etherIPv4, b)
}

// encodeIPv4 writes the header of a packet that fills b.
func encodeIPv4(b []byte, from, to netip.Addr, proto tcpip.TransportProtocolNumber) {
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)),
		TTL:         64,
		Protocol:    uint8(proto),
		SrcAddr:     tcpip.AddrFrom4(from.As4()),
		DstAddr:     tcpip.AddrFrom4(to.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
}
