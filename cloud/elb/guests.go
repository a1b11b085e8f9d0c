package elb

import (
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

// steady is how long an LBVM must have lived for its end to be no sign of trouble.
const steady = time.Minute

// guests remembers, for each load balancer, the live instances that carry its tag, and how often in a row things
// went wrong with it.
type guests struct {
	mu       sync.Mutex
	byKey    map[string]map[string]struct{}
	troubles map[string]trouble
}

type trouble struct {
	failures   int       // reconciles that failed, in a row
	shortLives int       // LBVMs that ended early, in a row
	notBefore  time.Time // the next launch
}

func (g *guests) init() {
	g.byKey = map[string]map[string]struct{}{}
	g.troubles = map[string]trouble{}
}

// note takes in whether an instance lives, and says whether that is new.
func (g *guests) note(key, id string, live bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, lived := g.byKey[key][id]
	if live {
		add(g.byKey, key, id)
	} else {
		drop(g.byKey, key, id)
	}
	return live != lived
}

func (g *guests) of(key string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return keysOf(g.byKey[key])
}

// failed counts a failure and returns the pause before the next try.
func (g *guests) failed(key string, cfg Config) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.troubles[key]
	t.failures++
	g.troubles[key] = t
	return cfg.backoff(t.failures)
}

func (g *guests) succeeded(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.troubles[key]
	t.failures = 0
	g.setLocked(key, t)
}

// lived counts the end of an LBVM.
func (g *guests) lived(key string, vm LBVM, cfg Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, t := cfg.Clock(), g.troubles[key]
	if now.Sub(vm.Launched) >= steady {
		t.shortLives, t.notBefore = 0, time.Time{}
	} else {
		t.shortLives++
		t.notBefore = now.Add(cfg.backoff(t.shortLives))
	}
	g.setLocked(key, t)
}

// wait returns how long the next launch has to wait; not positive when it need not.
func (g *guests) wait(key string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.troubles[key].notBefore.Sub(now)
}

// forget drops what is known of a load balancer that is gone.
func (g *guests) forget(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.troubles, key)
}

func (g *guests) setLocked(key string, t trouble) {
	if t == (trouble{}) {
		delete(g.troubles, key)
		return
	}
	g.troubles[key] = t
}

// backoff is the pause after the nth time, n from 1, that something went wrong.
func (c Config) backoff(n int) time.Duration {
	const most = 16 // doublings; more would overflow
	return min(c.RetryMin<<min(n-1, most), c.RetryMax)
}

// noteInstance takes in that an instance is there or has changed.
func (s *Service) noteInstance(inst ec2.Instance) {
	if s.ours(&inst) {
		key := inst.Tags[ownerTag]
		if !live(inst) {
			s.health.ended(inst.ID)
		}
		// A guest tells much in its life, and only its beginning and its end ask for something to be done. One that ended
		// before anybody heard of it must be replaced too: what comes fast is told once, as it is by then.
		if s.guests.note(key, inst.ID, live(inst)) || !live(inst) {
			s.queue.add(key)
		}
		return
	}
	for _, key := range s.view.using(inst.ID) {
		s.view.wake(key)
		if inst.State == ec2.Terminated {
			s.queue.add(key)
		}
	}
}
