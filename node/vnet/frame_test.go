package vnet

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var (
	broadcastIP = netip.MustParseAddr("255.255.255.255")
	zeroIP      = netip.MustParseAddr("0.0.0.0")
)

func udpPayload(from, to uint16, payload []byte) []byte {
	b := header.UDP(make([]byte, header.UDPMinimumSize+len(payload)))
	b.Encode(&header.UDPFields{SrcPort: from, DstPort: to, Length: uint16(len(b))})
	copy(b.Payload(), payload)
	return b
}

func arpRequest(mac net.HardwareAddr, sender, target netip.Addr) []byte {
	b := header.ARP(make([]byte, header.ARPSize))
	b.SetIPv4OverEthernet()
	b.SetOp(header.ARPRequest)
	copy(b.HardwareAddressSender(), mac)
	copy(b.ProtocolAddressSender(), sender.AsSlice())
	copy(b.ProtocolAddressTarget(), target.AsSlice())
	return b
}

func TestARP(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	tests := []struct {
		name           string
		sender, target netip.Addr
		answered       bool
	}{
		{"gateway", w.ip, gatewayIP, true},
		{"metadata service", w.ip, imdsAddr.Addr(), true},
		{"another guest", w.ip, netip.MustParseAddr("10.64.0.11"), true},
		{"probe for another's address", zeroIP, netip.MustParseAddr("10.64.0.11"), true},
		{"probe for its own address", zeroIP, w.ip, false},
		{"announcement", w.ip, w.ip, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := w.frame(etherARP, arpRequest(w.mac, tc.sender, tc.target))
			copy(f, broadcastMAC[:])
			w.send(f)
			if !tc.answered {
				w.ping()
				return
			}
			got := w.receive()
			a := header.ARP(got[etherSize:])
			if a.Op() != header.ARPReply || !bytes.Equal(a.HardwareAddressSender(), gatewayMAC(gatewayIP)) ||
				!bytes.Equal(a.ProtocolAddressSender(), tc.target.AsSlice()) || !bytes.Equal(got[:6], w.mac) {
				t.Errorf("answer % x", got)
			}
		})
	}
	if s, _ := n.Stats("i-a"); s.DroppedSpoofed != 0 {
		t.Errorf("%d frames taken for forged", s.DroppedSpoofed)
	}
}

// TestForged sends all that a guest may not send. Nothing is answered, nothing reaches another guest, and each frame
// is counted for its reason.
func TestForged(t *testing.T) {
	other := netip.MustParseAddr("10.64.0.11")
	tests := []struct {
		name  string
		frame func(w *wire) []byte
		count func(c *Counters) *uint64
	}{
		{"another's MAC", func(w *wire) []byte {
			f := w.ipFrame(w.ip, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo())
			copy(f[6:], macOf(other))
			return f
		}, func(c *Counters) *uint64 { return &c.SpoofedMAC }},
		{"another's IP", func(w *wire) []byte {
			return w.ipFrame(other, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo())
		}, func(c *Counters) *uint64 { return &c.SpoofedIP }},
		{"another's IP and MAC", func(w *wire) []byte {
			f := w.ipFrame(other, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo())
			copy(f[6:], macOf(other))
			return f
		}, func(c *Counters) *uint64 { return &c.SpoofedMAC }},
		{"gateway's IP", func(w *wire) []byte {
			return w.ipFrame(gatewayIP, other, header.ICMPv4ProtocolNumber, 64, echo())
		}, func(c *Counters) *uint64 { return &c.SpoofedIP }},
		{"no IP", func(w *wire) []byte {
			return w.ipFrame(zeroIP, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo())
		}, func(c *Counters) *uint64 { return &c.SpoofedIP }},
		{"no IP to another's DHCP port", func(w *wire) []byte {
			return w.ipFrame(zeroIP, other, header.UDPProtocolNumber, 64, udpPayload(68, 67, nil))
		}, func(c *Counters) *uint64 { return &c.SpoofedIP }},
		{"DHCP from another's IP", func(w *wire) []byte {
			return w.ipFrame(other, broadcastIP, header.UDPProtocolNumber, 64, udpPayload(68, 67, discover(w.mac).ToBytes()))
		}, func(c *Counters) *uint64 { return &c.SpoofedIP }},
		{"DHCP for another's MAC", func(w *wire) []byte {
			return w.ipFrame(
				zeroIP,
				broadcastIP,
				header.UDPProtocolNumber,
				64,
				udpPayload(68, 67, discover(macOf(other)).ToBytes()),
			)
		}, func(c *Counters) *uint64 { return &c.SpoofedDHCP }},
		{"DHCP fragment without IP", func(w *wire) []byte {
			f := w.ipFrame(zeroIP, broadcastIP, header.UDPProtocolNumber, 64, udpPayload(68, 67, discover(w.mac).ToBytes()))
			ip := header.IPv4(f[etherSize:])
			ip.SetFlagsFragmentOffset(header.IPv4FlagMoreFragments, 0)
			ip.SetChecksum(0)
			ip.SetChecksum(^ip.CalculateChecksum())
			return f
		}, func(c *Counters) *uint64 { return &c.SpoofedIP }},
		{"ARP with another's IP", func(w *wire) []byte {
			return w.frame(etherARP, arpRequest(w.mac, other, gatewayIP))
		}, func(c *Counters) *uint64 { return &c.SpoofedARP }},
		{"ARP with another's MAC", func(w *wire) []byte {
			return w.frame(etherARP, arpRequest(macOf(other), w.ip, gatewayIP))
		}, func(c *Counters) *uint64 { return &c.SpoofedARP }},
		{"ARP answer for another", func(w *wire) []byte {
			a := arpRequest(w.mac, other, gatewayIP)
			header.ARP(a).SetOp(header.ARPReply)
			return w.frame(etherARP, a)
		}, func(c *Counters) *uint64 { return &c.SpoofedARP }},
		{"IPv6", func(w *wire) []byte {
			return w.frame(etherIPv6, make([]byte, 40))
		}, func(c *Counters) *uint64 { return &c.DroppedIPv6 }},
		{"VLAN tag", func(w *wire) []byte {
			inner := w.ipFrame(w.ip, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo())
			return w.frame(etherVLAN, append([]byte{0, 1}, inner[12:]...))
		}, func(c *Counters) *uint64 { return &c.DroppedVLAN }},
		{"double VLAN tag", func(w *wire) []byte {
			return w.frame(etherQinQ, make([]byte, 46))
		}, func(c *Counters) *uint64 { return &c.DroppedVLAN }},
		{"LLDP", func(w *wire) []byte {
			return w.frame(0x88cc, make([]byte, 46))
		}, func(c *Counters) *uint64 { return &c.DroppedEtherType }},
		{"length instead of a type", func(w *wire) []byte {
			return w.frame(100, make([]byte, 100))
		}, func(c *Counters) *uint64 { return &c.DroppedEtherType }},
		{"to another's MAC", func(w *wire) []byte {
			f := w.ipFrame(w.ip, other, header.ICMPv4ProtocolNumber, 64, echo())
			copy(f, macOf(other))
			return f
		}, func(c *Counters) *uint64 { return &c.DroppedDestination }},
		{"to a group", func(w *wire) []byte {
			return w.ipFrame(w.ip, netip.MustParseAddr("224.0.0.1"), header.ICMPv4ProtocolNumber, 64, echo())
		}, func(c *Counters) *uint64 { return &c.DroppedDestination }},
		{"to everybody", func(w *wire) []byte {
			return w.ipFrame(w.ip, netip.MustParseAddr("10.64.255.255"), header.ICMPv4ProtocolNumber, 64, echo())
		}, func(c *Counters) *uint64 { return &c.DroppedDestination }},
		{"to the host's loopback", func(w *wire) []byte {
			return w.ipFrame(w.ip, netip.MustParseAddr("127.0.0.1"), header.ICMPv4ProtocolNumber, 64, echo())
		}, func(c *Counters) *uint64 { return &c.DroppedDestination }},
		{"to itself", func(w *wire) []byte {
			return w.ipFrame(w.ip, w.ip, header.ICMPv4ProtocolNumber, 64, echo())
		}, func(c *Counters) *uint64 { return &c.DroppedDestination }},
		{"short frame", func(*wire) []byte { return make([]byte, 13) },
			func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"empty frame", func(*wire) []byte { return nil },
			func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"short IP header", func(w *wire) []byte { return w.frame(etherIPv4, make([]byte, 19)) },
			func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"IP longer than the frame", func(w *wire) []byte {
			f := w.ipFrame(w.ip, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo())
			return f[:len(f)-1]
		}, func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"bad IP checksum", func(w *wire) []byte {
			f := w.ipFrame(w.ip, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo())
			f[etherSize+10] ^= 1
			return f
		}, func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"short ARP", func(w *wire) []byte { return w.frame(etherARP, make([]byte, 27)) },
			func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"ARP for IPX", func(w *wire) []byte {
			a := arpRequest(w.mac, w.ip, gatewayIP)
			a[2] = 0x81
			return w.frame(etherARP, a)
		}, func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"DHCP answer", func(w *wire) []byte {
			d := discover(w.mac)
			d.OpCode = dhcpv4.OpcodeBootReply
			return w.ipFrame(zeroIP, broadcastIP, header.UDPProtocolNumber, 64, udpPayload(68, 67, d.ToBytes()))
		}, func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"DHCP noise", func(w *wire) []byte {
			return w.ipFrame(zeroIP, broadcastIP, header.UDPProtocolNumber, 64, udpPayload(68, 67, []byte("noise")))
		}, func(c *Counters) *uint64 { return &c.DroppedMalformed }},
		{"longer than the MTU", func(w *wire) []byte {
			return w.ipFrame(w.ip, gatewayIP, header.ICMPv4ProtocolNumber, 64, make([]byte, 1481))
		}, func(c *Counters) *uint64 { return &c.DroppedOversize }},
	}
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	peer := attach(t, n, "i-b", other.String())
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			before, _ := n.Stats("i-a")
			w.send(tc.frame(w))
			w.ping()
			after, _ := n.Stats("i-a")
			want := before
			*tc.count(&want)++
			want.DroppedSpoofed = want.SpoofedMAC + want.SpoofedIP + want.SpoofedARP + want.SpoofedDHCP
			want.ReceivedFrames, want.ReceivedBytes = after.ReceivedFrames, after.ReceivedBytes
			want.SentFrames, want.SentBytes = before.SentFrames+1, after.SentBytes // the ping's answer
			if d := cmp.Diff(want, after); d != "" {
				t.Error(d)
			}
		})
	}
	peer.ping() // the first thing it ever received
}

// TestAnnouncementOfAForkIsNoForgery sends what QEMU does, of itself, for each machine that took over another's state.
func TestAnnouncementOfAForkIsNoForgery(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	peer := attach(t, n, "i-b", "10.64.0.11")
	announcement := w.frame(etherRARP, make([]byte, 46))
	copy(announcement, broadcastMAC[:])
	before, _ := n.Stats("i-a")
	w.send(announcement)
	w.ping()
	if after, _ := n.Stats("i-a"); after.ReceivedFrames != before.ReceivedFrames+2 || len(after.Dropped()) > 0 {
		t.Errorf("counters %+v", after)
	}
	peer.ping() // the first thing it ever received
}

func TestRouting(t *testing.T) {
	n := newNetwork(t, Config{})
	a, b := attach(t, n, "i-a", "10.64.0.10"), attach(t, n, "i-b", "10.64.0.11")

	a.send(a.ipFrame(a.ip, b.ip, header.ICMPv4ProtocolNumber, 64, echo()))
	got := b.receive()
	ip := header.IPv4(got[etherSize:])
	if ip.TTL() != 63 || !ip.IsChecksumValid() || ip.SourceAddress().As4() != a.ip.As4() ||
		!bytes.Equal(got[:6], b.mac) || !bytes.Equal(got[6:12], gatewayMAC(gatewayIP)) {
		t.Errorf("forwarded frame % x", got)
	}

	tests := []struct {
		name    string
		to      netip.Addr
		ttl     uint8
		payload []byte
		kind    header.ICMPv4Type
		code    header.ICMPv4Code
	}{
		{"last hop", b.ip, 1, echo(), header.ICMPv4TimeExceeded, header.ICMPv4TTLExceeded},
		{"no hop", b.ip, 0, echo(), header.ICMPv4TimeExceeded, header.ICMPv4TTLExceeded},
		{
			"no such guest",
			netip.MustParseAddr("10.64.1.1"),
			64,
			echo(),
			header.ICMPv4DstUnreachable,
			header.ICMPv4HostUnreachable,
		},
		{"outside", netip.MustParseAddr("192.0.2.1"), 64, echo(), header.ICMPv4DstUnreachable, header.ICMPv4NetUnreachable},
		{
			"short payload",
			netip.MustParseAddr("192.0.2.1"),
			64,
			echo()[:1],
			header.ICMPv4DstUnreachable,
			header.ICMPv4NetUnreachable,
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			sent := a.ipFrame(a.ip, tc.to, header.ICMPv4ProtocolNumber, tc.ttl, tc.payload)
			a.send(sent)
			ip := header.IPv4(a.receive()[etherSize:])
			icmp := header.ICMPv4(ip.Payload())
			if icmp.Type() != tc.kind || icmp.Code() != tc.code || !ip.IsChecksumValid() ||
				ip.SourceAddress().As4() != gatewayIP.As4() {
				t.Errorf("answer type %d code %d: % x", icmp.Type(), icmp.Code(), []byte(ip))
			}
			if quoted := icmp.Payload(); !bytes.HasPrefix(sent[etherSize:], quoted) || len(quoted) < header.IPv4MinimumSize {
				t.Errorf("quoted % x of % x", quoted, sent[etherSize:])
			}
			if want := header.ICMPv4Checksum(icmp, 0); icmp.Checksum() != want {
				t.Errorf("checksum %x, want %x", icmp.Checksum(), want)
			}
		})
	}
	t.Run("no name server", func(t *testing.T) {
		a.send(a.ipFrame(a.ip, gatewayIP, header.UDPProtocolNumber, 64, udpPayload(1000, 53, []byte("query"))))
		icmp := header.ICMPv4(header.IPv4(a.receive()[etherSize:]).Payload())
		if icmp.Type() != header.ICMPv4DstUnreachable || icmp.Code() != header.ICMPv4PortUnreachable {
			t.Errorf("answer type %d code %d", icmp.Type(), icmp.Code())
		}
	})
	t.Run("no error about an error", func(*testing.T) {
		e := echo()
		header.ICMPv4(e).SetType(header.ICMPv4DstUnreachable)
		a.send(a.ipFrame(a.ip, netip.MustParseAddr("192.0.2.1"), header.ICMPv4ProtocolNumber, 64, e))
		a.ping()
	})
	t.Run("no error about a later fragment", func(*testing.T) {
		f := a.ipFrame(a.ip, netip.MustParseAddr("192.0.2.1"), header.UDPProtocolNumber, 64, make([]byte, 16))
		ip := header.IPv4(f[etherSize:])
		ip.SetFlagsFragmentOffset(0, 64)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		a.send(f)
		a.ping()
	})
}

// TestBrokenStream: after a length that no frame has, the node hangs up, and a new connection works.
func TestBrokenStream(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	w.ping()
	if _, err := w.conn.Write(binary.BigEndian.AppendUint32(nil, maxFrame+1)); err != nil {
		t.Fatal(err)
	}
	if b, err := w.r.ReadByte(); err == nil {
		t.Fatalf("read %x after a broken length", b)
	}
	w.accept()
	w.ping()
	if s, _ := n.Stats("i-a"); s.DroppedOversize != 1 || s.Connects != 2 {
		t.Errorf("oversize %d, connects %d", s.DroppedOversize, s.Connects)
	}
}

func TestBroadcastOf(t *testing.T) {
	tests := []struct{ prefix, want string }{
		{"10.64.0.0/16", "10.64.255.255"},
		{"192.168.1.64/26", "192.168.1.127"},
		{"10.0.0.0/8", "10.255.255.255"},
	}
	for _, tc := range tests {
		if got := broadcastOf(netip.MustParsePrefix(tc.prefix)); got.String() != tc.want {
			t.Errorf("broadcast of %s is %s, want %s", tc.prefix, got, tc.want)
		}
	}
}
