package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrNoRoom means that the host had no memory for a start, for longer than is worth waiting.
var ErrNoRoom = errors.New("the host has no memory for a guest")

// turn is a kind of start. Each kind has a queue.
type turn int

const (
	coldTurn  turn = iota // a boot: more of them than cores starve each other's timers
	forkTurn              // a copy of a template, or a simulated guest
	spareTurn             // a copy that is made ready for later: it takes memory, and the cores when no guest starts
	turns
)

const (
	// lookAgain is the pause before a start that found no memory looks again.
	lookAgain = 250 * time.Millisecond
	// roomPatience is how long a start waits for memory while no other start is under way that could be the reason.
	roomPatience = time.Minute
)

// admission lets starts begin in order, when what is under way leaves the cores and the host the memory for one more.
// What a start takes is reserved until its guest serves: only then does the host's own word include its memory. The
// cores are given on before.
type admission struct {
	// A start takes so many parts of the cores, by its kind, of so many in all.
	parts  [turns]int
	cores  int
	freeMB func() (mb int, ok bool) // the host's available memory; without ok nothing waits for memory
	// marginMB of the free memory are never given away.
	marginMB int

	mu         sync.Mutex
	starting   [turns]int
	queues     [turns][]*waiter
	arrived    uint64 // waiters so far
	reservedMB int
	underway   int         // seats that are held by others than spares
	again      *time.Timer // runs while the first of a queue waits for memory
}

type waiter struct {
	mb      int
	number  uint64    // in the order of arrival
	refused time.Time // when there was first no memory for it, with nothing else under way
	admit   chan error
}

// newAdmission admits so many boots at once, or so many forks, or some of each that take no more together.
func newAdmission(cold, forks, marginMB int, freeMB func() (int, bool)) *admission {
	return &admission{
		parts: [turns]int{coldTurn: forks, forkTurn: cold}, cores: cold * forks, marginMB: marginMB, freeMB: freeMB,
	}
}

// seat is what a start that was admitted holds. It belongs to one goroutine.
type seat struct {
	a      *admission
	kind   turn
	mb     int
	left   bool
	onHost func()      // gives on a turn among all that boot guests on this host; nil for none
	bound  *time.Timer // of the turn; nil for none

	booted bool // its turn was given on; a's lock guards it, for bound
}

// enter waits for a turn. The error is ctx's, or ErrNoRoom.
func (a *admission) enter(ctx context.Context, kind turn, mb int) (*seat, error) {
	w := &waiter{mb: mb, admit: make(chan error, 1)}
	a.mu.Lock()
	a.arrived++
	w.number = a.arrived
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
	var short [turns]bool // kinds whose first one waits for memory
	for {
		kind, ok := a.next(short)
		if !ok {
			break
		}
		w := a.queues[kind][0]
		err, wait := a.room(w)
		if wait {
			short[kind] = true // others may need less
			continue
		}
		a.queues[kind] = a.queues[kind][1:]
		if err == nil {
			a.starting[kind]++
			a.reservedMB += w.mb
			a.underway += kind.guests()
		}
		w.admit <- err
	}
	if slices.Contains(short[:], true) && a.again == nil {
		a.again = time.AfterFunc(lookAgain, a.lookAgain)
	}
}

// next is the kind of the start whose turn it is, among those that are not short of memory: of whoever has waited
// longest, or nobody's while the cores have no room for that one. Smaller ones behind it would otherwise keep it
// waiting for ever. Spares come last, and only when all guests that started serve: making one ready takes as much of
// the processor as a guest's start, which somebody waits for.
func (a *admission) next(short [turns]bool) (kind turn, ok bool) {
	for k := range turns {
		if len(a.queues[k]) == 0 || short[k] || k == spareTurn && a.underway > 0 {
			continue
		}
		if !ok || k != spareTurn && a.queues[k][0].number < a.queues[kind][0].number {
			kind, ok = k, true
		}
	}
	return kind, ok && a.taken()+a.parts[kind] <= a.cores
}

// taken is what is under way of the cores.
func (a *admission) taken() (parts int) {
	for k, n := range a.starting {
		parts += n * a.parts[k]
	}
	return parts
}

// guestsStart says whether guests are on their way that do not serve yet.
func (a *admission) guestsStart() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.underway > 0
}

// guests is how many guests somebody waits for that a seat of this kind stands for.
func (k turn) guests() int {
	if k == spareTurn {
		return 0
	}
	return 1
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
	if s == nil || !s.giveOn() {
		return
	}
	if s.onHost != nil {
		s.onHost()
	}
}

// bootWithin gives the turn on after d, if it was not before.
func (s *seat) bootWithin(d time.Duration) {
	if s != nil && s.bound == nil {
		s.bound = time.AfterFunc(d, s.boot)
	}
}

func (s *seat) giveOn() (first bool) {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if s.booted {
		return false
	}
	s.booted = true
	s.a.starting[s.kind]--
	s.a.admit()
	return true
}

// leave gives everything back.
func (s *seat) leave() {
	if s == nil || s.left {
		return
	}
	s.boot()
	s.left = true
	if s.bound != nil {
		s.bound.Stop()
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.a.reservedMB -= s.mb
	s.a.underway -= s.kind.guests()
	s.a.admit()
}
