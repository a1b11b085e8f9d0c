package vnet

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is the stack's side of a port. It carries IP packets: the port does all that is Ethernet's, so the stack
// needs no ARP and knows no guest's MAC.
type link struct {
	port       *port
	mtu        uint32
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var _ stack.LinkEndpoint = (*link)(nil)

func newLink(p *port, mtu int) *link {
	return &link{port: p, mtu: uint32(mtu)}
}

// deliver hands a checked packet of the guest to the stack, which copies nothing more.
func (l *link) deliver(ip []byte) {
	d := l.dispatcher.Load()
	if d == nil {
		return
	}
	pkt := newPacket(header.IPv4ProtocolNumber, ip)
	(*d).DeliverNetworkPacket(header.IPv4ProtocolNumber, pkt)
	pkt.DecRef()
}

// newPacket copies b into a packet of the stack's pool.
func newPacket(kind tcpip.NetworkProtocolNumber, b []byte) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(buffer.NewViewWithData(b))})
	pkt.NetworkProtocolNumber = kind
	return pkt
}

// WritePackets queues the stack's packets for the guest. What does not fit is lost, as on a wire; TCP sends it again.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	pkts := list.AsSlice()
	for _, pkt := range pkts {
		// The stack has no reason to send a guest what is not its own. Should it ever, the guest must not see it.
		head := pkt.NetworkHeader().Slice()
		if len(head) < header.IPv4MinimumSize || header.IPv4(head).DestinationAddress().As4() != l.port.ip4 {
			l.port.counters.drop(dropMisrouted)
			continue
		}
		l.port.emit(pkt.IncRef())
	}
	return len(pkts), nil
}

// Attach is called by the stack, with nil when the interface is removed.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return l.mtu }

// SetMTU does nothing: the MTU is the network's.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength is zero since the port writes the Ethernet header.
func (l *link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress does nothing.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities are none: checksums are computed and verified, as a guest does.
func (l *link) Capabilities() stack.LinkEndpointCapabilities { return stack.CapabilityNone }

// Wait has nothing to wait for: the port's goroutines are the network's.
func (l *link) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader does nothing.
func (l *link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close does nothing: Detach ends the port.
func (l *link) Close() {}

// SetOnCloseAction does nothing.
func (l *link) SetOnCloseAction(func()) {}
