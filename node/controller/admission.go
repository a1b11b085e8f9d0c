package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNoRoom means that the host had no memory for a start, for longer than is worth waiting.
var ErrNoRoom = errors.New("the host has no memory for a guest")

// turn is a kind of start. Each kind has a queue and a number of starts that may be under way at once.
type turn int

const (
	coldTurn turn = iota // a boot: more of them than cores starve each other's timers
	forkTurn             // a copy of a template, or a simulated guest
	turns
)

const (
	// lookAgain is the pause before a start that found no memory looks again.
	lookAgain = 250 * time.Millisecond
	// roomPatience is how long a start waits for memory while no other start is under way that could be the reason.
	roomPatience = time.Minute
)

// admission lets starts begin in order, when few enough of their kind are under way and the host has memory for one
// more. What a start takes is reserved until its guest serves: only then does the host's own word include it.
type admission struct {
	limits [turns]int
	// freeMB tells the host's available memory; ok is false when it is not known, and nothing waits for memory then.
	freeMB   func() (mb int, ok bool)
	marginMB int // of the free memory, never given away

	mu         sync.Mutex
	starting   [turns]int
	queues     [turns][]*waiter
	reservedMB int
	again      *time.Timer // runs while the first of a queue waits for memory
}

type waiter struct {
	mb      int
	refused time.Time // when there was first no memory for it, with nothing else under way
	admit   chan error
}

func newAdmission(cold, forks, marginMB int, freeMB func() (int, bool)) *admission {
	return &admission{limits: [turns]int{coldTurn: cold, forkTurn: forks}, marginMB: marginMB, freeMB: freeMB}
}

// seat is what a start that was admitted holds. It belongs to one goroutine.
type seat struct {
	a      *admission
	kind   turn
	mb     int
	booted bool
	left   bool
}

// enter waits for a turn. The error is ctx's, or ErrNoRoom.
func (a *admission) enter(ctx context.Context, kind turn, mb int) (*seat, error) {
	w := &waiter{mb: mb, admit: make(chan error, 1)}
	a.mu.Lock()
	a.queues[kind] = append(a.queues[kind], w)
	a.admit()
	a.mu.Unlock()
	s := &seat{a: a, kind: kind, mb: mb}
	select {
	case err := <-w.admit:
		if err != nil {
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	waiting := a.withdraw(kind, w)
	a.mu.Unlock()
	if !waiting && <-w.admit == nil {
		s.leave() // it was admitted at the same moment
	}
	return nil, ctx.Err()
}

// withdraw takes w out of its queue and says whether it was still there.
func (a *admission) withdraw(kind turn, w *waiter) bool {
	for i, other := range a.queues[kind] {
		if other == w {
			a.queues[kind] = append(a.queues[kind][:i:i], a.queues[kind][i+1:]...)
			a.admit() // the next may need less
			return true
		}
	}
	return false
}

// admit lets begin whoever may. The caller has the lock.
func (a *admission) admit() {
	short := false
	for kind := range turns {
		for len(a.queues[kind]) > 0 && a.starting[kind] < a.limits[kind] {
			w := a.queues[kind][0]
			err, wait := a.room(w)
			if wait {
				short = true
				break
			}
			a.queues[kind] = a.queues[kind][1:]
			if err == nil {
				a.starting[kind]++
				a.reservedMB += w.mb
			}
			w.admit <- err
		}
	}
	if short && a.again == nil {
		a.again = time.AfterFunc(lookAgain, a.lookAgain)
	}
}

func (a *admission) lookAgain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.again = nil
	a.admit()
}

// room says whether there is memory for w, or that w is to wait, or that it waited long enough.
func (a *admission) room(w *waiter) (err error, wait bool) { //nolint:revive // the error is the waiter's, not ours
	free, known := a.freeMB()
	if !known || free-a.reservedMB-a.marginMB >= w.mb {
		return nil, false
	}
	switch {
	case a.reservedMB > 0:
		w.refused = time.Time{} // what is under way may be given back
		return nil, true
	case w.refused.IsZero():
		w.refused = time.Now()
		return nil, true
	case time.Since(w.refused) < roomPatience:
		return nil, true
	}
	return fmt.Errorf("%w: %d MB are free, %d of them are kept, and it takes %d", ErrNoRoom, free, a.marginMB, w.mb), false
}

// boot gives the turn on: what the guest does from now on leaves room for another start. Its memory stays reserved.
func (s *seat) boot() {
	if s == nil || s.booted {
		return
	}
	s.booted = true
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.a.starting[s.kind]--
	s.a.admit()
}

// leave gives everything back.
func (s *seat) leave() {
	if s == nil || s.left {
		return
	}
	s.boot()
	s.left = true
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.a.reservedMB -= s.mb
	s.a.admit()
}
