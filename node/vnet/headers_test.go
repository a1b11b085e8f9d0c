package vnet

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

const payload = "X-Amz-Security-Token: secret"

func frameOf(t *testing.T, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	ether := &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2},
		EthernetType: layers.EthernetTypeIPv4}
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true},
		append([]gopacket.SerializableLayer{ether}, parts...)...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func ipOf(protocol layers.IPProtocol, offset uint16) *layers.IPv4 {
	return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: protocol, FragOffset: offset, SrcIP: []byte{10, 64, 0, 2},
		DstIP: []byte{10, 64, 0, 1}}
}

func TestHeaderLengthLeavesPayloadsOut(t *testing.T) {
	tcp := &layers.TCP{SrcPort: 80, DstPort: 4000, Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop}}}
	for name, c := range map[string]struct {
		frame []byte
		want  int // -1: all of it
	}{
		"TCP": {frameOf(t, ipOf(layers.IPProtocolTCP, 0), tcp, gopacket.Payload(payload)), 14 + 20 + 24},
		"TCP with a length beyond the frame": {func() []byte {
			frame := frameOf(t, ipOf(layers.IPProtocolTCP, 0), &layers.TCP{})
			frame[14+20+12] = 0xf0
			return frame
		}(), -1},
		"UDP": {frameOf(t, ipOf(layers.IPProtocolUDP, 0), &layers.UDP{SrcPort: 9, DstPort: 9}, gopacket.Payload(payload)),
			14 + 20 + 8},
		"DHCP": {frameOf(t, ipOf(layers.IPProtocolUDP, 0), &layers.UDP{SrcPort: 68, DstPort: 67}, gopacket.Payload("x")), -1},
		"ICMP that quotes": {frameOf(t, ipOf(layers.IPProtocolICMPv4, 0), &layers.ICMPv4{}, gopacket.Payload(payload)),
			14 + 20 + 8},
		"a later fragment":  {frameOf(t, ipOf(layers.IPProtocolTCP, 8), gopacket.Payload(payload)), 14 + 20},
		"cut short":         {[]byte{1, 2, 3}, -1},
		"no IP header":      {append(make([]byte, 12), 8, 0, 0x45), 14},
		"a false IP header": {append(append(make([]byte, 12), 8, 0, 0x4f), make([]byte, 25)...), 14},
		"another kind":      {append(append(make([]byte, 12), 0x86, 0xdd), payload...), 14},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.want
			if want < 0 {
				want = len(c.frame)
			}
			if got := headerLength(c.frame); got != want {
				t.Errorf("%d bytes of %d, want %d", got, len(c.frame), want)
			}
		})
	}
}

func TestHeadersAreBoundedAndReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "frames.pcap")
	h := &headers{path: path, limit: 4 << 10}
	if err := h.begin(); err != nil {
		t.Fatal(err)
	}
	frame := frameOf(t, ipOf(layers.IPProtocolTCP, 0), &layers.TCP{}, gopacket.Payload(payload))
	for range 1000 {
		h.write(frame)
	}
	if err := h.end(); err != nil {
		t.Fatal(err)
	}
	h.write(frame) // after its end it is nobody's
	for _, file := range []string{path, OlderHeaders(path)} {
		text, err := os.ReadFile(file)
		if err != nil || len(text) > 5<<10 || bytes.Contains(text, []byte("Token")) {
			t.Fatalf("%s: %d bytes, %v, or a payload in it", file, len(text), err)
		}
		r, err := pcapgo.NewReader(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, info, err := r.ReadPacketData(); err != nil || info.Length != len(frame) || info.CaptureLength != 14+20+20 {
			t.Errorf("%s: %+v, %v", file, info, err)
		}
	}
}
