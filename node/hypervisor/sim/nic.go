package sim

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	etherSize      = 14 // destination, source, type
	etherIPv4      = uint16(header.IPv4ProtocolNumber)
	etherARP       = 0x0806
	dhcpClientPort = 68
)

// errNoNetwork means that a guest uses its network before it has an address, or after its end.
var errNoNetwork = errors.New("the guest has no network")

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// nic is a guest's network card and all that is open on it.
type nic struct {
	network *network
	mac     [6]byte
	removed chan struct{} // closed at the machine's end
	answers chan []byte   // what the DHCP server says, while the guest asks
	still   atomic.Bool   // the machine is paused: nothing goes in or out

	mu      sync.Mutex
	gone    bool
	wire    *wire         // nil while nobody is connected
	plugged chan struct{} // closed while somebody is
	ip      [4]byte       // zero until the guest has one
	link    *link         // where the stack has it
	router  [6]byte       // where everything is sent
	open    map[closer]struct{}
}

// closer is an open connection or listener.
type closer interface{ abort() }

func newNIC(n *network, mac string) *nic {
	c := &nic{
		network: n, removed: make(chan struct{}), answers: make(chan []byte, 4), plugged: make(chan struct{}),
		open: map[closer]struct{}{},
	}
	if parsed, err := net.ParseMAC(mac); err == nil {
		copy(c.mac[:], parsed) // the spec was validated
	}
	return c
}

// plug connects the node, in place of a connection that is there.
func (c *nic) plug() *wire {
	w := newWire(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		w.shut()
		return w
	}
	if c.wire != nil {
		c.wire.shut()
	} else {
		close(c.plugged)
	}
	c.wire = w
	return w
}

// unplug forgets a connection that has ended.
func (c *nic) unplug(w *wire) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wire == w {
		c.wire = nil
		c.plugged = make(chan struct{})
	}
}

// connected is closed while a node is connected.
func (c *nic) connected() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.plugged
}

// remove ends everything of the card.
func (c *nic) remove() {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return
	}
	c.gone = true
	close(c.removed)
	open, w, l, ip := c.open, c.wire, c.link, c.ip
	c.open = nil
	c.mu.Unlock()
	for one := range open {
		one.abort()
	}
	c.network.drop(c, l, ip)
	if w != nil {
		w.shut()
	}
}

// configure gives the card its address.
func (c *nic) configure(ip [4]byte, router [6]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return errNoNetwork
	}
	l, err := c.network.add(c, ip)
	if err != nil {
		return err
	}
	c.link, c.ip, c.router = l, ip, router
	return nil
}

// address is the card's own and where the stack has it.
func (c *nic) address() (*link, [4]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.link == nil {
		return nil, c.ip, errNoNetwork
	}
	return c.link, c.ip, nil
}

// endpoint is the card's address for the stack.
func (c *nic) endpoint() (tcpip.FullAddress, error) {
	l, ip, err := c.address()
	if err != nil {
		return tcpip.FullAddress{}, err
	}
	return tcpip.FullAddress{NIC: l.id, Addr: tcpip.AddrFrom4(ip)}, nil
}

// send puts a frame with this payload on the wire. Without one it is lost. What is for the card itself comes back,
// and the node does not see it: a kernel has a loopback for that, which needs no wire, but this guest has one
// anyway.
func (c *nic) send(kind uint16, to [6]byte, fill func(b []byte) []byte) {
	c.mu.Lock()
	w := c.wire
	c.mu.Unlock()
	if w == nil || c.still.Load() {
		return
	}
	frame := c.network.pump.buffer()
	*frame = append(append(*frame, to[:]...), c.mac[:]...)
	*frame = fill(binary.BigEndian.AppendUint16(*frame, kind))
	_ = w.put(to != c.mac, frame) // lost, as on a wire
}

// sendPacket sends a packet of the stack's.
func (c *nic) sendPacket(pkt *stack.PacketBuffer) {
	c.mu.Lock()
	to := c.router
	if header.IPv4(pkt.NetworkHeader().Slice()).DestinationAddress().As4() == c.ip {
		to = c.mac
	}
	c.mu.Unlock()
	c.send(etherIPv4, to, func(b []byte) []byte {
		views, skip := pkt.AsViewList()
		for v := views.Front(); v != nil; v = v.Next() {
			s := v.AsSlice()
			n := min(skip, len(s))
			skip -= n
			b = append(b, s[n:]...)
		}
		return b
	})
}

// receive takes a frame off the wire. Only what is for this card and its address gets any further.
func (c *nic) receive(_ *wire, frame []byte) {
	if len(frame) < etherSize || c.still.Load() {
		return
	}
	if to := [6]byte(frame); to != c.mac && to != broadcastMAC {
		return
	}
	from, body := [6]byte(frame[6:12]), frame[etherSize:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		c.answerARP(from, body)
	case etherIPv4:
		c.receivePacket(from, body)
	}
}

func (c *nic) receivePacket(from [6]byte, b []byte) {
	ip := header.IPv4(b)
	if !ip.IsValid(len(b)) {
		return
	}
	if message := dhcpAnswer(ip); message != nil {
		select {
		case c.answers <- append(append([]byte(nil), from[:]...), message...):
		default: // nobody asks
		}
		return
	}
	l, own, err := c.address()
	if err == nil && ip.DestinationAddress().As4() == own {
		l.deliver(ip[:ip.TotalLength()])
	}
}

// dhcpAnswer returns the message in a packet that is for a DHCP client, or nil.
func dhcpAnswer(ip header.IPv4) []byte {
	if ip.TransportProtocol() != header.UDPProtocolNumber || ip.More() || ip.FragmentOffset() != 0 {
		return nil
	}
	udp := header.UDP(ip.Payload())
	if len(udp) < header.UDPMinimumSize || udp.DestinationPort() != dhcpClientPort {
		return nil
	}
	size := int(udp.Length())
	if size < header.UDPMinimumSize || size > len(udp) {
		return nil
	}
	return udp[header.UDPMinimumSize:size]
}

// answerARP tells the card's MAC to who asks for its address.
func (c *nic) answerARP(from [6]byte, b []byte) {
	if len(b) < header.ARPSize {
		return
	}
	asked := header.ARP(b[:header.ARPSize])
	_, own, err := c.address()
	if err != nil || !asked.IsValid() || asked.Op() != header.ARPRequest ||
		[4]byte(asked.ProtocolAddressTarget()) != own {
		return
	}
	answer := header.ARP(make([]byte, header.ARPSize))
	answer.SetIPv4OverEthernet()
	answer.SetOp(header.ARPReply)
	copy(answer.HardwareAddressSender(), c.mac[:])
	copy(answer.ProtocolAddressSender(), own[:])
	copy(answer.HardwareAddressTarget(), asked.HardwareAddressSender())
	copy(answer.ProtocolAddressTarget(), asked.ProtocolAddressSender())
	c.send(etherARP, from, func(b []byte) []byte { return append(b, answer...) })
}

// ipString is for people and consoles.
func ipString(ip [4]byte) string { return tcpip.AddrFrom4(ip).String() }
