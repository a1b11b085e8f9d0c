package spoof

import (
	"net"
	"net/netip"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Addresses of the wire (design: guests' network).
var (
	gatewayIP   = netip.MustParseAddr("10.64.0.1")
	metadataIP  = netip.MustParseAddr("169.254.169.254")
	apiIP       = netip.MustParseAddr("169.254.169.253")
	everybodyIP = netip.MustParseAddr("255.255.255.255")
	broadcastIP = netip.MustParseAddr("10.64.255.255") // of the guests' network
	groupIP     = netip.MustParseAddr("224.0.0.251")
	loopbackIP  = netip.MustParseAddr("127.0.0.1")
	noIP        = netip.MustParseAddr("0.0.0.0")
	gatewayMAC  = net.HardwareAddr{2, 0, 10, 64, 0, 1}
	everybody   = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nil6        = make(net.HardwareAddr, 6)
)

// frame serializes layers, with lengths and checksums as they must be.
func frame(parts ...gopacket.SerializableLayer) []byte {
	GinkgoHelper()
	return serialize(gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...)
}

func serialize(how gopacket.SerializeOptions, parts ...gopacket.SerializableLayer) []byte {
	GinkgoHelper()
	for _, part := range parts {
		ip, isIP := part.(*layers.IPv4)
		for _, above := range parts {
			if transport, ok := above.(interface {
				SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
			}); ok && isIP {
				Expect(transport.SetNetworkLayerForChecksum(ip)).To(Succeed())
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	Expect(gopacket.SerializeLayers(b, how, parts...)).To(Succeed())
	return b.Bytes()
}

func ether(from, to net.HardwareAddr, kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: from, DstMAC: to, EthernetType: kind}
}

// toGateway is how a guest's own frames begin.
func toGateway(from net.HardwareAddr) *layers.Ethernet {
	return ether(from, gatewayMAC, layers.EthernetTypeIPv4)
}

func ip4(from, to netip.Addr, protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
}

func icmp(kind, code uint8) *layers.ICMPv4 {
	return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Id: 77}
}

func echo() *layers.ICMPv4 { return icmp(layers.ICMPv4TypeEchoRequest, 0) }

// ping is an echo request, as whoever it pretends to be.
func ping(mac net.HardwareAddr, from, to netip.Addr) []byte {
	GinkgoHelper()
	return frame(toGateway(mac), ip4(from, to, layers.IPProtocolICMPv4), echo(), gopacket.Payload("ping"))
}

// isEcho recognizes the answer to a ping of an address.
func isEcho(from netip.Addr) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		ip, isIP := p.NetworkLayer().(*layers.IPv4)
		answer, isICMP := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		return isIP && isICMP && ip.SrcIP.Equal(from.AsSlice()) && answer.TypeCode.Type() == layers.ICMPv4TypeEchoReply
	}
}

// isPing recognizes a ping itself.
func isPing(from netip.Addr) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		ip, isIP := p.NetworkLayer().(*layers.IPv4)
		asked, isICMP := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		return isIP && isICMP && ip.SrcIP.Equal(from.AsSlice()) && asked.TypeCode.Type() == layers.ICMPv4TypeEchoRequest
	}
}

// synPort is where connections that the frames begin come from; the guests' kernels use others.
const synPort = 1077

func syn(mac net.HardwareAddr, from netip.Addr, to netip.Addr, port layers.TCPPort) []byte {
	GinkgoHelper()
	return frame(toGateway(mac), ip4(from, to, layers.IPProtocolTCP),
		&layers.TCP{SrcPort: synPort, DstPort: port, Seq: 7, SYN: true, Window: 65535})
}

// isAccepted recognizes the answer to a syn.
func isAccepted(from netip.Addr) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		ip, isIP := p.NetworkLayer().(*layers.IPv4)
		segment, isTCP := p.TransportLayer().(*layers.TCP)
		return isIP && isTCP && ip.SrcIP.Equal(from.AsSlice()) && segment.DstPort == synPort && segment.SYN && segment.ACK
	}
}

// speaker is somebody as ARP names him.
type speaker struct {
	mac net.HardwareAddr
	ip  netip.Addr
}

func arp(to net.HardwareAddr, from net.HardwareAddr, operation uint16, sender, target speaker) []byte {
	GinkgoHelper()
	return frame(ether(from, to, layers.EthernetTypeARP), &layers.ARP{AddrType: layers.LinkTypeEthernet,
		Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: sender.mac, SourceProtAddress: sender.ip.AsSlice(),
		DstHwAddress: target.mac, DstProtAddress: target.ip.AsSlice()})
}

// isARPAnswer recognizes the answer to a question for an address.
func isARPAnswer(about netip.Addr) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		answer, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		return ok && answer.Operation == layers.ARPReply && net.IP(answer.SourceProtAddress).Equal(about.AsSlice())
	}
}

func udp(mac net.HardwareAddr, from, to netip.Addr, source, port layers.UDPPort, payload []byte) []byte {
	GinkgoHelper()
	return frame(toGateway(mac), ip4(from, to, layers.IPProtocolUDP), &layers.UDP{SrcPort: source, DstPort: port},
		gopacket.Payload(payload))
}

// isWord recognizes a UDP packet by its payload.
func isWord(word string) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		return p.Layer(layers.LayerTypeUDP) != nil && strings.HasSuffix(string(p.Data()), word)
	}
}

// dhcp is a client's message about a card.
func dhcp(mac net.HardwareAddr, from, to netip.Addr, card net.HardwareAddr, kind layers.DHCPMsgType, current netip.Addr,
	options ...layers.DHCPOption) []byte {
	GinkgoHelper()
	message := &layers.DHCPv4{Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
		Xid: 77, ClientHWAddr: card, ClientIP: current.AsSlice(),
		Options: append(layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)})},
			options...)}
	return frame(toGateway(mac), ip4(from, to, layers.IPProtocolUDP), &layers.UDP{SrcPort: 68, DstPort: 67}, message)
}

// rogueOffer is what a second DHCP server would send: the victim's gateway is to be the attacker.
func rogueOffer() []byte {
	GinkgoHelper()
	message := &layers.DHCPv4{Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
		Xid: 77, ClientHWAddr: victim.mac, YourClientIP: victim.ip.AsSlice(), Options: layers.DHCPOptions{
			layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(layers.DHCPMsgTypeOffer)}),
			layers.NewDHCPOption(layers.DHCPOptServerID, attacker.ip.AsSlice()),
			layers.NewDHCPOption(layers.DHCPOptRouter, attacker.ip.AsSlice())}}
	b := gopacket.NewSerializeBuffer()
	Expect(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, message)).To(Succeed())
	return b.Bytes()
}

// isOffer recognizes the DHCP server's answer with an address.
func isOffer(of netip.Addr) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		d, ok := p.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4)
		return ok && d.Operation == layers.DHCPOpReply && d.YourClientIP.Equal(of.AsSlice())
	}
}

// halves is a ping in two fragments; the first holds so many bytes of it.
func halves(mac net.HardwareAddr, from, to netip.Addr, first int) [][]byte {
	GinkgoHelper()
	whole := frame(echo(), gopacket.Payload("in two fragments, as routers do"))
	head, tail := ip4(from, to, layers.IPProtocolICMPv4), ip4(from, to, layers.IPProtocolICMPv4)
	head.Id, tail.Id = 77, 77
	head.Flags, tail.FragOffset = layers.IPv4MoreFragments, uint16(first/8)
	return [][]byte{frame(toGateway(mac), head, gopacket.Payload(whole[:first])),
		frame(toGateway(mac), tail, gopacket.Payload(whole[first:]))}
}

// ip6 is a packet to all nodes of a link.
func ip6(message *layers.ICMPv6) []byte {
	GinkgoHelper()
	head := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6,
		SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP("ff02::1")}
	Expect(message.SetNetworkLayerForChecksum(head)).To(Succeed())
	return frame(ether(attacker.mac, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, layers.EthernetTypeIPv6), head, message,
		gopacket.Payload(make([]byte, 16)))
}

// tagged is a ping of the attacker's own with a VLAN's tag, or with two.
func tagged(kind layers.EthernetType, vlan uint16) []byte {
	GinkgoHelper()
	tags := []gopacket.SerializableLayer{ether(attacker.mac, gatewayMAC, kind)}
	if kind == layers.EthernetTypeQinQ {
		tags = append(tags, &layers.Dot1Q{VLANIdentifier: vlan, Type: layers.EthernetTypeDot1Q})
	}
	return frame(append(tags, &layers.Dot1Q{VLANIdentifier: vlan, Type: layers.EthernetTypeIPv4},
		ip4(attacker.ip, gatewayIP, layers.IPProtocolICMPv4), echo(), gopacket.Payload("ping"))...)
}

// unreachable is the attacker's word to the victim that a packet of its did not arrive.
func unreachable(about *layers.IPv4) []byte {
	GinkgoHelper()
	return frame(toGateway(attacker.mac), ip4(attacker.ip, victim.ip, layers.IPProtocolICMPv4),
		icmp(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort),
		gopacket.Payload(frame(about, &layers.TCP{SrcPort: 40000, DstPort: 80})[:28]))
}

func isUnreachable(from netip.Addr) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		ip, isIP := p.NetworkLayer().(*layers.IPv4)
		word, isICMP := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		return isIP && isICMP && ip.SrcIP.Equal(from.AsSlice()) &&
			word.TypeCode.Type() == layers.ICMPv4TypeDestinationUnreachable
	}
}
