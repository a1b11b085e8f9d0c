package invariant

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// Among is the ledger's invariant for times with requests: of what was acknowledged before the cloud was asked what it
// has, and about which no request was made since. A reader may be a moment behind; patience is how long.
func (l *Ledger) Among(patience time.Duration) Invariant { return among{l, patience} }

type among struct {
	ledger   *Ledger
	patience time.Duration
}

var _ Invariant = among{}

// Name implements Invariant.
func (a among) Name() string { return a.ledger.Name() }

// Check implements Invariant.
func (a among) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.patience+listTime)
	defer cancel()
	said, begun := a.ledger.settled(), time.Now()
	for {
		there, err := a.ledger.List(ctx)
		if err != nil {
			return fmt.Errorf("list what was acknowledged: %w", err)
		}
		said = a.ledger.unchanged(said)
		broken := a.ledger.compare(said, there)
		if broken == nil || time.Since(begun) >= a.patience {
			return broken
		}
		pause := time.NewTimer(lookAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// listTime bounds one list, and lookAgain is the pause before the next one.
const (
	listTime  = 5 * time.Second
	lookAgain = 50 * time.Millisecond
)

// settled is what was acknowledged, without things about which a request is under way.
func (l *Ledger) settled() map[string]entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := maps.Clone(l.entries)
	maps.DeleteFunc(said, func(name string, e entry) bool { return !e.known || l.pending[name] > 0 })
	return said
}

// unchanged leaves out of what was settled that about which requests were made since.
func (l *Ledger) unchanged(said map[string]entry) map[string]entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(said, func(name string, e entry) bool { return l.entries[name].requests != e.requests })
	return said
}
