package play

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// API is what happens to a call of an operation: it returns after the time that the call is late, or when ctx ends. An
// error is the call's answer.
func (p *Player) API(ctx context.Context, operation string) error {
	if !p.busy.Load() {
		return nil
	}
	late, err := p.ofCall(operation)
	if waited := wait(ctx, late); waited != nil {
		return waited
	}
	return err
}

func (p *Player) ofCall(operation string) (late time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		if e.State != Active || e.info.Scope != fault.Operations || !e.Matches(operation) || !e.Happens(e.chance) {
			continue
		}
		switch e.Kind {
		case fault.APILatency:
			late += spread(e)
		case fault.APIThrottle:
			if e.limiter.Allow() {
				continue
			}
			err = model.Errorf("Throttling", 400, "Rate exceeded")
		case fault.APIError:
			err = model.Errorf(e.Param("code"), e.Number("status"), "%s", e.Param("message"))
		default:
			continue
		}
		p.happened(e, operation, map[string]string{"operation": operation})
	}
	return late, err
}

// Store is what happens to a question to the store: store.Trouble.
func (p *Player) Store(ctx context.Context, write bool) (committed bool, err error) {
	if !p.busy.Load() {
		return false, nil
	}
	late, committed, err := p.ofQuestion(write)
	if waited := wait(ctx, late); waited != nil {
		return false, waited
	}
	return committed, err
}

func (p *Player) ofQuestion(write bool) (late time.Duration, committed bool, err error) {
	what := "read"
	if write {
		what = "write"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		if e.State != Active || e.info.Scope != fault.Records || !e.Matches(what) || !e.Happens(e.chance) {
			continue
		}
		switch e.Kind {
		case fault.StoreSlow:
			late += spread(e)
		case fault.StoreUnavailable:
			err = fmt.Errorf("%w: an injected fault, %s", store.ErrUnreachable, e.ID)
		case fault.StoreFull:
			if !write {
				continue
			}
			err = fmt.Errorf("%w: an injected fault, %s", store.ErrFull, e.ID)
		case fault.StoreLeaderLost:
			if !write {
				continue
			}
			committed = e.Param("committed") == "true"
			err = fmt.Errorf("%w: an injected fault, %s", store.ErrLeaderLost, e.ID)
		default:
			continue
		}
		p.happened(e, what, map[string]string{"operation": what})
	}
	return late, committed, err
}

// Life is how long what a guest gets now is good, by a fault of a kind that has it expire; zero when there is none.
func (p *Player) Life(kind fault.Kind, g fault.Guest) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		if e.State == Active && e.Kind == kind && e.Covers(g) {
			p.happened(e, g.ID, map[string]string{"life": e.Param("life")})
			return e.Time("life")
		}
	}
	return 0
}

// spread draws how late something is.
func spread(e *entry) time.Duration {
	return Spread(e.chance, e.Time("delay"), e.Time("jitter"))
}

// Spread draws a time around delay, at most jitter away from it and never below zero.
func Spread(chance *rand.Rand, delay, jitter time.Duration) time.Duration {
	if jitter > 0 {
		delay += time.Duration((2*chance.Float64() - 1) * float64(jitter))
	}
	return max(delay, 0)
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
