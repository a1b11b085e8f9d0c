package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// MaxPrepared is how many machines of one template can be kept ready: each takes some 20 MB of the host's memory.
const MaxPrepared = 64

// pools are the machines that are ready to be taken, by their template. One goroutine fills them, one machine after
// the other and only while no start is under way, so that whoever waits for a machine goes first.
type pools struct {
	mu       sync.Mutex
	of       map[hypervisor.Template]*pool
	starting int           // starts under way
	lastDone time.Time     // when the last one ended
	work     chan struct{} // holds a token when there may be something to fill
	// admit waits for room for one more; nil for always.
	admit func(ctx context.Context, memoryMB int) (release func(), err error)
	// guestsStart says whether guests are on their way whose start has returned; nil for never.
	guestsStart func() bool
}

// pool is the machines of one template.
type pool struct {
	shape  hypervisor.Spec
	want   int
	spares []plan
	// stuck says that the last try failed. The next start or Prepare lets the pool try again.
	stuck bool
	// rehearsal is how new ones rehearse; failures counts those that came to nothing in a row.
	rehearsal *hypervisor.Rehearsal
	failures  int
}

func newPools() *pools {
	return &pools{of: map[hypervisor.Template]*pool{}, work: make(chan struct{}, 1)}
}

// begin counts a start, and done its end.
func (p *pools) begin() (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.starting--
		p.lastDone = time.Now()
		for _, pool := range p.of {
			pool.stuck = false
		}
		nudge(p.work)
	}
}

// set changes how many machines are kept, and returns those that are too many now.
func (p *pools) set(t hypervisor.Template, shape hypervisor.Spec, n int, r *hypervisor.Rehearsal) (surplus []plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer nudge(p.work)
	old := p.of[t]
	if old == nil {
		old = &pool{}
	}
	kept := old.spares
	if !sameShape(old.shape, shape) {
		kept = nil
	}
	kept = kept[:min(n, len(kept))]
	surplus = old.spares[len(kept):]
	if n == 0 {
		delete(p.of, t)
		return surplus
	}
	p.of[t] = &pool{shape: shape, want: n, spares: kept, rehearsal: r}
	return surplus
}

// take returns a machine for spec, or ok=false when none is ready.
func (p *pools) take(t hypervisor.Template, spec hypervisor.Spec) (spare plan, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pool := p.of[t]
	if pool == nil || len(pool.spares) == 0 || !sameShape(pool.shape, spec) ||
		hasNIC(pool.spares[0].spec) != hasNIC(spec) {
		return plan{}, false
	}
	spare, pool.spares = pool.spares[0], pool.spares[1:]
	return spare, true
}

// calm is how long the host is left to a guest that has just started, before a pool is filled again.
const calm = 1500 * time.Millisecond

// rest is how long it takes until pools may be filled, if nothing happens in the meantime.
func (p *pools) rest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, calm-time.Since(p.lastDone))
}

// next finds a pool to fill.
func (p *pools) next() (t hypervisor.Template, shape hypervisor.Spec, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.starting > 0 || time.Since(p.lastDone) < calm {
		return t, shape, false
	}
	for t, pool := range p.of {
		if !pool.stuck && len(pool.spares) < pool.want {
			return t, pool.shape, true
		}
	}
	return t, shape, false
}

// needed says whether the host is to be left to guests that start.
func (p *pools) needed() bool { return p.busy() || p.rest() > 0 }

// busy says whether a start is under way, or a guest on its way that was started.
func (p *pools) busy() bool {
	p.mu.Lock()
	starting, guestsStart := p.starting > 0, p.guestsStart
	p.mu.Unlock()
	return starting || guestsStart != nil && guestsStart() // which has a lock of its own
}

// maxFailures is after how many failed rehearsals in a row a pool does without.
const maxFailures = 2

// rehearsal is how a new machine rehearses; nil for not at all.
func (p *pools) rehearsal(t hypervisor.Template) *hypervisor.Rehearsal {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pool := p.of[t]; pool != nil && pool.failures < maxFailures {
		return pool.rehearsal
	}
	return nil
}

// rehearsed counts how rehearsals end.
func (p *pools) rehearsed(t hypervisor.Template, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch pool := p.of[t]; {
	case pool == nil:
	case failed:
		pool.failures++
	default:
		pool.failures = 0
	}
}

// ready is how many machines wait to be taken.
func (p *pools) ready() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.of {
		n += len(pool.spares)
	}
	return n
}

// put adds a machine. ok is false when it is not wanted any more.
func (p *pools) put(t hypervisor.Template, spare plan) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pool := p.of[t]
	if pool == nil || len(pool.spares) >= pool.want || !sameShape(pool.shape, spare.spec) {
		return false
	}
	pool.spares = append(pool.spares, spare)
	return true
}

// jam keeps a pool from trying again and again what does not work.
func (p *pools) jam(t hypervisor.Template) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pool := p.of[t]; pool != nil {
		pool.stuck = true
	}
}

// empty forgets all pools and returns their machines.
func (p *pools) empty() (spares []plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.of {
		spares = append(spares, pool.spares...)
	}
	clear(p.of)
	return spares
}

// shapeOf is what a machine has in common with all others of its template.
func shapeOf(s hypervisor.Spec) hypervisor.Spec {
	s.ID, s.Medium, s.ConsoleLog, s.NIC, s.VCPUs = "", "", "", hypervisor.NIC{}, max(s.VCPUs, 1)
	return s
}

func sameShape(a, b hypervisor.Spec) bool { return shapeOf(a) == shapeOf(b) }

func hasNIC(s hypervisor.Spec) bool { return s.NIC != hypervisor.NIC{} }

// Prepare keeps n machines, 0 to MaxPrepared, ready to be taken by Fork.
func (d *Driver) Prepare(ctx context.Context, spec hypervisor.Spec, t hypervisor.Template, n int,
	r *hypervisor.Rehearsal,
) error {
	spec = shapeOf(spec)
	complete := spec
	complete.ID, complete.ConsoleLog = "shape", "/shape"
	if err := complete.Validate(); err != nil {
		return fmt.Errorf("prepare machines: %w", err)
	}
	if n < 0 || n > MaxPrepared {
		return fmt.Errorf("prepare machines: %d: want 0 to %d", n, MaxPrepared)
	}
	if err := d.canFork(); err != nil {
		return fmt.Errorf("prepare machines: %w", err)
	}
	err := d.call(ctx, func() error { return d.discard(d.pools.set(t, spec, n, r)) })
	if err != nil {
		return fmt.Errorf("prepare machines: %w", err)
	}
	return nil
}

// discard ends machines of the pool.
func (d *Driver) discard(spares []plan) error {
	var errs []error
	for _, p := range spares {
		domain, err := d.lookup(p.name)
		if is(err, libvirt.ERR_NO_DOMAIN) {
			continue
		}
		if err == nil {
			err = errors.Join(d.destroy(domain, p.name, p.notes()), domain.Free())
		}
		errs = append(errs, err, removeFile(p.spec.ConsoleLog))
	}
	return errors.Join(errs...)
}
