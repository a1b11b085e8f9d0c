package elb

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// errAddressesUsed means that so many addresses are taken that none was found by trying.
var errAddressesUsed = errors.New("no free load balancer address")

// proposeAddress returns a random address of prefix. Random, because several clouds on one host share its
// loopback and know nothing of each other; the store decides whether this cloud has given it out already.
func proposeAddress(prefix netip.Prefix) (netip.Addr, error) {
	var b [4]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return netip.Addr{}, fmt.Errorf("choose address: %w", err)
		}
		base := prefix.Masked().Addr().As4()
		host := uint32(1)<<(32-prefix.Bits()) - 1
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(base[:])|binary.BigEndian.Uint32(b[:])&host)
		// Networks' own and broadcast addresses confuse people, if not Linux; tiny prefixes have little else.
		if prefix.Bits() > 24 || (b[3] != 0 && b[3] != 255) {
			return netip.AddrFrom4(b), nil
		}
	}
}

// exposures returns what of an LBVM is to be reachable on the host, in the order of the listeners. A port that
// stands for itself wins over one that was moved; that one moves on by thousands.
func exposures(lb *LoadBalancer, unprivilegedPorts bool) []ec2.Exposure {
	taken := map[int]bool{}
	for _, l := range lb.Listeners {
		if ec2.HostPort(l.Port, unprivilegedPorts) == l.Port {
			taken[l.Port] = true
		}
	}
	list := make([]ec2.Exposure, 0, len(lb.Listeners))
	for _, l := range lb.Listeners {
		port := ec2.HostPort(l.Port, unprivilegedPorts)
		if port != l.Port {
			for taken[port] {
				port += 1000
			}
			taken[port] = true
		}
		list = append(list, ec2.Exposure{
			HostAddress: net.JoinHostPort(lb.Address, strconv.Itoa(port)), GuestPort: l.Port,
		})
	}
	return list
}

// sameExposures compares without regard to order.
func sameExposures(a, b []ec2.Exposure) bool {
	if len(a) != len(b) {
		return false
	}
	for _, e := range a {
		if !slices.Contains(b, e) {
			return false
		}
	}
	return true
}
