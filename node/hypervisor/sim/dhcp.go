package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A request that is not answered is repeated with doubling pauses, as a real guest does.
const (
	dhcpFirstPause = 250 * time.Millisecond
	dhcpLastPause  = 8 * time.Second
	dhcpServerPort = 67
)

// lease is what a guest learns about itself by DHCP.
type lease struct {
	ip       [4]byte
	router   [6]byte
	mtu      int // 0: leave it
	hostname string
}

// ask does DHCP exchanges (RFC 2131) until one succeeds or ctx ends. The lease is not renewed, for the address of an
// instance is its own as long as it runs.
func (c *nic) ask(ctx context.Context) (lease, error) {
	for pause := dhcpFirstPause; ; pause = min(2*pause, dhcpLastPause) {
		select {
		case <-c.connected():
		case <-ctx.Done():
			return lease{}, ctx.Err()
		}
		got, err := c.exchange(ctx, pause)
		if err == nil || ctx.Err() != nil {
			return got, err
		}
	}
}

// exchange is one attempt: discover, offer, request, acknowledgement.
func (c *nic) exchange(ctx context.Context, patience time.Duration) (lease, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	discover, err := dhcpv4.NewDiscovery(c.mac[:])
	if err != nil {
		return lease{}, fmt.Errorf("make DHCP message: %w", err)
	}
	offer, _, err := c.roundTrip(ctx, discover, dhcpv4.MessageTypeOffer)
	if err != nil {
		return lease{}, err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		return lease{}, fmt.Errorf("make DHCP message: %w", err)
	}
	ack, router, err := c.roundTrip(ctx, request, dhcpv4.MessageTypeAck)
	if err != nil {
		return lease{}, err
	}
	return readLease(ack, router)
}

// roundTrip sends a message and waits for its answer, and returns that with the MAC it came from.
func (c *nic) roundTrip(
	ctx context.Context, ask *dhcpv4.DHCPv4, want dhcpv4.MessageType,
) (*dhcpv4.DHCPv4, [6]byte, error) {
	message := ask.ToBytes()
	c.send(etherIPv4, broadcastMAC, func(b []byte) []byte { return appendDHCP(b, message) })
	for {
		select {
		case data := <-c.answers:
			answer, err := dhcpv4.FromBytes(data[len(c.mac):])
			if err != nil || answer.TransactionID != ask.TransactionID {
				continue
			}
			if answer.MessageType() != want {
				return nil, [6]byte{}, fmt.Errorf("the DHCP server answered %s", answer.MessageType())
			}
			return answer, [6]byte(data), nil
		case <-ctx.Done():
			return nil, [6]byte{}, fmt.Errorf("ask for an address: %w", ctx.Err())
		}
	}
}

func readLease(ack *dhcpv4.DHCPv4, router [6]byte) (lease, error) {
	ip := ack.YourIPAddr.To4()
	if ip == nil || ip.IsUnspecified() {
		return lease{}, errors.New("the DHCP answer holds no address")
	}
	got := lease{ip: [4]byte(ip), router: router, hostname: ack.HostName()}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= header.IPv4MinimumMTU {
		got.mtu = int(mtu)
	}
	return got, nil
}

// appendDHCP appends a packet from a client without an address to all servers.
func appendDHCP(b, message []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, header.IPv4MinimumSize+header.UDPMinimumSize)...)
	b = append(b, message...)
	packet := b[at:]
	broadcast := tcpip.AddrFrom4([4]byte(net.IPv4bcast.To4()))
	nobody := tcpip.AddrFrom4([4]byte{})
	udp := header.UDP(packet[header.IPv4MinimumSize:])
	udp.Encode(&header.UDPFields{SrcPort: dhcpClientPort, DstPort: dhcpServerPort, Length: uint16(len(udp))})
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, nobody, broadcast, uint16(len(udp)))
	udp.SetChecksum(^checksum.Checksum(udp, sum))
	ip := header.IPv4(packet)
	const hops = 64
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(packet)), TTL: hops, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: nobody, DstAddr: broadcast,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	return b
}
