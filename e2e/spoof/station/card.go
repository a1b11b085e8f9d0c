//go:build linux

package station

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	everything = 0x0300 // ETH_P_ALL in network byte order
	maxHeard   = 2 << 20
	etherSize  = header.EthernetMinimumSize
)

// card is the machine's network card, below the kernel's stack: every frame on the wire, as it is.
type card struct {
	fd, index int
	mac       net.HardwareAddr
	ip        netip.Addr

	mu      sync.Mutex
	heard   Heard
	size    int // bytes in heard
	route   Route
	counts  Routed
	clients map[uint16]netip.AddrPort // of the route, by the port they came from
}

func openCard() (*card, error) {
	cards, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network cards: %w", err)
	}
	for _, c := range cards {
		if len(c.HardwareAddr) != 6 || c.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := c.Addrs()
		if err != nil || len(addresses) == 0 {
			return nil, fmt.Errorf("card %s has no address: %w", c.Name, err)
		}
		own, err := netip.ParsePrefix(addresses[0].String())
		if err != nil {
			return nil, fmt.Errorf("card %s: %w", c.Name, err)
		}
		opened := &card{index: c.Index, mac: c.HardwareAddr, ip: own.Addr()}
		return opened, opened.open()
	}
	return nil, errors.New("there is no network card")
}

// open begins to take all frames, also those for other stations.
func (c *card) open() (err error) {
	if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything); err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	if err := unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: c.index}); err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	all := &unix.PacketMreq{Ifindex: int32(c.index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(c.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, all); err != nil {
		return fmt.Errorf("take frames for others: %w", err)
	}
	return nil
}

// send puts a frame on the wire.
func (c *card) send(frame []byte) error {
	return unix.Sendto(c.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: c.index})
}

// listen takes frames in until the machine ends.
func (c *card) listen() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		c.take(bytes.Clone(buf[:n]))
	}
}

func (c *card) take(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, segment, ok := c.mine(frame); ok && segment.DestinationPort() == Port {
		return
	}
	if c.size+len(frame) > maxHeard {
		c.heard.Lost++
	} else {
		c.size += len(frame)
		c.heard.Frames = append(c.heard.Frames, bytes.Clone(frame))
	}
	if c.route != (Route{}) {
		c.carryOn(frame)
	}
}

func (c *card) takeHeard() Heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.heard
	c.heard, c.size = Heard{}, 0
	return h
}

func (c *card) setRoute(r Route) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.route, c.counts, c.clients = r, Routed{}, map[uint16]netip.AddrPort{}
}

func (c *card) routed() Routed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

// mine takes apart a frame with a TCP segment to this machine.
func (c *card) mine(frame []byte) (header.IPv4, header.TCP, bool) {
	if len(frame) < etherSize+header.IPv4MinimumSize ||
		binary.BigEndian.Uint16(frame[12:]) != uint16(header.IPv4ProtocolNumber) {
		return nil, nil, false
	}
	ip := header.IPv4(frame[etherSize:])
	if !ip.IsValid(len(ip)) || ip.TransportProtocol() != header.TCPProtocolNumber ||
		ip.DestinationAddress().As4() != c.ip.As4() || len(ip.Payload()) < header.TCPMinimumSize {
		return nil, nil, false
	}
	ip = ip[:ip.TotalLength()]
	return ip, header.TCP(ip.Payload()), true
}

// carryOn sends a frame of the route's on its way. The frame is the caller's no more.
func (c *card) carryOn(frame []byte) {
	ip, segment, ok := c.mine(frame)
	if !ok {
		return
	}
	source := netip.AddrPortFrom(netip.AddrFrom4(ip.SourceAddress().As4()), segment.SourcePort())
	from, to := netip.AddrPortFrom(c.ip, segment.SourcePort()), c.route.To
	switch client, known := c.clients[segment.DestinationPort()]; {
	case source.Addr() == c.route.Client && segment.DestinationPort() == c.route.At:
		c.clients[source.Port()] = source
	case source == c.route.To && known:
		from, to = netip.AddrPortFrom(c.ip, c.route.At), client
	default:
		return
	}
	if ip.TTL() <= 1 {
		c.counts.Expired++
		return
	}
	ip.SetTTL(ip.TTL() - 1)
	ip.SetSourceAddress(tcpip.AddrFrom4(from.Addr().As4()))
	ip.SetDestinationAddress(tcpip.AddrFrom4(to.Addr().As4()))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	segment.SetSourcePort(from.Port())
	segment.SetDestinationPort(to.Port())
	segment.SetChecksum(0)
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(),
		uint16(len(segment)))
	segment.SetChecksum(^checksum.Checksum(segment, sum))
	copy(frame, frame[6:12]) // back to the gateway
	copy(frame[6:], c.mac)
	if c.send(frame[:etherSize+len(ip)]) == nil {
		c.counts.Passed++
	}
}
