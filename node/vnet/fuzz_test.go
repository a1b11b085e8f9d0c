package vnet

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// idlePort attaches a guest that never connects, and opens its queue as if it had.
func idlePort(t testing.TB, n *Network, ip netip.Addr) *port {
	t.Helper()
	cfg := PortConfig{InstanceID: ip.String(), MAC: macOf(ip).String(), IP: ip, Socket: "/nonexistent/s"}
	if err := n.Attach(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	p, err := n.port(cfg.InstanceID)
	if err != nil {
		t.Fatal(err)
	}
	p.out.open(nil)
	return p
}

// fuzzPort makes a port that nothing drives: its queue collects what it would send.
func fuzzPort(f *testing.F) (victim, peer *port) {
	f.Helper()
	n := newNetwork(f, Config{})
	ports := make([]*port, 0, 2)
	for _, ip := range []string{"10.64.0.10", "10.64.0.11"} {
		ports = append(ports, idlePort(f, n, netip.MustParseAddr(ip)))
	}
	return ports[0], ports[1]
}

func (p *port) sentFrames() [][]byte {
	pkts, _ := p.out.take(nil)
	var frames [][]byte
	for _, pkt := range pkts {
		frames = append(frames, p.appendFrame(nil, pkt))
		pkt.DecRef()
	}
	return frames
}

// FuzzFrames: no stream of bytes makes the port panic, take up memory without bound, or pass on a packet whose
// source is not the guest's.
func FuzzFrames(f *testing.F) {
	p, peer := fuzzPort(f)
	w := &wire{ip: p.ip, mac: macOf(p.ip)}
	for _, frame := range [][]byte{
		nil,
		w.ipFrame(p.ip, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo()),
		w.ipFrame(p.ip, peer.ip, header.ICMPv4ProtocolNumber, 64, echo()),
		w.ipFrame(p.ip, peer.ip, header.TCPProtocolNumber, 1, make([]byte, 20)),
		w.ipFrame(p.ip, gatewayIP, header.TCPProtocolNumber, 64, make([]byte, 20)),
		w.ipFrame(p.ip, netip.MustParseAddr("192.0.2.1"), header.UDPProtocolNumber, 64, udpPayload(1, 2, nil)),
		w.ipFrame(zeroIP, broadcastIP, header.UDPProtocolNumber, 64, udpPayload(68, 67, discover(w.mac).ToBytes())),
		w.frame(etherARP, arpRequest(w.mac, p.ip, gatewayIP)),
		w.ipFrame(p.ip, peer.ip, header.UDPProtocolNumber, 64, udpPayload(67, 68, nil)),
		w.ipFrame(p.ip, peer.ip, header.ICMPv4ProtocolNumber, 64, icmpOf(header.ICMPv4Redirect, p.ip)),
		withOptions(w.ipFrame(p.ip, peer.ip, header.ICMPv4ProtocolNumber, 64, echo()), 131, 7, 4, 10, 64, 0, 12),
		fragment(w.ipFrame(p.ip, peer.ip, header.UDPProtocolNumber, 64, []byte{0, 67}), true, 0),
		w.frame(etherIPv6, make([]byte, 40)),
		w.frame(etherVLAN, make([]byte, 40)),
	} {
		var b bytes.Buffer
		_ = writeFrame(&b, frame)
		f.Add(b.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 1, 0, 14, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		bounded.Memory(t, len(stream), func() {
			_ = p.readFrames(bytes.NewReader(stream))
			for _, frame := range peer.sentFrames() {
				ip := header.IPv4(frame[etherSize:])
				if ip.SourceAddress().As4() != p.ip4 || ip.DestinationAddress().As4() != peer.ip4 {
					t.Errorf("forwarded from %s to %s", ip.SourceAddress(), ip.DestinationAddress())
				}
				if why := notForGuests(ip); why != dropNone {
					t.Errorf("forwarded what is to be dropped as %s", why.name())
				}
				if len(frame) > etherSize+p.net.cfg.MTU {
					t.Errorf("forwarded %d bytes", len(frame))
				}
			}
			p.sentFrames()
		})
	})
}

// FuzzDHCP: no message makes the server panic, and each answer is for this guest and names no address but its own.
func FuzzDHCP(f *testing.F) {
	p, _ := fuzzPort(f)
	mac := macOf(p.ip)
	f.Add([]byte{})
	f.Add(discover(mac).ToBytes())
	for _, kind := range []dhcpv4.MessageType{
		dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform, dhcpv4.MessageTypeRelease,
	} {
		d := discover(mac)
		d.UpdateOption(dhcpv4.OptMessageType(kind))
		d.UpdateOption(dhcpv4.OptRequestedIPAddress(p.ip.AsSlice()))
		f.Add(d.ToBytes())
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		bounded.Memory(t, len(message), func() {
			p.handleDHCP(message)
			for _, frame := range p.sentFrames() {
				udp := header.UDP(header.IPv4(frame[etherSize:]).Payload())
				answer, err := dhcpv4.FromBytes(udp.Payload())
				if err != nil {
					t.Fatalf("answer does not parse: %v", err)
				}
				if yours := answer.YourIPAddr; !yours.IsUnspecified() && !yours.Equal(p.ip.AsSlice()) {
					t.Errorf("leases %s", yours)
				}
				if !bytes.Equal(answer.ClientHWAddr, mac) {
					t.Errorf("answers %s", answer.ClientHWAddr)
				}
			}
		})
	})
}
