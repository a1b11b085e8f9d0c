package controller

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// host is a host whose memory a test sets.
type host struct{ free atomic.Int64 }

func hostWith(mb int) *host {
	h := &host{}
	h.free.Store(int64(mb))
	return h
}

func (h *host) memory() (int, bool) { return int(h.free.Load()), h.free.Load() >= 0 }

// arrivals starts one waiter after the other and tells in which order they were admitted.
type arrivals struct {
	t     *testing.T
	a     *admission
	seats map[string]*seat
	errs  map[string]error
	order []string
	leave map[string]context.CancelFunc
}

func newArrivals(t *testing.T, cold, forks, margin int, h *host) *arrivals {
	return &arrivals{
		t: t, a: newAdmission(cold, forks, margin, h.memory), seats: map[string]*seat{}, errs: map[string]error{},
		leave: map[string]context.CancelFunc{},
	}
}

func (q *arrivals) come(kind turn, mb int, names ...string) {
	for _, name := range names {
		ctx, cancel := context.WithCancel(q.t.Context())
		q.leave[name] = cancel
		go func() {
			s, err := q.a.enter(ctx, kind, mb)
			q.a.mu.Lock()
			defer q.a.mu.Unlock()
			if err != nil {
				q.errs[name] = err
				return
			}
			q.seats[name] = s
			q.order = append(q.order, name)
		}()
		synctest.Wait()
	}
}

// seat returns one's seat, after all that is under way has come to rest.
func (q *arrivals) seat(name string) *seat {
	synctest.Wait()
	q.a.mu.Lock()
	defer q.a.mu.Unlock()
	return q.seats[name]
}

func (q *arrivals) admitted() int {
	synctest.Wait()
	q.a.mu.Lock()
	defer q.a.mu.Unlock()
	return len(q.order)
}

func (q *arrivals) err(name string) error {
	synctest.Wait()
	q.a.mu.Lock()
	defer q.a.mu.Unlock()
	return q.errs[name]
}

func (q *arrivals) want(names ...string) {
	q.t.Helper()
	synctest.Wait()
	q.a.mu.Lock()
	got := slices.Clone(q.order)
	q.a.mu.Unlock()
	if diff := cmp.Diff(names, got); diff != "" {
		q.t.Fatalf("admitted (-want +got):\n%s", diff)
	}
}

func TestStartsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newArrivals(t, 2, 3, 0, hostWith(-1))
		q.come(coldTurn, 236, "a", "b", "c", "d")
		q.want("a", "b")
		q.come(forkTurn, 45, "f1", "f2", "f3", "f4") // has turns of its own
		q.want("a", "b", "f1", "f2", "f3")
		q.seat("b").boot()
		q.want("a", "b", "f1", "f2", "f3", "c")
		q.seat("b").leave() // its turn was given on already
		q.want("a", "b", "f1", "f2", "f3", "c")
		q.seat("f2").leave()
		q.seat("f2").leave()
		q.want("a", "b", "f1", "f2", "f3", "c", "f4")
		q.come(coldTurn, 236, "e", "f")
		q.leave["e"]() // it is not wanted any more
		synctest.Wait()
		q.seat("a").leave()
		q.seat("c").leave()
		q.want("a", "b", "f1", "f2", "f3", "c", "f4", "d", "f")
		if err := q.err("e"); !errors.Is(err, context.Canceled) {
			t.Errorf("the one that left got %v", err)
		}
		for _, name := range []string{"d", "f", "f1", "f3", "f4"} {
			q.seat(name).leave()
		}
		if diff := cmp.Diff([turns]int{}, q.a.starting); diff != "" || q.a.reservedMB != 0 {
			t.Errorf("%d MB are still reserved, starts under way (-want +got):\n%s", q.a.reservedMB, diff)
		}
	})
}

func TestStartsWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hostWith(1000)
		q := newArrivals(t, 4, 4, 500, h)
		q.come(coldTurn, 236, "a", "b", "c", "d")
		q.want("a", "b") // a third would reach into the margin
		q.seat("a").boot()
		q.want("a", "b") // it boots no more, but what it takes is not in the host's word yet
		h.free.Store(750)
		q.seat("a").leave()
		q.want("a", "b")
		h.free.Store(980) // another program gave some back; nobody tells us
		<-time.After(lookAgain)
		q.want("a", "b", "c")
		q.come(forkTurn, 45, "small") // the other kind's queue is no obstacle, its reservations are
		q.want("a", "b", "c")
		q.seat("b").leave()
		q.want("a", "b", "c", "d")
		h.free.Store(1100)
		<-time.After(lookAgain)
		q.want("a", "b", "c", "d", "small")
	})
}

func TestAStartThatNeverFindsMemoryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hostWith(600)
		q := newArrivals(t, 4, 4, 500, h)
		q.come(coldTurn, 236, "a", "b")
		<-time.After(roomPatience - time.Second)
		q.want()
		if err := q.err("a"); err != nil {
			t.Fatalf("given up too early: %v", err)
		}
		<-time.After(2 * time.Second)
		if a, b := q.err("a"), q.err("b"); !errors.Is(a, ErrNoRoom) || b != nil {
			t.Errorf("errors %v and %v, want ErrNoRoom for the first", a, b)
		}
		h.free.Store(5000)
		<-time.After(lookAgain)
		q.want("b")
	})
}

// A burst is a queue, and never more than the host has.
func TestABurstNeverTakesMoreThanThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const cost = 236
		h := hostWith(24000)
		q := newArrivals(t, 2, 8, 512, h)
		names := make([]string, 100)
		for i := range names {
			names[i] = string(rune('A'+i/26)) + string(rune('a'+i%26))
		}
		q.come(coldTurn, cost, names...)
		for i := range names[:90] {
			if n := q.admitted() - i; n != 2 {
				t.Fatalf("%d boots at once after %d", n, i)
			}
			h.free.Add(-cost) // it serves, and the host knows it
			if h.free.Load() < 512 {
				t.Fatalf("%d MB are left after %d", h.free.Load(), i)
			}
			q.seat(names[i]).leave()
		}
		q.want(names[:92]...)
		for _, cancel := range q.leave {
			cancel()
		}
	})
}
