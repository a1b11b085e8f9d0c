package vnet

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	lengthSize = 4  // QEMU's length before each frame
	etherSize  = 14 // destination, source, type
	readBuffer = 16 << 10
)

// Ethernet types beside those that the stack names.
const (
	etherIPv4 = uint16(header.IPv4ProtocolNumber)
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
	etherRARP = 0x8035 // RFC 903
	etherVLAN = 0x8100 // IEEE 802.1Q
	etherQinQ = 0x88a8 // IEEE 802.1ad
	etherQold = 0x9100 // what came before 802.1ad
)

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// readFrames takes frames from the guest until the connection ends. A frame lies in the reader's buffer while it is
// handled; what outlives that copies it.
func (p *port) readFrames(conn io.Reader) error {
	longest := etherSize + p.net.cfg.MTU
	r := bufio.NewReaderSize(conn, max(readBuffer, lengthSize+longest))
	for {
		head, err := r.Peek(lengthSize)
		if err != nil {
			return fmt.Errorf("read frame length: %w", err)
		}
		size := binary.BigEndian.Uint32(head)
		if size > maxFrame {
			p.drop(dropOversize)
			return fmt.Errorf("frame of %d bytes, at most %d", size, maxFrame)
		}
		n := int(size)
		if n > longest {
			p.counters.received(n)
			p.drop(dropOversize)
			if _, err := r.Discard(lengthSize + n); err != nil {
				return fmt.Errorf("read frame: %w", err)
			}
			continue
		}
		b, err := r.Peek(lengthSize + n)
		if err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		p.ingest(b[lengthSize:])
		if _, err := r.Discard(lengthSize + n); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
	}
}

// arrive counts, records and handles one frame of the guest.
func (p *port) arrive(frame []byte) {
	p.counters.received(len(frame))
	if tap := p.tap.Load(); tap != nil {
		tap.write(frame)
	}
	if why := p.handle(frame); why != dropNone {
		p.drop(why)
	}
}

// handle holds the frame against what the guest may send and passes it on, or says why it was dropped. Everything
// that makes the port trustworthy is in here and in the functions that it calls.
func (p *port) handle(frame []byte) drop {
	if len(frame) < etherSize {
		return dropMalformed
	}
	if [6]byte(frame[6:12]) != p.mac {
		return dropSpoofedMAC
	}
	body := frame[etherSize:]
	kind := binary.BigEndian.Uint16(frame[12:])
	switch kind {
	case etherIPv4, etherARP:
	case etherIPv6:
		return dropIPv6
	case etherVLAN, etherQinQ, etherQold:
		return dropVLAN
	case etherRARP:
		// By which QEMU announces a machine that took over another's state, as every fork does. There is nobody to learn.
		return dropNone
	default:
		return dropEtherType
	}
	// The one station that a guest can mean is the node.
	if to := [6]byte(frame[:6]); to != broadcastMAC && to != [6]byte(p.net.mac) {
		return dropDestination
	}
	if kind == etherARP {
		return p.handleARP(body)
	}
	return p.handleIPv4(body)
}

// handleIPv4 passes on a packet whose source is the guest's own address.
func (p *port) handleIPv4(b []byte) drop {
	ip, ok := parseIPv4(b)
	if !ok {
		return dropMalformed
	}
	src, dst := ip.SourceAddress().As4(), ip.DestinationAddress().As4()
	to := netip.AddrFrom4(dst)
	request := p.dhcpRequest(ip, to)
	if src != p.ip4 && (request == nil || src != [4]byte{}) {
		return dropSpoofedIP
	}
	if src == p.ip4 {
		p.hear()
	}
	if request != nil {
		return p.handleDHCP(request)
	}
	if why := notForGuests(ip); why != dropNone {
		return why
	}
	switch {
	case dst == p.ip4, !unicast(to), to == broadcastOf(p.net.cfg.Prefix):
		return dropDestination
	case p.net.table.isLocal(to):
		p.link.deliver(ip)
		return dropNone
	default:
		return p.route(ip, to)
	}
}

// parseIPv4 returns the packet in b without what follows it (Ethernet pads short frames) if its header is sound.
func parseIPv4(b []byte) (header.IPv4, bool) {
	if len(b) < header.IPv4MinimumSize || b[0]>>4 != 4 {
		return nil, false
	}
	ip := header.IPv4(b)
	size, head := int(ip.TotalLength()), int(ip.HeaderLength())
	if head < header.IPv4MinimumSize || size < head || size > len(b) {
		return nil, false
	}
	ip = ip[:size]
	if !ip.IsChecksumValid() {
		return nil, false
	}
	return ip, true
}

// unicast says whether a packet to a means one station.
func unicast(a netip.Addr) bool {
	first := a.As4()[0]
	return first != 0 && first != 127 && first < 224
}

func broadcastOf(prefix netip.Prefix) netip.Addr {
	b := prefix.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|uint32(1<<(32-prefix.Bits())-1))
	return netip.AddrFrom4(b)
}
