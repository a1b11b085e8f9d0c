package vnet

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// withOptions puts IP options, padded to words, into a frame that ipFrame made.
func withOptions(frame []byte, options ...byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	out := append([]byte{}, frame[:etherSize+header.IPv4MinimumSize]...)
	out = append(append(out, options...), frame[etherSize+header.IPv4MinimumSize:]...)
	ip := header.IPv4(out[etherSize:])
	ip.SetHeaderLength(uint8(header.IPv4MinimumSize + len(options)))
	ip.SetTotalLength(uint16(len(out) - etherSize))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	return out
}

// fragment marks a frame that ipFrame made as a fragment; offset is in bytes.
func fragment(frame []byte, more bool, offset uint16) []byte {
	ip := header.IPv4(frame[etherSize:])
	var flags uint8
	if more {
		flags = header.IPv4FlagMoreFragments
	}
	ip.SetFlagsFragmentOffset(flags, offset)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	return frame
}

// icmpOf is a message that quotes a packet to about.
func icmpOf(kind header.ICMPv4Type, about netip.Addr) []byte {
	b := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize+header.IPv4MinimumSize+8))
	b.SetType(kind)
	header.IPv4(b[header.ICMPv4MinimumSize:]).SetDestinationAddress(tcpip.AddrFrom4(about.As4()))
	b.SetChecksum(header.ICMPv4Checksum(b, 0))
	return b
}

// TestConduct: what a guest sends to its neighbour from its own address, to the byte as it should be, and what among it
// is not passed on. Each reason has the like of it that is.
func TestConduct(t *testing.T) {
	other := netip.MustParseAddr("10.64.0.11")
	n := newNetwork(t, Config{})
	w, peer := attach(t, n, "i-a", "10.64.0.10"), attach(t, n, "i-b", other.String())
	to := func(proto tcpip.TransportProtocolNumber, payload []byte) []byte {
		return w.ipFrame(w.ip, other, proto, 64, payload)
	}
	udp := func(from, port uint16) []byte { return udpPayload(from, port, []byte("payload")) }
	icmp, udpKind := header.ICMPv4ProtocolNumber, header.UDPProtocolNumber
	tests := []struct {
		name  string
		frame []byte
		count func(c *Counters) *uint64 // nil: it is passed on
	}{
		{"ICMP echo", to(icmp, echo()), nil},
		{"ICMP unreachable", to(icmp, icmpOf(header.ICMPv4DstUnreachable, w.ip)), nil},
		{"ICMP redirect", to(icmp, icmpOf(header.ICMPv4Redirect, w.ip)), func(c *Counters) *uint64 { return &c.DroppedICMP }},
		{"ICMP redirect to the gateway", w.ipFrame(w.ip, gatewayIP, icmp, 64, icmpOf(header.ICMPv4Redirect, w.ip)),
			func(c *Counters) *uint64 { return &c.DroppedICMP }},
		{"ICMP router advertisement", to(icmp, icmpOf(9, w.ip)), func(c *Counters) *uint64 { return &c.DroppedICMP }},
		{"ICMP unreachable about another's packet", to(icmp, icmpOf(header.ICMPv4DstUnreachable, gatewayIP)),
			func(c *Counters) *uint64 { return &c.DroppedICMP }},
		{"ICMP unreachable to the node about another's packet",
			w.ipFrame(w.ip, gatewayIP, icmp, 64, icmpOf(header.ICMPv4DstUnreachable, other)),
			func(c *Counters) *uint64 { return &c.DroppedICMP }},
		{"ICMP time exceeded about another's packet", to(icmp, icmpOf(header.ICMPv4TimeExceeded, gatewayIP)),
			func(c *Counters) *uint64 { return &c.DroppedICMP }},
		{"ICMP unreachable about no packet", to(icmp, icmpOf(header.ICMPv4DstUnreachable, w.ip)[:27]),
			func(c *Counters) *uint64 { return &c.DroppedICMP }},
		{"UDP", to(udpKind, udp(67, 69)), nil},
		{"a DHCP server's offer to a neighbour", to(udpKind, udp(67, 68)),
			func(c *Counters) *uint64 { return &c.SpoofedDHCP }},
		{"a DHCP server's offer from another port", to(udpKind, udp(1067, 68)),
			func(c *Counters) *uint64 { return &c.SpoofedDHCP }},
		{"a DHCP server's offer to everybody", w.ipFrame(w.ip, broadcastIP, udpKind, 64, udp(67, 68)),
			func(c *Counters) *uint64 { return &c.SpoofedDHCP }},
		{"no operation", withOptions(to(icmp, echo()), 1, 1, 1, 1), nil},
		{"record route", withOptions(to(icmp, echo()), 7, 7, 4, 0, 0, 0, 0), nil},
		{"what follows the end of the options", withOptions(to(icmp, echo()), 0, 131, 0, 0), nil},
		{"loose source route", withOptions(to(icmp, echo()), 131, 7, 4, 10, 64, 0, 12),
			func(c *Counters) *uint64 { return &c.DroppedSourceRoute }},
		{"strict source route", withOptions(to(icmp, echo()), 1, 137, 7, 4, 10, 64, 0, 12),
			func(c *Counters) *uint64 { return &c.DroppedSourceRoute }},
		{"source route to the gateway", withOptions(w.ipFrame(w.ip, gatewayIP, icmp, 64, echo()), 131, 7, 4, 10, 64, 0, 12),
			func(c *Counters) *uint64 { return &c.DroppedSourceRoute }},
		{"option of no length", withOptions(to(icmp, echo()), 7, 0, 0, 0),
			func(c *Counters) *uint64 { return &c.DroppedSourceRoute }},
		{"option that is too long", withOptions(to(icmp, echo()), 7, 9, 4, 0),
			func(c *Counters) *uint64 { return &c.DroppedSourceRoute }},
		{"first fragment", fragment(to(udpKind, udp(1, 2)), true, 0), nil},
		{"later fragment", fragment(to(udpKind, []byte{1, 2, 3}), false, 8), nil},
		{"first fragment of an offer", fragment(to(udpKind, udp(67, 68)), true, 0),
			func(c *Counters) *uint64 { return &c.SpoofedDHCP }},
		{"first fragment without ports", fragment(to(udpKind, []byte{0, 67}), true, 0),
			func(c *Counters) *uint64 { return &c.DroppedMalformed }},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			before, _ := n.Stats("i-a")
			w.send(tc.frame)
			if tc.count == nil {
				if got := header.IPv4(peer.receive()[etherSize:]); got.SourceAddress().As4() != w.ip.As4() {
					t.Errorf("passed on as % x", []byte(got))
				}
			}
			w.ping()
			peer.ping() // so nothing else came to it
			after, _ := n.Stats("i-a")
			want, got := before.Dropped(), after.Dropped()
			if tc.count != nil {
				changed := before
				*tc.count(&changed)++
				want = changed.Dropped()
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestLeasesOfOthers: giving back somebody else's address is a pretence; one's own is everybody's right.
func TestLeasesOfOthers(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	other := netip.MustParseAddr("10.64.0.11").AsSlice()
	mine := w.ip.AsSlice()
	tests := []struct {
		name    string
		kind    dhcpv4.MessageType
		change  dhcpv4.Modifier
		spoofed uint64
	}{
		{"release of one's own", dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(mine), 0},
		{"release of another's", dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(other), 1},
		{"decline of one's own", dhcpv4.MessageTypeDecline, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(mine)), 0},
		{"decline of another's", dhcpv4.MessageTypeDecline, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(other)), 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m, err := dhcpv4.New(dhcpv4.WithMessageType(tc.kind), dhcpv4.WithHwAddr(w.mac), tc.change)
			if err != nil {
				t.Fatal(err)
			}
			before, _ := n.Stats("i-a")
			w.send(w.ipFrame(w.ip, gatewayIP, header.UDPProtocolNumber, 64, udpPayload(68, 67, m.ToBytes())))
			w.ping()
			if after, _ := n.Stats("i-a"); after.SpoofedDHCP-before.SpoofedDHCP != tc.spoofed {
				t.Errorf("counted %d as forged, want %d", after.SpoofedDHCP-before.SpoofedDHCP, tc.spoofed)
			}
		})
	}
	t.Run("another's client id gets one's own address", func(t *testing.T) {
		d := discover(w.mac)
		d.UpdateOption(dhcpv4.OptClientIdentifier(append([]byte{1}, macOf(netip.MustParseAddr("10.64.0.11"))...)))
		if offer, _ := w.ask(zeroIP, broadcastIP, d); !offer.YourIPAddr.Equal(mine) {
			t.Errorf("offered %s", offer.YourIPAddr)
		}
	})
}

// TestICMPErrorThatIsCut: what follows a packet in the port's buffer is none of it, even if it would make it good.
func TestICMPErrorThatIsCut(t *testing.T) {
	guest := netip.MustParseAddr("10.64.0.10")
	whole := icmpOf(header.ICMPv4DstUnreachable, guest)
	const quoted = header.ICMPv4MinimumSize + header.IPv4MinimumSize
	for _, tc := range []struct {
		name   string
		length int
		forged bool
	}{{"whole", len(whole), false}, {"just the header quoted", quoted, false}, {"a byte less", quoted - 1, true}} {
		t.Run(tc.name, func(t *testing.T) {
			if got := forgedICMP(whole[:tc.length], guest.As4()); got != tc.forged {
				t.Errorf("forged %t, want %t", got, tc.forged)
			}
		})
	}
}
