package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A DHCP request that is lost, because the node is not connected yet, is repeated soon: nothing else uses the wire.
const (
	dhcpFirstTimeout = 250 * time.Millisecond
	dhcpTries        = 5 // with doubling timeouts, 7.75 s; then all starts over
	maxHostname      = 63
)

// address is what the guest learns about itself by DHCP.
type address struct {
	prefix   netip.Prefix
	routes   []route
	mtu      int // 0: leave it
	hostname string
}

// route leads to dest, through gateway or, when that is invalid, directly over the wire.
type route struct {
	dest    netip.Prefix
	gateway netip.Addr
}

// configureNetwork brings up the loopback and the first network card, and returns the latter's address. It asks until
// it is answered: a guest may boot before its node has connected the wire. The lease is not renewed, for the address
// of an instance is its own as long as it runs.
func (m *machine) configureNetwork(ctx context.Context, l *loader) (string, error) {
	if err := linkUp("lo"); err != nil {
		return "", err
	}
	<-l.network
	card, err := findCard()
	if err != nil { // a card whose driver is loaded later
		l.wait()
		if card, err = findCard(); err != nil {
			return "", err
		}
	}
	if err := netlink.LinkSetUp(card); err != nil {
		return "", fmt.Errorf("bring up %s: %w", card.Attrs().Name, err)
	}
	for {
		got, err := askAddress(ctx, card.Attrs().Name)
		if err == nil {
			return got.prefix.Addr().String(), apply(card, got)
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("get an address: %w", ctx.Err())
		}
		m.logger.Warn("no address yet", "error", err)
	}
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}

// errNoCard means that the machine has no network card that the image's modules can drive.
var errNoCard = errors.New("no network card")

func findCard() (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network cards: %w", err)
	}
	for _, link := range links {
		if a := link.Attrs(); a.Flags&net.FlagLoopback == 0 && len(a.HardwareAddr) == 6 {
			return link, nil
		}
	}
	return nil, errNoCard
}

// askAddress does one DHCP exchange (RFC 2131).
func askAddress(ctx context.Context, card string) (address, error) {
	client, err := nclient4.New(card, nclient4.WithTimeout(dhcpFirstTimeout), nclient4.WithRetry(dhcpTries))
	if err != nil {
		return address{}, fmt.Errorf("ask for an address: %w", err)
	}
	defer client.Close()
	lease, err := client.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter,
		dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionHostName, dhcpv4.OptionInterfaceMTU))
	if err != nil {
		return address{}, fmt.Errorf("ask for an address: %w", err)
	}
	return readAnswer(lease.ACK)
}

// readAnswer takes what the guest needs out of a DHCP answer. Classless static routes, when there, take the place of
// the router option (RFC 3442).
func readAnswer(ack *dhcpv4.DHCPv4) (address, error) {
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || ip.IsUnspecified() {
		return address{}, errors.New("the answer holds no address")
	}
	bits := 32
	if mask := ack.SubnetMask(); mask != nil {
		if ones, size := mask.Size(); size == 32 {
			bits = ones
		}
	}
	got := address{prefix: netip.PrefixFrom(ip, bits)}
	for _, r := range ack.ClasslessStaticRoute() {
		dest, ok := prefixOf(r.Dest)
		if !ok {
			continue
		}
		gateway, _ := netip.AddrFromSlice(r.Router.To4())
		if gateway.IsUnspecified() {
			gateway = netip.Addr{}
		}
		got.routes = append(got.routes, route{dest, gateway})
	}
	if routers := ack.Router(); len(got.routes) == 0 && len(routers) > 0 {
		if gateway, ok := netip.AddrFromSlice(routers[0].To4()); ok {
			got.routes = []route{
				{dest: netip.PrefixFrom(gateway, 32)},
				{dest: netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway: gateway},
			}
		}
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= 576 {
		got.mtu = int(mtu)
	}
	got.hostname = hostname(ack.HostName(), ip)
	return got, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP.To4())
	ones, size := n.Mask.Size()
	return netip.PrefixFrom(ip, ones), ok && size == 32
}

// hostname is the name that the answer gives, when it is one, else EC2's form of the address: ip-10-64-0-7.
func hostname(given string, ip netip.Addr) string {
	given = strings.TrimRight(given, "\x00")
	valid := given != "" && len(given) <= maxHostname && strings.Trim(given, "-.") == given
	for _, c := range given {
		valid = valid && (c == '-' || c == '.' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z')
	}
	if valid {
		return given
	}
	return "ip-" + strings.ReplaceAll(ip.String(), ".", "-")
}

// apply gives the card its address, routes and MTU, and the machine its name.
func apply(card netlink.Link, got address) error {
	if got.mtu != 0 {
		if err := netlink.LinkSetMTU(card, got.mtu); err != nil {
			return fmt.Errorf("set MTU %d: %w", got.mtu, err)
		}
	}
	if err := netlink.AddrReplace(card, &netlink.Addr{IPNet: ipNet(got.prefix)}); err != nil {
		return fmt.Errorf("set address %s: %w", got.prefix, err)
	}
	for _, r := range got.routes {
		nl := &netlink.Route{LinkIndex: card.Attrs().Index, Dst: ipNet(r.dest)}
		if r.gateway.IsValid() {
			nl.Gw = r.gateway.AsSlice()
			nl.Flags = int(netlink.FLAG_ONLINK) // a gateway outside of the /32
		} else {
			nl.Scope = netlink.SCOPE_LINK
		}
		if err := netlink.RouteReplace(nl); err != nil {
			return fmt.Errorf("set route to %s: %w", r.dest, err)
		}
	}
	if err := unix.Sethostname([]byte(got.hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", os.NewSyscallError("sethostname", err))
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
