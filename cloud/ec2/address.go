package ec2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// errAddressesUsed means that the guests' network is full.
var errAddressesUsed = errors.New("no free private address")

// The guests' network is 10.64.0.0/16; the first sixteen addresses and the broadcast address are not given out.
const (
	firstAddress = 10<<24 | 64<<16 | 16
	lastAddress  = 10<<24 | 64<<16 | 0xfffe
)

// addressPool proposes private addresses. It goes round, so that an address that was given back is not used
// again at once. The store decides: an address is created there with its instance, or the launch tries another.
type addressPool struct {
	mu   sync.Mutex
	next uint32
}

// propose returns an address for which used is false.
func (p *addressPool) propose(used func(string) bool) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range lastAddress - firstAddress + 1 {
		if p.next < firstAddress || p.next > lastAddress {
			p.next = firstAddress
		}
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], p.next)
		p.next++
		if ip := netip.AddrFrom4(b); !used(ip.String()) {
			return ip, nil
		}
	}
	return netip.Addr{}, errAddressesUsed
}

// macOf returns the MAC address that goes with a private address: locally administered, then the IPv4 bytes.
func macOf(ip netip.Addr) string {
	b := ip.As4()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}
