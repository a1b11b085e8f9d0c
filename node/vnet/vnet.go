// Package vnet is the guests' virtual wire: every guest's network card is a point-to-point port into one userspace
// TCP/IP stack in the node process. Nothing of it touches the host's own network, so it needs no privileges, no
// bridge and no address of the host.
//
// A frame enters through a port and is checked against the identity that the cloud gave the guest (frame.go);
// ARP and DHCP are answered there and then (arp.go, dhcp.go); what no guest may send though it is its own is dropped
// (conduct.go), and drops are told (alarm.go); a packet for another guest is handed to that guest's port with its TTL
// decremented (route.go); a packet for an address of the node goes to the stack (link.go), where only registered
// services answer (service.go); for anything else the guest gets ICMP's "unreachable". From the host, guests are
// reached through listeners on its loopback (expose.go) and Dial, which wait for a guest that is not up yet (reach.go).
//
// Because of the checks a service may trust the port that a connection came through: InstanceFrom tells whose it is.
//
// Not in here: what the services answer (package imds), which guests there are (package controller). Start reading
// at Network and then port.go.
package vnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Errors that callers test for with errors.Is.
var (
	ErrClosed      = errors.New("network is closed")
	ErrNotAttached = errors.New("instance is not attached to the network")
	ErrAttached    = errors.New("instance is attached already")
	ErrAddressUsed = errors.New("address is used by another instance")
)

// Limits of a port's frames and packets.
const (
	// maxFrame is the longest frame that a port accepts, as long as QEMU's own buffers; a longer length field
	// closes the connection, since the stream cannot be trusted any more.
	maxFrame   = 65550
	defaultMTU = 1500
	minMTU     = 576   // RFC 791: what every host accepts
	maxMTU     = 65520 // a frame with its header stays below maxFrame

	timeWaitTimeout = 10 * time.Millisecond
)

// Config describes a network. The zero value is the network that cloudtwin's guests know.
type Config struct {
	Prefix  netip.Prefix // IPv4 network of the guests; zero means 10.64.0.0/16
	Gateway netip.Addr   // the node's own address on every port; zero means the first address of Prefix
	// MTU is the largest IP packet on the wire in bytes, 576 to 65520, told to guests by DHCP; 0 means 1500.
	MTU int
	// MaxConnections bounds the open connections of one guest to services, of one exposed address and of one
	// forward, each on its own; 0 means 1024. Beyond it new ones are refused.
	MaxConnections int
	// HandOver, if set, is offered every guest's connection to a Forward's target, for servers in this process. It
	// returns nil for a target that it does not know, which is then dialled, or what takes the connection over: it
	// must not wait for the connection's end, and closes it in the end.
	HandOver func(target string) func(conn net.Conn)
	// Dropped, if set, is told of an instance whose frames were dropped as none that a guest may send: how many since
	// it was attached, by reason (Counters.Dropped). It is told soon after the first, then ever more seldom while there
	// are more, down to once in ten minutes, and a last time when the instance is detached. It must neither wait nor
	// call Detach.
	Dropped func(instanceID string, reasons map[string]uint64)
	// Listen opens the host's addresses for Expose; nil means those of the kernel.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Logger *slog.Logger // nil means silence
}

// Validate reports all that is wrong with the configuration at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if !c.Prefix.Addr().Is4() || c.Prefix.Bits() > 30 {
		errs = append(errs, fmt.Errorf("prefix %s: must be IPv4 and at most 30 bits long", c.Prefix))
	} else if !usable(c.Prefix, c.Gateway) {
		errs = append(errs, fmt.Errorf("gateway %s: must be a host address in %s", c.Gateway, c.Prefix))
	}
	if c.MTU < minMTU || c.MTU > maxMTU {
		errs = append(errs, fmt.Errorf("MTU %d: must be %d to %d", c.MTU, minMTU, maxMTU))
	}
	if c.MaxConnections < 1 {
		errs = append(errs, fmt.Errorf("max connections %d: must not be negative", c.MaxConnections))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if !c.Prefix.IsValid() {
		c.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, 0, 0}), 16)
	}
	c.Prefix = c.Prefix.Masked()
	if !c.Gateway.IsValid() {
		c.Gateway = c.Prefix.Addr().Next()
	}
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 1024
	}
	if c.HandOver == nil {
		c.HandOver = func(string) func(net.Conn) { return nil }
	}
	if c.Listen == nil {
		c.Listen = (&net.ListenConfig{}).Listen
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// usable says whether a is a host address in p: neither the network's own nor its broadcast address.
func usable(p netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || !p.Contains(a) || a == p.Masked().Addr() {
		return false
	}
	next := a.Next()
	return next.IsValid() && p.Contains(next)
}

// Network is one node's wire. Its methods may be called from any goroutine.
type Network struct {
	cfg   Config
	log   *slog.Logger
	stack *stack.Stack
	mac   net.HardwareAddr // the gateway's, and of every address but the guest's own

	table *table

	mu        sync.Mutex
	closed    bool
	ports     map[string]*port     // by instance id
	exposures map[string]*exposure // by host address
	fates     map[string]Fate      // of impaired wires, by instance id
	nextNIC   tcpip.NICID
	work      sync.WaitGroup // every goroutine of the network
}

// New makes a network without guests and services.
func New(cfg Config) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure virtual network: %w", err)
	}
	cfg = cfg.withDefaults()
	n := &Network{
		cfg:       cfg,
		log:       cfg.Logger,
		mac:       gatewayMAC(cfg.Gateway),
		ports:     make(map[string]*port),
		table:     newTable(cfg.Gateway),
		exposures: make(map[string]*exposure),
	}
	s, err := newStack()
	if err != nil {
		return nil, fmt.Errorf("make network stack: %w", err)
	}
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, n.handleSYN)
	n.stack = s
	return n, nil
}

// gatewayMAC follows the way in which the cloud makes the guests' addresses, so it meets none of them.
func gatewayMAC(gateway netip.Addr) net.HardwareAddr {
	ip := gateway.As4()
	return net.HardwareAddr{0x02, 0x00, ip[0], ip[1], ip[2], ip[3]}
}

func newStack() (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	// RACK in this version of the stack stalls transfers under loss; plain SACK recovery does not.
	recovery := tcpip.TCPRecovery(0)
	// TIME_WAIT protects from segments that come late. Nothing overtakes anything on a port, and the stack drops a
	// SYN for a connection in this state when a service, not a listener, is behind it.
	timeWait := tcpip.TCPTimeWaitTimeoutOption(timeWaitTimeout)
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &recovery, &timeWait} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return nil, fmt.Errorf("set TCP option %T: %s", opt, err)
		}
	}
	return s, nil
}

// Close detaches all guests, ends all connections, listeners and services, and returns when nothing of the network
// runs any more. Closing twice is harmless.
func (n *Network) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		n.work.Wait()
		return nil
	}
	n.closed = true
	ids := make([]string, 0, len(n.ports))
	for id := range n.ports {
		ids = append(ids, id)
	}
	n.mu.Unlock()

	for _, id := range ids {
		n.Detach(id)
	}
	for _, s := range n.table.takeServices() {
		s.close()
	}
	n.stack.Close()
	n.work.Wait()
	n.stack.Wait()
	return nil
}

// port finds an attached instance's port.
func (n *Network) port(instanceID string) (*port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	p, ok := n.ports[instanceID]
	if !ok {
		return nil, fmt.Errorf("%s: %w", instanceID, ErrNotAttached)
	}
	return p, nil
}
