package vnet

import (
	"net/netip"
	"sync"
)

// table is what the network looks up for every packet. It has a lock of its own, which is held for moments only.
type table struct {
	mu       sync.RWMutex
	guests   map[netip.Addr]*port
	local    map[netip.Addr]struct{} // the node's own addresses
	services map[netip.AddrPort]*service
}

func newTable(gateway netip.Addr) *table {
	return &table{
		guests:   make(map[netip.Addr]*port),
		local:    map[netip.Addr]struct{}{gateway: {}},
		services: make(map[netip.AddrPort]*service),
	}
}

// guest returns the port behind an address, or nil.
func (t *table) guest(a netip.Addr) *port {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.guests[a]
}

func (t *table) addGuest(p *port) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.guests[p.ip] = p
}

func (t *table) removeGuest(p *port) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.guests, p.ip)
}

// isLocal says whether an address is the node's own.
func (t *table) isLocal(a netip.Addr) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.local[a]
	return ok
}

// service returns what listens on an address, or nil.
func (t *table) service(a netip.AddrPort) *service {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.services[a]
}

// setService puts s in place of what is at its address, which it returns.
func (t *table) setService(s *service) (old *service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old = t.services[s.addr]
	t.services[s.addr] = s
	t.local[s.addr.Addr()] = struct{}{}
	return old
}

// takeServices empties the list of services and returns them.
func (t *table) takeServices() []*service {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*service, 0, len(t.services))
	for _, s := range t.services {
		all = append(all, s)
	}
	clear(t.services)
	return all
}

// addresses returns the node's own addresses.
func (t *table) addresses() []netip.Addr {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]netip.Addr, 0, len(t.local))
	for a := range t.local {
		all = append(all, a)
	}
	return all
}
