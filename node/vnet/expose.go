package vnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// exposeDialTimeout bounds how long a client waits for a guest that does not answer.
const exposeDialTimeout = 10 * time.Second

// exposure is a listener on the host's loopback whose connections end in a guest.
type exposure struct {
	net        *Network
	address    string
	instanceID string
	guestPort  int
	listener   net.Listener
	stop       context.CancelFunc
	work       sync.WaitGroup
}

// Expose makes a guest's TCP port reachable at hostAddress, an address and port of 127.0.0.0/8, until Unexpose or
// Detach. The guest sees the gateway as its client. Exposing the same again is harmless; another target at the same
// address is an error, as is an address that another process listens on.
func (n *Network) Expose(hostAddress, instanceID string, guestPort int) error {
	addr, err := netip.ParseAddrPort(hostAddress)
	if err != nil {
		return fmt.Errorf("expose: host address %q: %w", hostAddress, err)
	}
	if !addr.Addr().Is4() || !addr.Addr().IsLoopback() || addr.Port() == 0 {
		return fmt.Errorf("expose: host address %s: must be a port of 127.0.0.0/8", hostAddress)
	}
	if guestPort < 1 || guestPort > 65535 {
		return fmt.Errorf("expose %s: guest port %d, must be 1 to 65535", hostAddress, guestPort)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return fmt.Errorf("expose %s: %w", hostAddress, ErrClosed)
	}
	p, ok := n.ports[instanceID]
	if !ok {
		return fmt.Errorf("expose %s: %s: %w", hostAddress, instanceID, ErrNotAttached)
	}
	if old, ok := n.exposures[addr.String()]; ok {
		if old.instanceID == instanceID && old.guestPort == guestPort {
			return nil
		}
		return fmt.Errorf("expose %s: it leads to port %d of %s already", hostAddress, old.guestPort, old.instanceID)
	}
	// No context: it would be for names, of which there are none.
	l, err := n.cfg.Listen(context.Background(), "tcp4", addr.String())
	if err != nil {
		return fmt.Errorf("expose %s: %w", hostAddress, explainListen(err))
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &exposure{
		net: n, address: addr.String(), instanceID: instanceID, guestPort: guestPort, listener: l, stop: stop,
	}
	n.exposures[e.address] = e
	e.work.Go(func() { e.acceptAll(ctx, p) })
	return nil
}

// explainListen says what to do about the usual reasons.
func explainListen(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the port is busy, another process listens on it: %w", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("this user may not listen on a port below 1024: %w", err)
	default:
		return err
	}
}

// Unexpose closes a listener of Expose and its connections. Unknown addresses are ignored.
func (n *Network) Unexpose(hostAddress string) {
	if addr, err := netip.ParseAddrPort(hostAddress); err == nil {
		hostAddress = addr.String()
	}
	n.mu.Lock()
	e, ok := n.exposures[hostAddress]
	delete(n.exposures, hostAddress)
	n.mu.Unlock()
	if ok {
		e.close()
	}
}

func (e *exposure) close() {
	e.stop()
	_ = e.listener.Close()
	e.work.Wait()
}

// acceptAll accepts until the listener is closed. Beyond the limit clients wait in the host's backlog.
func (e *exposure) acceptAll(ctx context.Context, p *port) {
	slots := make(chan struct{}, e.net.cfg.MaxConnections)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		host, err := e.listener.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				// Too many open files, for instance: the listener is still there and the next may succeed.
				e.net.log.Warn("accept on exposed address", "address", e.address, "error", err)
				e.pause(ctx)
				<-slots
				continue
			}
			return
		}
		e.work.Go(func() {
			defer func() { <-slots }()
			e.serve(ctx, p, host)
		})
	}
}

func (e *exposure) pause(ctx context.Context) {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// serve connects one client with the guest. A client of a guest that refuses is reset, the nearest that an accepted
// connection can come to being refused itself.
func (e *exposure) serve(ctx context.Context, p *port, host net.Conn) {
	dialCtx, cancel := context.WithTimeout(ctx, exposeDialTimeout)
	defer cancel()
	guest, err := p.dialGuest(dialCtx, e.guestPort)
	if err != nil {
		e.net.log.Debug("exposed guest refuses", "instance", p.id, "port", e.guestPort, "error", err)
		reset(host)
		return
	}
	splice(ctx, guest, host)
}
