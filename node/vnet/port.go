package vnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// PortConfig is what the cloud says about a guest's network card.
type PortConfig struct {
	InstanceID string
	MAC        string     // the guest's; ports may have equal ones
	IP         netip.Addr // the guest's, unique in the network
	Hostname   string     // told by DHCP; empty means none
	// Socket is the unix socket on which the guest listens (QEMU's -netdev stream,server=on). Each frame has its
	// length before it, four bytes big-endian.
	Socket string
	// Dial, if set, is used instead of Socket: how the node reaches a guest that is in its own process. It is
	// called again whenever a connection ends.
	Dial func(ctx context.Context) (net.Conn, error)
}

// Validate reports all that is wrong with the port at once.
func (c PortConfig) Validate() error {
	var errs []error
	if c.InstanceID == "" {
		errs = append(errs, errors.New("instance id: missing"))
	}
	if mac, err := net.ParseMAC(c.MAC); err != nil {
		errs = append(errs, fmt.Errorf("MAC: %w", err))
	} else if len(mac) != 6 || mac[0]&1 != 0 {
		errs = append(errs, fmt.Errorf("MAC %s: must be a unicast address of 6 bytes", c.MAC))
	}
	if !c.IP.Is4() {
		errs = append(errs, fmt.Errorf("IP %s: must be IPv4", c.IP))
	}
	if c.Dial == nil && c.Socket == "" {
		errs = append(errs, errors.New("socket: missing"))
	}
	if len(c.Hostname) > 253 {
		errs = append(errs, fmt.Errorf("hostname: %d bytes, at most 253", len(c.Hostname)))
	}
	return errors.Join(errs...)
}

// port is one guest's end of the wire. Its fields above the blank line never change.
type port struct {
	net       *Network
	id        string // instance id
	mac       [6]byte
	ip        netip.Addr
	ip4       [4]byte
	hostname  string
	dial      func(context.Context) (net.Conn, error)
	nic       tcpip.NICID
	link      *link
	forwarder *tcp.Forwarder // accepts connections to services, with this port's own limit of unfinished ones
	stop      context.CancelFunc
	stopped   chan struct{} // closed when no frame of the guest is under way any more

	out      queue
	counters counters
	alarm    alarm
	tap      atomic.Pointer[capture]
	fate     atomic.Pointer[Fate] // nil while the wire is perfect
	late     late

	mu       sync.Mutex
	detached bool
	conns    map[*guestConn]struct{} // ended by Detach
	serving  int                     // connections to services, at most Config.MaxConnections
	up       chan struct{}           // closed while the guest is connected
	answers  chan struct{}           // closed when the guest, since it is connected, used its address
	heard    atomic.Bool             // answers is closed
}

// maxHandshakes bounds a guest's unfinished connection attempts to services; more are dropped and come again.
const maxHandshakes = 64

// Attach gives a guest a port and returns at once; the node then dials the guest's socket until it answers, and again
// whenever the connection ends, until Detach or Close. ctx is for Attach itself, not for the port's life.
// ErrAttached, ErrAddressUsed, ErrClosed.
func (n *Network) Attach(ctx context.Context, cfg PortConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("attach %s: %w", cfg.InstanceID, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("attach %s: %w", cfg.InstanceID, err)
	}
	if !usable(n.cfg.Prefix, cfg.IP) || cfg.IP == n.cfg.Gateway {
		return fmt.Errorf("attach %s: IP %s is no guest address of %s", cfg.InstanceID, cfg.IP, n.cfg.Prefix)
	}
	mac, err := net.ParseMAC(cfg.MAC)
	if err != nil {
		return fmt.Errorf("attach %s: %w", cfg.InstanceID, err)
	}
	if bytes.Equal(mac, n.mac) {
		return fmt.Errorf("attach %s: MAC %s is the gateway's", cfg.InstanceID, cfg.MAC)
	}
	p := &port{
		net: n, id: cfg.InstanceID, mac: [6]byte(mac), ip: cfg.IP, ip4: cfg.IP.As4(),
		hostname: cfg.Hostname, dial: cfg.Dial, stopped: make(chan struct{}),
		conns: make(map[*guestConn]struct{}), up: make(chan struct{}),
		answers: make(chan struct{}),
	}
	if p.dial == nil {
		p.dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", cfg.Socket)
		}
	}
	p.out.init()
	p.link = newLink(p, n.cfg.MTU)
	p.forwarder = tcp.NewForwarder(n.stack, 0, maxHandshakes, p.accept)
	if err := n.plug(p); err != nil {
		return fmt.Errorf("attach %s: %w", cfg.InstanceID, err)
	}
	return nil
}

// plug registers the port everywhere and starts it.
func (n *Network) plug(p *port) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	if _, ok := n.ports[p.id]; ok {
		return ErrAttached
	}
	if other := n.table.guest(p.ip); other != nil {
		return fmt.Errorf("%s, by %s: %w", p.ip, other.id, ErrAddressUsed)
	}
	n.nextNIC++
	p.nic = n.nextNIC
	if err := n.addNIC(p); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	n.ports[p.id] = p
	p.impair(n.fates[p.id])
	n.table.addGuest(p)
	n.work.Go(func() { p.run(ctx) })
	return nil
}

// addNIC makes the stack's side of the port: the node's addresses on it and the route to the guest.
func (n *Network) addNIC(p *port) error {
	if err := n.stack.CreateNICWithOptions(p.nic, p.link, stack.NICOptions{Name: p.id}); err != nil {
		return fmt.Errorf("make network interface: %s", err)
	}
	for _, addr := range n.table.addresses() {
		how := stack.NeverPrimaryEndpoint
		if addr == n.cfg.Gateway {
			how = stack.CanBePrimaryEndpoint // what Dial's connections come from
		}
		if err := n.addAddress(p.nic, addr, how); err != nil {
			_ = n.stack.RemoveNIC(p.nic)
			return err
		}
	}
	host := tcpip.AddrFrom4(p.ip4)
	n.stack.AddRoute(tcpip.Route{Destination: host.WithPrefix().Subnet(), NIC: p.nic})
	return nil
}

// Detach takes a guest off the wire: its connections, exposed addresses and captures end. When it returns, no
// frame of the guest is under way any more, so its address may be given to another. Unknown ids are ignored.
func (n *Network) Detach(instanceID string) {
	n.mu.Lock()
	p, ok := n.ports[instanceID]
	if !ok {
		n.mu.Unlock()
		return
	}
	delete(n.ports, instanceID)
	var exposed []*exposure
	for addr, e := range n.exposures {
		if e.instanceID == instanceID {
			delete(n.exposures, addr)
			exposed = append(exposed, e)
		}
	}
	n.mu.Unlock()

	p.stop()
	for _, e := range exposed {
		e.close()
	}
	<-p.stopped
	p.late.end()
	p.alarm.end(p)
	p.endConnections()
	n.stack.RemoveRoutes(func(r tcpip.Route) bool { return r.NIC == p.nic })
	_ = n.stack.RemoveNIC(p.nic) // the only error is that it is gone
	p.tap.Store(nil)
	// Last, so that nobody gets this address while anything above still knows it as this guest's.
	n.table.removeGuest(p)
}

// Redial intervals: a guest that is being started answers within milliseconds of its socket's appearance, one that
// stays away is not worth more than a few tries a second.
const (
	redialFirst = 2 * time.Millisecond
	redialLast  = 250 * time.Millisecond
)

// run keeps the port connected until ctx ends.
func (p *port) run(ctx context.Context) {
	defer close(p.stopped)
	wait := redialFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		conn, err := p.dial(ctx)
		if err == nil {
			wait = redialFirst
			p.net.log.Debug("guest connected", "instance", p.id)
			err = p.converse(ctx, conn)
			p.net.log.Debug("guest disconnected", "instance", p.id, "reason", err)
		}
		timer.Reset(wait)
		wait = min(wait*3/2+time.Millisecond, redialLast)
	}
}

// converse moves frames over one connection until it ends, and says why.
func (p *port) converse(ctx context.Context, conn net.Conn) error {
	p.counters.connects.Add(1)
	if f, ok := conn.(Framer); ok {
		return p.converseFrames(ctx, f)
	}
	p.out.open(nil)
	p.setConnected(true)
	ended := context.AfterFunc(ctx, func() { _ = conn.Close() })
	writer := make(chan error, 1)
	go func() {
		err := p.out.drainTo(conn, p)
		_ = conn.Close() // a guest that takes nothing in is gone: end the reader too
		writer <- err
	}()
	err := p.readFrames(conn)
	p.setConnected(false)
	ended()
	_ = conn.Close()
	p.out.shut()
	return errors.Join(err, <-writer)
}

func (p *port) endConnections() {
	p.mu.Lock()
	p.detached = true
	conns := p.conns
	p.conns = make(map[*guestConn]struct{})
	p.mu.Unlock()
	for c := range conns {
		c.abort()
	}
}
