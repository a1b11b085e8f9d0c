package invariant

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Ledger remembers what a cloud acknowledged: that something is there, or that it is gone. It is filled by whoever
// makes requests, and held against what the cloud then has. A request that failed leaves open whether it was carried
// out.
type Ledger struct {
	// List returns what the cloud has, by the names that were given to Begin.
	List func(ctx context.Context) (map[string]bool, error)

	mu      sync.Mutex
	entries map[string]entry
	pending map[string]int // requests under way
}

type entry struct {
	there, known bool
	said         string
	requests     int // that began or ended so far
}

var _ Invariant = (*Ledger)(nil)

// Name implements Invariant.
func (l *Ledger) Name() string { return "no acknowledged write lost" }

// Begin is called before a request that makes a thing or, if there is false, removes it. The returned function is told
// how the request ended.
func (l *Ledger) Begin(name string, there bool) (ended func(err error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries == nil {
		l.entries, l.pending = map[string]entry{}, map[string]int{}
	}
	l.pending[name]++
	l.entries[name] = entry{requests: l.entries[name].requests + 1}
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pending[name]--
		requests := l.entries[name].requests + 1
		if err != nil || l.pending[name] > 0 {
			l.entries[name] = entry{requests: requests}
			return
		}
		said := "acknowledged that it was made"
		if !there {
			said = "acknowledged that it was removed"
		}
		l.entries[name] = entry{there: there, known: true, said: said, requests: requests}
	}
}

// There returns the names of what is there for certain.
func (l *Ledger) There() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, e := range l.entries {
		if e.known && e.there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Unsure says that it is not known whether a thing is there.
func (l *Ledger) Unsure(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, asked := l.entries[name]
	return asked && !e.known
}

// Check holds what was acknowledged against what is there. It is for times without requests: one under way may be
// acknowledged before its thing is listed. Among is for other times.
func (l *Ledger) Check(ctx context.Context) error {
	l.mu.Lock()
	before := maps.Clone(l.entries)
	l.mu.Unlock()
	there, err := l.List(ctx)
	if err != nil {
		return fmt.Errorf("list what was acknowledged: %w", err)
	}
	return l.compare(before, there)
}

func (l *Ledger) compare(said map[string]entry, there map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(said)) {
		if e := said[name]; e.known && e.there != there[name] {
			now := "is there"
			if !there[name] {
				now = "is not there"
			}
			return Broken(l.Name(), "%s: the cloud %s, and it %s", name, e.said, now)
		}
	}
	return nil
}
