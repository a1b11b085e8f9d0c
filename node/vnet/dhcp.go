package vnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	dhcpServerPort = 67
	dhcpClientPort = 68
	// leaseTime is as long as no guest should have to renew: an address is the instance's for life.
	leaseTime = 30 * 24 * time.Hour
)

// dhcpRequest returns the DHCP message in a packet that goes to the node's DHCP server, or nil.
func (p *port) dhcpRequest(ip header.IPv4, to netip.Addr) []byte {
	if ip.TransportProtocol() != header.UDPProtocolNumber || ip.More() || ip.FragmentOffset() != 0 {
		return nil
	}
	if to != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && to != p.net.cfg.Gateway {
		return nil
	}
	udp := header.UDP(ip.Payload())
	if len(udp) < header.UDPMinimumSize || udp.DestinationPort() != dhcpServerPort {
		return nil
	}
	size := int(udp.Length())
	if size < header.UDPMinimumSize || size > len(udp) {
		return nil
	}
	return udp[header.UDPMinimumSize:size]
}

// handleDHCP answers a guest's DHCP message. There is nothing to allocate: the port knows its one address.
func (p *port) handleDHCP(b []byte) drop {
	request, err := dhcpv4.FromBytes(b)
	if err != nil || request.OpCode != dhcpv4.OpcodeBootRequest || request.HWType != iana.HWTypeEthernet {
		return dropMalformed
	}
	if len(request.ClientHWAddr) != 6 || [6]byte(request.ClientHWAddr) != p.mac {
		return dropSpoofedDHCP
	}
	answer, why := p.dhcpAnswer(request)
	if answer == nil {
		return why
	}
	to := p.ip
	if request.IsBroadcast() || answer.MessageType() == dhcpv4.MessageTypeNak {
		to = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	p.send(etherIPv4, encodeUDP(p.net.cfg.Gateway, to, answer.ToBytes()))
	return dropNone
}

// dhcpAnswer makes the answer, or nil when there is none to give.
func (p *port) dhcpAnswer(request *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, drop) {
	gateway := p.net.cfg.Gateway.AsSlice()
	if chosen := request.ServerIdentifier(); chosen != nil && !chosen.Equal(gateway) {
		return nil, dropNone // meant for another server
	}
	kind := dhcpv4.MessageTypeAck
	lease := true
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		if asked := askedAddress(request); asked != p.ip {
			kind = dhcpv4.MessageTypeNak
		}
	case dhcpv4.MessageTypeInform:
		lease = false
	case dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease:
		if named := askedAddress(request); named.IsValid() && !named.IsUnspecified() && named != p.ip {
			return nil, dropSpoofedDHCP
		}
		return nil, dropNone
	default:
		return nil, dropMalformed
	}
	answer, err := dhcpv4.NewReplyFromRequest(request,
		dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)))
	if err != nil {
		return nil, dropMalformed
	}
	if kind == dhcpv4.MessageTypeNak {
		return answer, dropNone
	}
	answer.ServerIPAddr = gateway
	for _, opt := range p.dhcpOptions() {
		answer.UpdateOption(opt)
	}
	if lease {
		answer.YourIPAddr = p.ip.AsSlice()
		answer.UpdateOption(dhcpv4.OptIPAddressLeaseTime(leaseTime))
	}
	return answer, dropNone
}

// askedAddress is the address that a request wants confirmed, or a release gives back: an option while the client has
// none, the client's own address when it renews (RFC 2131, 4.3.2).
func askedAddress(request *dhcpv4.DHCPv4) netip.Addr {
	asked := request.RequestedIPAddress()
	if asked == nil {
		asked = request.ClientIPAddr
	}
	a, _ := netip.AddrFromSlice(asked.To4())
	return a
}

// dhcpOptions are a guest's settings. Its network is itself alone, so that it sends everything to the gateway, also
// what is for its neighbours; the classless routes (RFC 3442) say how to reach a gateway outside one's network.
func (p *port) dhcpOptions() []dhcpv4.Option {
	gateway := net.IP(p.net.cfg.Gateway.AsSlice())
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	opts := []dhcpv4.Option{
		dhcpv4.OptSubnetMask(net.CIDRMask(32, 32)),
		dhcpv4.OptRouter(gateway),
		dhcpv4.OptDNS(gateway),
		dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}, Router: net.IPv4zero.To4()},
			&dhcpv4.Route{Dest: all, Router: gateway}),
		dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU,
			binary.BigEndian.AppendUint16(nil, uint16(p.net.cfg.MTU))),
	}
	if p.hostname != "" {
		opts = append(opts, dhcpv4.OptHostName(p.hostname))
	}
	return opts
}

// encodeUDP makes a packet from the DHCP server to the client's port.
func encodeUDP(from, to netip.Addr, payload []byte) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.UDPMinimumSize+len(payload))
	udp := header.UDP(b[header.IPv4MinimumSize:])
	udp.Encode(&header.UDPFields{
		SrcPort: dhcpServerPort, DstPort: dhcpClientPort,
		Length: uint16(len(udp)),
	})
	copy(udp[header.UDPMinimumSize:], payload)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber,
		tcpip.AddrFrom4(from.As4()), tcpip.AddrFrom4(to.As4()), uint16(len(udp)))
	udp.SetChecksum(^checksum.Checksum(udp, sum))
	encodeIPv4(b, from, to, header.UDPProtocolNumber)
	return b
}
