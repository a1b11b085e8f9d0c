package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	defaultMTU  = 1500
	listenQueue = 128
	// linkAddresses is how many guests share an interface of the stack: an interface costs some KB, and the stack
	// looks through all its addresses for each packet.
	linkAddresses = 32
)

// network is the TCP/IP of all guests of one driver. A stack costs more than everything else of a guest, so they share
// one, with interfaces that have many of their addresses each. Each guest is bound to its own: what it sends leaves by
// its own card, whatever the addressee, and only what its own card received for its own address gets in.
type network struct {
	stack *stack.Stack
	pump  *pump
	mtu   atomic.Uint32

	mu    sync.RWMutex
	nics  map[[4]byte]*nic // by address
	links []*link
}

func newNetwork() (*network, error) {
	n := &network{nics: map[[4]byte]*nic{}}
	n.mtu.Store(defaultMTU)
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, icmp.NewProtocol4},
	})
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	recovery := tcpip.TCPRecovery(0) // as in vnet: RACK of this version stalls under loss
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &recovery} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return nil, fmt.Errorf("make the guests' network stack: option %T: %s", opt, err)
		}
	}
	n.pump = newPump()
	return n, nil
}

func (n *network) close() {
	n.pump.close()
	n.stack.Close()
	n.stack.Wait()
}

// errAddressUsed means that another guest of the driver has the address still.
var errAddressUsed = errors.New("the address is another guest's")

// add gives a card its address, on one of the links.
func (n *network) add(c *nic, ip [4]byte) (*link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nics[ip] != nil {
		return nil, errAddressUsed
	}
	l, err := n.roomyLink()
	if err != nil {
		return nil, err
	}
	addr := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(ip).WithPrefix()}
	if err := n.stack.AddProtocolAddress(l.id, addr, stack.AddressProperties{}); err != nil {
		return nil, fmt.Errorf("take address: %s", err)
	}
	l.addresses++
	n.nics[ip] = c
	return l, nil
}

// roomyLink returns a link with room for another address. The caller holds mu.
func (n *network) roomyLink() (*link, error) {
	for _, l := range slices.Backward(n.links) {
		if l.addresses < linkAddresses {
			return l, nil
		}
	}
	l := &link{network: n, id: tcpip.NICID(len(n.links) + 1)}
	if err := n.stack.CreateNIC(l.id, l); err != nil {
		return nil, fmt.Errorf("make network interface: %s", err)
	}
	n.stack.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: l.id})
	n.links = append(n.links, l)
	return l, nil
}

func (n *network) drop(c *nic, l *link, ip [4]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nics[ip] == c {
		delete(n.nics, ip)
		l.addresses--
		_ = n.stack.RemoveAddress(l.id, tcpip.AddrFrom4(ip)) // the only error is that it is gone
	}
}

func (n *network) nic(ip [4]byte) *nic {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.nics[ip]
}

// dial connects from a card's address.
func (n *network) dial(ctx context.Context, c *nic, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !to.Addr().Is4() {
		return nil, fmt.Errorf("dial %s: want an IPv4 address and a port", address)
	}
	from, err := c.endpoint()
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	wq := new(waiter.Queue)
	ep, terr := n.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, wq)
	if terr != nil {
		return nil, fmt.Errorf("dial %s: %s", address, terr)
	}
	if err := n.connect(ctx, c, ep, wq, from, to); err != nil {
		ep.Abort()
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return c.track(wq, ep)
}

func (n *network) connect(
	ctx context.Context, c *nic, ep tcpip.Endpoint, wq *waiter.Queue, from tcpip.FullAddress, to netip.AddrPort,
) error {
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if err := ep.Bind(from); err != nil {
		return dialError(err)
	}
	err := ep.Connect(tcpip.FullAddress{NIC: from.NIC, Addr: tcpip.AddrFrom4(to.Addr().As4()), Port: to.Port()})
	if _, started := err.(*tcpip.ErrConnectStarted); started {
		select {
		case <-writable:
			err = ep.LastError()
		case <-ctx.Done():
			return ctx.Err()
		case <-c.removed:
			return errNoNetwork
		}
	}
	if err != nil {
		return dialError(err)
	}
	return nil
}

// dialError makes the stack's error the one that the kernel would give.
func dialError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused, *tcpip.ErrConnectionReset, *tcpip.ErrConnectionAborted:
		return syscall.ECONNREFUSED
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	default:
		return errors.New(err.String())
	}
}

// listen opens a port of a card's address; address is ":PORT".
func (n *network) listen(c *nic, address string) (net.Listener, error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	own, err := c.endpoint()
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	own.Port = uint16(port)
	wq := new(waiter.Queue)
	ep, terr := n.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, wq)
	if terr != nil {
		return nil, fmt.Errorf("listen on %s: %s", address, terr)
	}
	// As Go does for a kernel's: connections of before, which wait for their ends, do not keep the port from opening. A
	// machine that is rebooted has them, too, since all guests share the stack.
	ep.SocketOptions().SetReuseAddress(true)
	terr = ep.Bind(own)
	if terr == nil {
		terr = ep.Listen(listenQueue)
	}
	if terr != nil {
		ep.Close()
		if _, used := terr.(*tcpip.ErrPortInUse); used {
			return nil, fmt.Errorf("listen on %s: %w", address, syscall.EADDRINUSE)
		}
		return nil, fmt.Errorf("listen on %s: %s", address, terr)
	}
	return c.serve(wq, ep, &net.TCPAddr{IP: own.Addr.AsSlice(), Port: int(port)})
}
