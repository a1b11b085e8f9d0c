package guest

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A DHCP request that is lost, because the node is not connected yet, is repeated soon: nothing else uses the wire.
const (
	dhcpFirstTimeout = 50 * time.Millisecond
	dhcpMaxTimeout   = time.Second

	dhcpServerPort, dhcpClientPort = 67, 68
)

// The parts of a DHCP message that are used (RFC 2131, section 2).
const (
	dhcpTransaction = 4
	dhcpFlags       = 10
	dhcpYourAddress = 16
	dhcpHardware    = 28
	dhcpCookie      = 236
	dhcpOptions     = 240
	dhcpLeast       = 300 // bytes, below which old relays drop a message
	dhcpMost        = 1472

	dhcpRequest, dhcpReply = 1, 2
	dhcpEthernet           = 1
	dhcpBroadcast          = 0x8000
	dhcpMagic              = 0x63825363
)

// Options (RFC 2132; classless static routes RFC 3442) and the types of messages.
const (
	optPad, optEnd    = 0, 255
	optMask           = 1
	optRouter         = 3
	optHostname       = 12
	optMTU            = 26
	optAddress        = 50
	optMessageType    = 53
	optServer         = 54
	optParameters     = 55
	optRoutes         = 121
	dhcpDiscover      = 1
	dhcpOffer         = 2
	dhcpAsk           = 3
	dhcpAck           = 5
	dhcpNak           = 6
	classfulRouteSize = 4
)

var (
	errNoAnswer = errors.New("nobody answers")
	errRefused  = errors.New("the server refuses the address that it offered")
)

// askAddress does one DHCP exchange (RFC 2131, 3.1) over a card that is up and has no address. It does not look whether
// another host has the address: the wire leads to nobody but the node.
func askAddress(card string, mac net.HardwareAddr, timeout time.Duration) (address, error) {
	fd, err := openDHCP(card)
	if err != nil {
		return address{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	// Copies of one template must not take each other's answers for theirs.
	var transaction [4]byte
	if _, err := rand.Read(transaction[:]); err != nil {
		return address{}, fmt.Errorf("choose a transaction: %w", err)
	}
	deadline := time.Now().Add(timeout)
	offer, err := exchange(fd, deadline, dhcpMessage(mac, transaction, dhcpDiscover, nil, nil), dhcpOffer)
	if err != nil {
		return address{}, fmt.Errorf("ask for an address: %w", err)
	}
	ack, err := exchange(fd, deadline,
		dhcpMessage(mac, transaction, dhcpAsk, offer.your[:], offer.options[optServer]), dhcpAck)
	if err != nil {
		return address{}, fmt.Errorf("take the address %v: %w", netip.AddrFrom4(offer.your), err)
	}
	return readAnswer(ack)
}

// openDHCP opens the client's port on a card without an address.
func openDHCP(card string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, card),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: dhcpClientPort}),
	)
	if err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("bind socket: %w", err)
	}
	return fd, nil
}

// exchange sends a message and waits for its answer of one type; others are passed over.
func exchange(fd int, deadline time.Time, message []byte, want byte) (reply, error) {
	everybody := &unix.SockaddrInet4{Port: dhcpServerPort, Addr: [4]byte{255, 255, 255, 255}}
	if err := unix.Sendto(fd, message, 0, everybody); err != nil {
		return reply{}, fmt.Errorf("send: %w", err)
	}
	buf := make([]byte, dhcpMost)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return reply{}, errNoAnswer
		}
		wait := unix.NsecToTimeval(int64(max(left, time.Millisecond)))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			return reply{}, fmt.Errorf("bound the wait: %w", err)
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return reply{}, fmt.Errorf("receive: %w", err)
		}
		got, ok := parseReply(buf[:n])
		if !ok || !bytes.Equal(got.transaction[:], message[dhcpTransaction:dhcpTransaction+4]) {
			continue
		}
		switch kind := got.options[optMessageType]; {
		case len(kind) == 1 && kind[0] == want:
			return got, nil
		case len(kind) == 1 && kind[0] == dhcpNak:
			return reply{}, errRefused
		}
	}
}

// dhcpMessage makes a client's message. It asks for a broadcast answer: a card without an address takes no other.
func dhcpMessage(mac net.HardwareAddr, transaction [4]byte, kind byte, asked, server []byte) []byte {
	b := make([]byte, dhcpOptions, dhcpLeast)
	b[0], b[1], b[2] = dhcpRequest, dhcpEthernet, byte(len(mac))
	copy(b[dhcpTransaction:], transaction[:])
	binary.BigEndian.PutUint16(b[dhcpFlags:], dhcpBroadcast)
	copy(b[dhcpHardware:], mac)
	binary.BigEndian.PutUint32(b[dhcpCookie:], dhcpMagic)
	b = append(b, optMessageType, 1, kind)
	for code, value := range map[byte][]byte{optAddress: asked, optServer: server} {
		if len(value) == 4 {
			b = append(append(b, code, 4), value...)
		}
	}
	b = append(b, optParameters, 5, optMask, optRouter, optHostname, optMTU, optRoutes, optEnd)
	return b[:max(len(b), dhcpLeast)]
}

// reply is a server's message.
type reply struct {
	transaction [4]byte
	your        [4]byte
	options     map[byte][]byte
}

// parseReply reads a server's message; false: it is none. An option that comes in parts is joined (RFC 3396).
func parseReply(b []byte) (reply, bool) {
	if len(b) < dhcpOptions || b[0] != dhcpReply || binary.BigEndian.Uint32(b[dhcpCookie:]) != dhcpMagic {
		return reply{}, false
	}
	r := reply{
		transaction: [4]byte(b[dhcpTransaction:]), your: [4]byte(b[dhcpYourAddress:]), options: map[byte][]byte{},
	}
	for b = b[dhcpOptions:]; len(b) > 0 && b[0] != optEnd; {
		if b[0] == optPad {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return reply{}, false
		}
		size := int(b[1])
		r.options[b[0]] = append(r.options[b[0]], b[2:2+size]...)
		b = b[2+size:]
	}
	return r, true
}

// readAnswer takes what the guest needs out of a DHCP answer. Classless static routes, when there, take the place of
// the router option (RFC 3442).
func readAnswer(r reply) (address, error) {
	ip := netip.AddrFrom4(r.your)
	if ip.IsUnspecified() {
		return address{}, errors.New("the answer holds no address")
	}
	bits := 32
	if mask := r.options[optMask]; len(mask) == 4 {
		if ones, size := net.IPMask(mask).Size(); size == 32 {
			bits = ones
		}
	}
	got := address{prefix: netip.PrefixFrom(ip, bits), routes: classlessRoutes(r.options[optRoutes])}
	if router := r.options[optRouter]; len(got.routes) == 0 && len(router) >= classfulRouteSize {
		gateway := netip.AddrFrom4([4]byte(router))
		got.routes = []route{
			{dest: netip.PrefixFrom(gateway, 32)},
			{dest: netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway: gateway},
		}
	}
	if mtu := r.options[optMTU]; len(mtu) == 2 && binary.BigEndian.Uint16(mtu) >= 576 {
		got.mtu = int(binary.BigEndian.Uint16(mtu))
	}
	got.hostname = hostname(string(r.options[optHostname]), ip)
	return got, nil
}

// classlessRoutes reads option 121; a malformed one counts as absent.
func classlessRoutes(b []byte) []route {
	var routes []route
	for len(b) > 0 {
		bits := int(b[0])
		used := (bits + 7) / 8
		if bits > 32 || len(b) < 1+used+4 {
			return nil
		}
		var dest [4]byte
		copy(dest[:], b[1:1+used])
		r := route{
			dest:    netip.PrefixFrom(netip.AddrFrom4(dest), bits).Masked(),
			gateway: netip.AddrFrom4([4]byte(b[1+used:])),
		}
		if r.gateway.IsUnspecified() {
			r.gateway = netip.Addr{}
		}
		routes = append(routes, r)
		b = b[1+used+4:]
	}
	return routes
}
