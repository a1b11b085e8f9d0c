package libvirt

import (
	"strings"
	"sync"
)

// poolMark follows the prefix in the name of a domain that was made before anybody knew whose it would be. No machine's
// id has a dot.
const poolMark = "pool."

// names tells which domain is which machine's. A domain is named after its machine, but for one that was taken from
// the pool: a domain that runs cannot be renamed.
type names struct {
	prefix string
	mu     sync.Mutex
	taken  map[string]string // machine id to the name of a domain from the pool
	owner  map[string]string // and back
}

func newNames(prefix string) *names {
	return &names{prefix: prefix, taken: map[string]string{}, owner: map[string]string{}}
}

// domain is the name of a machine's domain, or of the one that it would have.
func (n *names) domain(id string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok := n.taken[id]; ok {
		return name
	}
	return n.prefix + id
}

// machine is the id of the machine that a domain is; ok is false for a domain that is none.
func (n *names) machine(domain string) (id string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.fromPool(domain) {
		return strings.CutPrefix(domain, n.prefix)
	}
	id, ok = n.owner[domain]
	return id, ok
}

// fromPool says whether a domain was made for the pool.
func (n *names) fromPool(domain string) bool { return strings.HasPrefix(domain, n.prefix+poolMark) }

// take makes a domain of the pool a machine's.
func (n *names) take(id, domain string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taken[id], n.owner[domain] = domain, id
}

// forget drops the name of a machine that is gone. Its last event still finds its way, until buried.
func (n *names) forget(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.taken, id)
}

// bury drops a domain that will have no more events.
func (n *names) bury(domain string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.owner, domain)
}
