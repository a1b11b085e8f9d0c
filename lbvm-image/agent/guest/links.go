package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Structures of the kernel's requests about network cards (linux/if.h, linux/route.h, x86-64).
const (
	requestSize = 40
	requestName = unix.IFNAMSIZ
	requestData = 16 // after the name: flags, an MTU or a socket address

	routeSize    = 120
	routeDest    = 8
	routeGateway = 24
	routeMask    = 40
	routeFlags   = 56
	routeDevice  = 88
	addressSize  = 4 // offset of an IPv4 address in its socket address
)

// links are the machine's network cards. The kernel's older interface serves: one request for each thing to be set,
// and a tenth of the code that netlink runs through, which an emulated machine has to translate.
type links struct{ fd int }

func openLinks() (links, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return links{}, fmt.Errorf("open socket: %w", err)
	}
	return links{fd}, nil
}

func (l links) close() { _ = unix.Close(l.fd) }

// request asks the kernel something about a card; data is what follows the name.
func (l links) request(what string, code uint, card string, data []byte) ([]byte, error) {
	var b [requestSize]byte
	if len(card) >= requestName {
		return nil, fmt.Errorf("%s %.20q: name is too long", what, card)
	}
	copy(b[:requestName], card)
	copy(b[requestData:], data)
	if err := ioctl(uintptr(l.fd), code, b[:]); err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, card, err)
	}
	return b[requestData:], nil
}

func (l links) up(card string) error {
	flags, err := l.request("read flags of", unix.SIOCGIFFLAGS, card, nil)
	if err != nil {
		return err
	}
	on := binary.NativeEndian.AppendUint16(nil, binary.NativeEndian.Uint16(flags)|unix.IFF_UP)
	_, err = l.request("bring up", unix.SIOCSIFFLAGS, card, on)
	return err
}

func (l links) hardwareAddr(card string) (net.HardwareAddr, error) {
	data, err := l.request("read hardware address of", unix.SIOCGIFHWADDR, card, nil)
	if err != nil {
		return nil, err
	}
	return net.HardwareAddr(data[2:8]), nil
}

func (l links) setHardwareAddr(card string, mac net.HardwareAddr) error {
	data := binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER)
	_, err := l.request("set hardware address of", unix.SIOCSIFHWADDR, card, append(data, mac...))
	return err
}

// setMTU changes nothing when the card has that MTU: a change resets the card.
func (l links) setMTU(card string, mtu int) error {
	now, err := l.request("read MTU of", unix.SIOCGIFMTU, card, nil)
	if err != nil || int(binary.NativeEndian.Uint32(now)) == mtu {
		return err
	}
	_, err = l.request("set MTU of", unix.SIOCSIFMTU, card, binary.NativeEndian.AppendUint32(nil, uint32(mtu)))
	return err
}

func (l links) setAddress(card string, p netip.Prefix) error {
	if _, err := l.request("set address of", unix.SIOCSIFADDR, card, socketAddress(p.Addr())); err != nil {
		return err
	}
	_, err := l.request("set network mask of", unix.SIOCSIFNETMASK, card, socketAddress(maskOf(p)))
	return err
}

// dropAddress takes the address from a card, and with it all routes over the card.
func (l links) dropAddress(card string) error {
	_, err := l.request("drop address of", unix.SIOCSIFADDR, card, socketAddress(netip.IPv4Unspecified()))
	return err
}

// addRoute adds a route over the card; one that is there already is fine.
func (l links) addRoute(card string, r route) error {
	var b [routeSize]byte
	flags := uint16(unix.RTF_UP)
	copy(b[routeDest:], socketAddress(r.dest.Masked().Addr()))
	copy(b[routeMask:], socketAddress(maskOf(r.dest)))
	if r.dest.Bits() == 32 {
		flags |= unix.RTF_HOST
	}
	if r.gateway.IsValid() {
		flags |= unix.RTF_GATEWAY
		copy(b[routeGateway:], socketAddress(r.gateway))
	}
	binary.NativeEndian.PutUint16(b[routeFlags:], flags)
	var name [unix.IFNAMSIZ]byte
	copy(name[:len(name)-1], card)
	// The structure holds a pointer as a number, which does not keep what it points to where it is.
	var pin runtime.Pinner
	pin.Pin(&name)
	defer pin.Unpin()
	p := unsafe.Pointer(&name) //nolint:gosec // G103: see above
	binary.NativeEndian.PutUint64(b[routeDevice:], uint64(uintptr(p)))
	if err := ioctl(uintptr(l.fd), unix.SIOCADDRT, b[:]); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add route to %s: %w", r.dest, err)
	}
	return nil
}

// socketAddress is an IPv4 address as a struct sockaddr_in.
func socketAddress(a netip.Addr) []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint16(b, unix.AF_INET)
	ip := a.As4()
	copy(b[addressSize:], ip[:])
	return b
}

func maskOf(p netip.Prefix) netip.Addr {
	return netip.AddrFrom4([4]byte(net.CIDRMask(p.Bits(), 32)))
}
