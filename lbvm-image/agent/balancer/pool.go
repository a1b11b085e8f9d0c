package balancer

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Backend is an instance registered with the load balancer.
type Backend struct {
	// InstanceID is i-….
	InstanceID string
	// Address is the instance's IP address.
	Address string
	// Report says that this load balancer VM is to tell the backend's health to the cloud.
	Report bool
}

// Pool is the set of backends and knows which of them are in service. It may be used from several goroutines.
type Pool struct {
	probe   prober
	changed chan struct{}

	ctx  context.Context
	stop context.CancelFunc
	wait sync.WaitGroup

	mu       sync.Mutex
	policy   HealthPolicy
	checking map[string]*checker

	inService atomic.Pointer[[]Backend]
	turn      atomic.Uint64
}

func newPool(dial DialFunc) *Pool {
	p := &Pool{probe: prober{dial: dial}, changed: make(chan struct{}, 1), checking: map[string]*checker{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.inService.Store(&[]Backend{})
	return p
}

// Set makes backends the registered ones, checked by policy. A backend that stays keeps its state; one whose address
// changed, and a new one, starts out of service. Requests under way to a backend that left go on.
func (p *Pool) Set(backends []Backend, policy HealthPolicy) {
	policy = policy.withDefaults()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	samePolicy := policy == p.policy
	p.policy = policy
	gone := p.checking
	p.checking = make(map[string]*checker, len(backends))
	for _, b := range backends {
		old := gone[b.InstanceID]
		stays := old != nil && old.backend.Address == b.Address
		if stays && samePolicy {
			old.backend.Report = b.Report
			p.checking[b.InstanceID] = old
			delete(gone, b.InstanceID)
			continue
		}
		if p.checking[b.InstanceID] != nil {
			continue
		}
		p.checking[b.InstanceID] = p.start(b, policy, stays && old.inService)
	}
	for _, c := range gone {
		c.stop()
	}
	p.publish()
}

// start begins to check a backend. The caller holds mu.
func (p *Pool) start(b Backend, policy HealthPolicy, inService bool) *checker {
	c := &checker{pool: p, backend: b, policy: policy, inService: inService}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(p.ctx)
	p.wait.Go(func() { c.run(ctx) })
	return c
}

// publish makes the list that Next chooses from, in the order of instance ids. The caller holds mu.
func (p *Pool) publish() {
	list := make([]Backend, 0, len(p.checking))
	for _, c := range p.checking {
		if c.inService {
			list = append(list, c.backend)
		}
	}
	slices.SortFunc(list, func(a, b Backend) int {
		switch {
		case a.InstanceID < b.InstanceID:
			return -1
		case a.InstanceID > b.InstanceID:
			return 1
		default:
			return 0
		}
	})
	p.inService.Store(&list)
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Next picks the backend whose turn it is among those in service, but for the one named except. False: there is none.
func (p *Pool) Next(except string) (Backend, bool) {
	list := *p.inService.Load()
	if len(list) == 0 {
		return Backend{}, false
	}
	// Taken modulo the length before any narrowing, so the turn may run over.
	at := int((p.turn.Add(1) - 1) % uint64(len(list)))
	if list[at].InstanceID == except {
		at = (at + 1) % len(list)
	}
	return list[at], list[at].InstanceID != except
}

// The states of a backend, in the API's words.
const (
	InService    = "InService"
	OutOfService = "OutOfService"
)

// States tells the state of each backend that is to be reported, by instance id.
func (p *Pool) States() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make(map[string]string, len(p.checking))
	for id, c := range p.checking {
		switch {
		case !c.backend.Report:
		case c.inService:
			states[id] = InService
		default:
			states[id] = OutOfService
		}
	}
	return states
}

// Changed receives a value after backends came, left or changed state; several changes may give one value.
func (p *Pool) Changed() <-chan struct{} { return p.changed }

// setState records a checker's verdict, unless the checker has been replaced meanwhile.
func (p *Pool) setState(c *checker, inService bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.checking[c.backend.InstanceID] != c || c.inService == inService {
		return
	}
	c.inService = inService
	p.publish()
}

// close stops all checks and waits for them.
func (p *Pool) close() {
	p.mu.Lock()
	p.stop()
	p.mu.Unlock()
	p.wait.Wait()
}
