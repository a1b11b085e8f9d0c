package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// card is a configured network card with a node that reads and writes bytes.
type card struct {
	t    *testing.T
	nic  *nic
	node net.Conn
	ip   netip.Addr
}

func newCard(t *testing.T, n *network, last byte) *card {
	t.Helper()
	ip := [4]byte{10, 64, 0, last}
	c := newNIC(n, net.HardwareAddr{2, 0, 10, 64, 0, last}.String())
	if err := c.configure(ip, [6]byte{2, 0, 10, 64, 0, 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.remove)
	return &card{t: t, nic: c, node: c.plug(), ip: netip.AddrFrom4(ip)}
}

// ping makes a frame with an echo request from the gateway to an address.
func (c *card) ping(mac [6]byte, to netip.Addr) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize)
	icmp := header.ICMPv4(b[header.IPv4MinimumSize:])
	icmp.SetType(header.ICMPv4Echo)
	icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 64, 0, 1}), DstAddr: tcpip.AddrFrom4(to.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	frame := append(append(append([]byte(nil), mac[:]...), 2, 0, 10, 64, 0, 1), 8, 0)
	return append(frame, b...)
}

// write sends a frame in pieces of a size.
func (c *card) write(frame []byte, piece int) {
	c.t.Helper()
	data := append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
	for len(data) > 0 {
		n := min(piece, len(data))
		if _, err := c.node.Write(data[:n]); err != nil {
			c.t.Fatal(err)
		}
		data = data[n:]
	}
}

// reply reads the next frame, which must be an echo reply from the card's address.
func (c *card) reply() {
	c.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(c.node, size[:]); err != nil {
		c.t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.node, frame); err != nil {
		c.t.Fatal(err)
	}
	ip := header.IPv4(frame[etherSize:])
	kind := header.ICMPv4(ip.Payload()).Type()
	if ip.SourceAddress().As4() != c.ip.As4() || kind != header.ICMPv4EchoReply {
		c.t.Errorf("frame % x is no reply of %s", frame, c.ip)
	}
}

// TestWireBytes: to a node that knows nothing of frames by calls, a card is like the socket of a real machine's, and
// only what is for the card's own addresses gets into its guest.
func TestWireBytes(t *testing.T) {
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	a, b := newCard(t, n, 5), newCard(t, n, 6)
	for _, piece := range []int{1, 3, 1 << 10} {
		a.write(a.ping(a.nic.mac, b.ip), piece)  // another guest's address
		a.write(a.ping(b.nic.mac, a.ip), piece)  // another card's MAC
		a.write(a.ping(a.nic.mac, a.ip)[:20], 7) // cut short
		a.write(a.ping(a.nic.mac, a.ip), piece)
		a.reply() // and nothing before it
	}
	b.write(b.ping(b.nic.mac, b.ip), 9)
	b.reply() // so what a sent to b's address gave b nothing to say
}

// TestGuestReachesItself at its own address, as every machine does, and the node sees nothing of it.
func TestGuestReachesItself(t *testing.T) {
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	c := newCard(t, n, 5)
	c.node.(*wire).Frames(func(frame []byte) { t.Errorf("the node sees % x", frame) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	port := func(n uint16) string { return netip.AddrPortFrom(c.ip, n).String() }
	listener, err := n.listen(c.nic, ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := n.dial(ctx, c.nic, port(80))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(accepted, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if _, err := n.dial(ctx, c.nic, port(81)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port that nobody listens on: %v", err)
	}
}

func TestWireEnds(t *testing.T) {
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	c := newCard(t, n, 5)
	first, second := c.node, net.Conn(c.nic.plug())
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that another took the place of: %v", err)
	}
	if _, err := second.Write([]byte{0xff, 0xff, 0xff, 0xff}); err == nil {
		t.Error("a frame of 4 GB was taken")
	}
	c.nic.remove()
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection of a card that is gone: %v", err)
	}
	if _, err := second.Write([]byte{0, 0, 0, 1, 0}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write to a card that is gone: %v", err)
	}
	if w := c.nic.plug(); w.open() {
		t.Error("a card that is gone was plugged in")
	}
	if err := c.nic.configure([4]byte{10, 64, 0, 7}, [6]byte{}); !errors.Is(err, errNoNetwork) {
		t.Errorf("an address for a card that is gone: %v", err)
	}
}

// TestAddressesApart: an address has one owner, and many guests are spread over several links.
func TestAddressesApart(t *testing.T) {
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	for last := range byte(2*linkAddresses + 1) {
		newCard(t, n, 10+last)
	}
	if len(n.links) != 3 {
		t.Errorf("%d links for %d addresses, want 3", len(n.links), 2*linkAddresses+1)
	}
	twin := newNIC(n, "02:00:00:00:00:01")
	if err := twin.configure([4]byte{10, 64, 0, 10}, [6]byte{}); !errors.Is(err, errAddressUsed) {
		t.Errorf("an address twice: %v", err)
	}
}

// FuzzReceive: no frame makes a card panic, and none gets another card's guest to answer.
func FuzzReceive(f *testing.F) {
	n, err := newNetwork()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(n.close)
	c := newNIC(n, "02:00:0a:40:00:05")
	if err := c.configure([4]byte{10, 64, 0, 5}, [6]byte{2, 0, 10, 64, 0, 1}); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.remove)
	other := newNIC(n, "02:00:0a:40:00:06")
	if err := other.configure([4]byte{10, 64, 0, 6}, [6]byte{2, 0, 10, 64, 0, 1}); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(other.remove)
	said := other.plug()
	said.Frames(func(frame []byte) { f.Errorf("another guest says % x", frame) })
	w := c.plug()
	sample := &card{ip: netip.AddrFrom4(c.ip)}
	f.Add(sample.ping(c.mac, netip.AddrFrom4(c.ip)))
	f.Add(sample.ping(c.mac, netip.AddrFrom4(other.ip)))
	f.Add([]byte{0x02, 0, 0x0a, 0x40, 0, 5})
	f.Fuzz(func(_ *testing.T, frame []byte) {
		c.receive(w, frame)
		_ = w.Send(frame)
	})
}
