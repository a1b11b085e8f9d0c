package invariant

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAmongRequests(t *testing.T) {
	const patience = time.Second
	made := func(l *Ledger, name string) { l.Begin(name, true)(nil) }
	makeA, removeA := func(l *Ledger) { made(l, "a") }, func(l *Ledger) { l.Begin("a", false)(nil) }
	for name, c := range map[string]struct {
		// during happens while the cloud is asked for the first time; later is what it has from then on.
		before, during func(*Ledger)
		first, later   map[string]bool
		broken         bool
	}{
		"all is there": {before: func(l *Ledger) { made(l, "a") }, first: map[string]bool{"a": true}},
		"one is lost":  {before: func(l *Ledger) { made(l, "a") }, broken: true},
		"one is back": {before: func(l *Ledger) { made(l, "a"); l.Begin("a", false)(nil) },
			first: map[string]bool{"a": true}, later: map[string]bool{"a": true}, broken: true},
		"a reader is behind":  {before: func(l *Ledger) { made(l, "a") }, later: map[string]bool{"a": true}},
		"one is made now":     {during: func(l *Ledger) { made(l, "a") }},
		"one is removed now":  {before: makeA, during: removeA},
		"one is being made":   {before: func(l *Ledger) { l.Begin("a", true) }},
		"one was refused":     {before: func(l *Ledger) { l.Begin("a", true)(errors.New("no")) }},
		"one is asked for":    {before: func(l *Ledger) { made(l, "a"); l.Begin("a", false) }},
		"another one is lost": {before: makeA, during: func(l *Ledger) { made(l, "b") }, broken: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, asked := &Ledger{}, 0
				l.List = func(context.Context) (map[string]bool, error) {
					if asked++; asked == 1 {
						if c.during != nil {
							c.during(l)
						}
						return c.first, nil
					}
					if c.later == nil {
						return c.first, nil
					}
					return c.later, nil
				}
				if c.before != nil {
					c.before(l)
				}
				err := l.Among(patience).Check(t.Context())
				if _, broken := errors.AsType[*BrokenError](err); broken != c.broken || !broken && err != nil {
					t.Errorf("%v, want broken: %t", err, c.broken)
				}
			})
		})
	}
}

func TestAmongThatCannotLook(t *testing.T) {
	why := errors.New("an injected fault")
	l := &Ledger{List: func(context.Context) (map[string]bool, error) { return nil, why }}
	l.Begin("a", true)(nil)
	err := l.Among(time.Second).Check(t.Context())
	if _, broken := errors.AsType[*BrokenError](err); broken || !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}
