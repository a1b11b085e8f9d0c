package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	cardsFolder = "/sys/class/net"
	loopback    = "lo"
	maxHostname = 63
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

// configureNetwork brings up the loopback and the first network card, and returns the latter's address.
func (m *machine) configureNetwork(ctx context.Context, l *loader) (string, error) {
	card, err := bringUp(l)
	if err != nil {
		return "", err
	}
	return m.obtainAddress(ctx, card)
}

// bringUp brings up the loopback and the first network card, which has no address yet, and returns the card's name.
func bringUp(l *loader) (card string, err error) {
	links, err := openLinks()
	if err != nil {
		return "", err
	}
	defer links.close()
	if err := links.up(loopback); err != nil {
		return "", err
	}
	<-l.network
	card, err = findCard(cardsFolder)
	if err != nil { // a card whose driver is loaded later
		l.wait()
		if card, err = findCard(cardsFolder); err != nil {
			return "", err
		}
	}
	return card, links.up(card)
}

// obtainAddress asks until it is answered: a guest may boot before its node has connected the wire. The lease is not
// renewed, for the address of an instance is its own as long as it runs.
func (m *machine) obtainAddress(ctx context.Context, card string) (string, error) {
	links, err := openLinks()
	if err != nil {
		return "", err
	}
	defer links.close()
	mac, err := links.hardwareAddr(card)
	if err != nil {
		return "", err
	}
	for timeout := dhcpFirstTimeout; ; timeout = min(2*timeout, dhcpMaxTimeout) {
		got, err := askAddress(card, mac, timeout)
		if err == nil {
			return got.prefix.Addr().String(), links.apply(card, got)
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("get an address: %w", ctx.Err())
		}
		if !errors.Is(err, errNoAnswer) || timeout == dhcpMaxTimeout {
			m.logger.Warn("no address yet", "error", err)
		}
		if !errors.Is(err, errNoAnswer) && !sleep(ctx, timeout) {
			return "", fmt.Errorf("get an address: %w", ctx.Err())
		}
	}
}

// errNoCard means that the machine has no network card that the image's modules can drive.
var errNoCard = errors.New("no network card")

// findCard returns the first card's name, in the kernel's own order of names.
func findCard(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", fmt.Errorf("list network cards: %w", err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(folder, e.Name(), "address"))
		if err != nil || e.Name() == loopback {
			continue
		}
		if mac, err := net.ParseMAC(strings.TrimSpace(string(text))); err == nil && len(mac) == 6 {
			return e.Name(), nil
		}
	}
	return "", errNoCard
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
func (l links) apply(card string, got address) error {
	if got.mtu != 0 {
		if err := l.setMTU(card, got.mtu); err != nil {
			return err
		}
	}
	if err := l.setAddress(card, got.prefix); err != nil {
		return err
	}
	for _, r := range got.routes {
		if err := l.addRoute(card, r); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte(got.hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", os.NewSyscallError("sethostname", err))
	}
	return nil
}
