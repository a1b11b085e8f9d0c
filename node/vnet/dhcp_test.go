package vnet

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func discover(mac net.HardwareAddr) *dhcpv4.DHCPv4 {
	d, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		panic(err)
	}
	return d
}

// ask sends a DHCP message and returns the answer with the address it was sent to.
func (w *wire) ask(from, to netip.Addr, m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, netip.Addr) {
	w.t.Helper()
	f := w.ipFrame(from, to, header.UDPProtocolNumber, 64, udpPayload(68, 67, m.ToBytes()))
	if to == broadcastIP {
		copy(f, broadcastMAC[:])
	}
	w.send(f)
	ip := header.IPv4(w.receive()[etherSize:])
	udp := header.UDP(ip.Payload())
	if !ip.IsChecksumValid() || udp.SourcePort() != 67 || udp.DestinationPort() != 68 ||
		!udp.IsChecksumValid(ip.SourceAddress(), ip.DestinationAddress(), checksum.Checksum(udp.Payload(), 0)) {
		w.t.Fatalf("no DHCP answer: % x", []byte(ip))
	}
	answer, err := dhcpv4.FromBytes(udp.Payload())
	if err != nil {
		w.t.Fatal(err)
	}
	return answer, netip.AddrFrom4(ip.DestinationAddress().As4())
}

func TestDHCP(t *testing.T) {
	n := newNetwork(t, Config{MTU: 9001})
	w := attach(t, n, "i-a", "10.64.0.10")
	offer, to := w.ask(zeroIP, broadcastIP, discover(w.mac))
	if to != w.ip || offer.MessageType() != dhcpv4.MessageTypeOffer {
		t.Fatalf("%s to %s", offer.MessageType(), to)
	}
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	ack, _ := w.ask(zeroIP, broadcastIP, request)
	type lease struct {
		Kind, IP, Server, Mask, Router, DNS, Routes, Host, MTU, Time string
	}
	describe := func(d *dhcpv4.DHCPv4) lease {
		return lease{
			Kind: d.MessageType().String(), IP: d.YourIPAddr.String(), Server: d.ServerIdentifier().String(),
			Mask: net.IP(d.SubnetMask()).String(), Router: d.Router()[0].String(), DNS: d.DNS()[0].String(),
			Routes: d.ClasslessStaticRoute()[0].String() + ", " + d.ClasslessStaticRoute()[1].String(),
			Host:   d.HostName(), MTU: string(d.Options.Get(dhcpv4.OptionInterfaceMTU)), Time: d.IPAddressLeaseTime(0).String(),
		}
	}
	want := lease{
		Kind: "ACK", IP: "10.64.0.10", Server: "10.64.0.1", Mask: "255.255.255.255", Router: "10.64.0.1", DNS: "10.64.0.1",
		Routes: "route to 10.64.0.1/32 via 0.0.0.0, route to 0.0.0.0/0 via 10.64.0.1", Host: "host-i-a",
		MTU: "\x23\x29", Time: "720h0m0s",
	}
	if d := cmp.Diff(want, describe(ack)); d != "" {
		t.Error(d)
	}
	want.Kind = "OFFER"
	if d := cmp.Diff(want, describe(offer)); d != "" {
		t.Error(d)
	}
}

func TestDHCPAnswers(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	message := func(kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		d, err := dhcpv4.New(append(mods, dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(w.mac))...)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	option := func(o dhcpv4.Option) dhcpv4.Modifier { return dhcpv4.WithOption(o) }
	mine := option(dhcpv4.OptRequestedIPAddress(net.IP(w.ip.AsSlice())))
	tests := []struct {
		name     string
		from, to netip.Addr
		message  *dhcpv4.DHCPv4
		want     dhcpv4.MessageType // none: silence
		wantTo   netip.Addr
	}{
		{"reboot", zeroIP, broadcastIP, message(dhcpv4.MessageTypeRequest, mine), dhcpv4.MessageTypeAck, w.ip},
		{"broadcast flag", zeroIP, broadcastIP, message(dhcpv4.MessageTypeRequest, mine, dhcpv4.WithBroadcast(true)),
			dhcpv4.MessageTypeAck, broadcastIP},
		{
			"renewal",
			w.ip,
			gatewayIP,
			message(dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(w.ip.AsSlice())),
			dhcpv4.MessageTypeAck,
			w.ip,
		},
		{"rebinding", w.ip, broadcastIP, message(dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(w.ip.AsSlice())),
			dhcpv4.MessageTypeAck, w.ip},
		{"another's address", zeroIP, broadcastIP,
			message(dhcpv4.MessageTypeRequest, option(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 64, 0, 11)))),
			dhcpv4.MessageTypeNak, broadcastIP},
		{"no address", zeroIP, broadcastIP, message(dhcpv4.MessageTypeRequest), dhcpv4.MessageTypeNak, broadcastIP},
		{
			"inform",
			w.ip,
			gatewayIP,
			message(dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(w.ip.AsSlice())),
			dhcpv4.MessageTypeAck,
			w.ip,
		},
		{"another server", zeroIP, broadcastIP,
			message(dhcpv4.MessageTypeRequest, mine, option(dhcpv4.OptServerIdentifier(net.IPv4(10, 64, 0, 2)))),
			dhcpv4.MessageTypeNone, zeroIP},
		{"release", w.ip, gatewayIP, message(dhcpv4.MessageTypeRelease), dhcpv4.MessageTypeNone, zeroIP},
		{"decline", zeroIP, broadcastIP, message(dhcpv4.MessageTypeDecline), dhcpv4.MessageTypeNone, zeroIP},
		{"a server's kind", zeroIP, broadcastIP, message(dhcpv4.MessageTypeOffer), dhcpv4.MessageTypeNone, zeroIP},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if tc.want == dhcpv4.MessageTypeNone {
				w.send(w.ipFrame(tc.from, tc.to, header.UDPProtocolNumber, 64, udpPayload(68, 67, tc.message.ToBytes())))
				w.ping()
				return
			}
			got, to := w.ask(tc.from, tc.to, tc.message)
			if got.MessageType() != tc.want || to != tc.wantTo {
				t.Errorf("%s to %s, want %s to %s", got.MessageType(), to, tc.want, tc.wantTo)
			}
			if leased := !got.YourIPAddr.IsUnspecified(); leased != (tc.want == dhcpv4.MessageTypeAck && tc.name != "inform") {
				t.Errorf("address in the answer: %s", got.YourIPAddr)
			}
		})
	}
}
