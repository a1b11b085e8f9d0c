package sim

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is the stack's side of some cards. It carries IP packets; Ethernet is the cards' own.
type link struct {
	network    *network
	id         tcpip.NICID
	addresses  int // guarded by the network's mu
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var _ stack.LinkEndpoint = (*link)(nil)

// deliver hands a packet that a card received to the stack, which keeps a copy.
func (l *link) deliver(ip []byte) {
	d := l.dispatcher.Load()
	if d == nil {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(buffer.NewViewWithData(ip))})
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	(*d).DeliverNetworkPacket(header.IPv4ProtocolNumber, pkt)
	pkt.DecRef()
}

// WritePackets gives each packet to the card whose address it comes from.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	pkts := list.AsSlice()
	for _, pkt := range pkts {
		head := pkt.NetworkHeader().Slice()
		if len(head) < header.IPv4MinimumSize {
			continue
		}
		if c := l.network.nic(header.IPv4(head).SourceAddress().As4()); c != nil {
			c.sendPacket(pkt)
		}
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

// MTU is what DHCP told.
func (l *link) MTU() uint32 { return l.network.mtu.Load() }

// SetMTU does nothing: the MTU is the network's.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength is zero since the card writes the Ethernet header.
func (l *link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress does nothing.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities are none: checksums are computed and verified, as a guest with a kernel does.
func (l *link) Capabilities() stack.LinkEndpointCapabilities { return stack.CapabilityNone }

// Wait has nothing to wait for: a card has no goroutines.
func (l *link) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader does nothing.
func (l *link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close does nothing: the driver ends the stack.
func (l *link) Close() {}

// SetOnCloseAction does nothing.
func (l *link) SetOnCloseAction(func()) {}
