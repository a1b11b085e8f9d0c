// Package invariant holds what must be so at every moment of a cloud's life, whatever goes wrong: Identities (nobody
// serves with an identity that has ended), Ledger (no acknowledged write is lost), Keys (no key outside its place), and
// Converges (some time after the last fault everything serves again). Watch checks some of them all along.
package invariant

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Invariant is one thing that must be so.
type Invariant interface {
	// Name is short, for reports.
	Name() string
	// Check returns a *BrokenError when it is not so; any other error says that it could not be looked at.
	Check(ctx context.Context) error
}

// BrokenError says that something is not as it must be.
type BrokenError struct {
	Invariant string
	Detail    string // for people; holds no secret
	At        time.Time
}

func (e *BrokenError) Error() string { return "invariant broken: " + e.Invariant + ": " + e.Detail }

// Broken is the error of a Check that found something.
func Broken(name, format string, args ...any) error {
	return &BrokenError{Invariant: name, Detail: fmt.Sprintf(format, args...), At: time.Now()}
}

// Watch checks invariants again and again, with a pause after each round, and hands each error to report, which may be
// called from another goroutine, one call at a time. stop makes it end and returns when it has.
func Watch(ctx context.Context, pause time.Duration, report func(error), all ...Invariant) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			for _, one := range all {
				if err := one.Check(ctx); err != nil && ctx.Err() == nil {
					report(err)
				}
			}
			timer.Reset(pause)
		}
	})
	return func() {
		cancel()
		working.Wait()
	}
}
