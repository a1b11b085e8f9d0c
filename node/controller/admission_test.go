package controller

import (
	"context"
	"errors"
	"log/slog"
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

// want compares who was admitted until now; those of one moment come in no order.
func (q *arrivals) want(names ...string) {
	q.t.Helper()
	synctest.Wait()
	q.a.mu.Lock()
	got := slices.Sorted(slices.Values(q.order))
	q.a.mu.Unlock()
	if diff := cmp.Diff(slices.Sorted(slices.Values(names)), got); diff != "" {
		q.t.Fatalf("admitted (-want +got):\n%s", diff)
	}
}

func TestStartsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newArrivals(t, 2, 6, 0, hostWith(-1)) // a boot takes as much as three forks
		q.come(coldTurn, 236, "a", "b", "c")
		q.want("a", "b")
		q.come(forkTurn, 45, "f1", "f2", "f3", "f4", "f5")
		q.want("a", "b") // nothing is left of the cores, and c was first
		q.seat("b").boot()
		q.want("a", "b", "c")
		q.seat("b").leave() // its turn was given on already
		q.want("a", "b", "c")
		q.seat("a").boot()
		q.want("a", "b", "c", "f1", "f2", "f3")
		q.come(coldTurn, 236, "d", "e")
		q.leave["e"]() // it is not wanted any more
		q.seat("f2").leave()
		q.seat("f2").leave()
		q.want("a", "b", "c", "f1", "f2", "f3", "f4")
		q.seat("c").leave()
		q.want("a", "b", "c", "f1", "f2", "f3", "f4", "f5") // what else is left is not enough for d
		q.come(forkTurn, 45, "f6")                          // which must not keep d from its turn
		q.want("a", "b", "c", "f1", "f2", "f3", "f4", "f5")
		q.seat("f1").leave()
		q.want("a", "b", "c", "f1", "f2", "f3", "f4", "f5", "d")
		q.seat("f3").leave()
		q.want("a", "b", "c", "f1", "f2", "f3", "f4", "f5", "d", "f6")
		if err := q.err("e"); !errors.Is(err, context.Canceled) {
			t.Errorf("the one that left got %v", err)
		}
		for _, name := range []string{"a", "d", "f4", "f5", "f6"} {
			q.seat(name).leave()
		}
		if diff := cmp.Diff([turns]int{}, q.a.starting); diff != "" || q.a.reservedMB != 0 {
			t.Errorf("%d MB are still reserved, starts under way (-want +got):\n%s", q.a.reservedMB, diff)
		}
	})
}

// What is kept ready for later takes memory like a guest, and waits until no guest does.
func TestSparesComeLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hostWith(600)
		q := newArrivals(t, 2, 6, 500, h)
		q.come(spareTurn, 45, "s1", "s2", "s3")
		q.want("s1", "s2") // a third would reach into the margin
		q.come(forkTurn, 45, "f1")
		h.free.Store(555)
		q.seat("s1").leave() // it is ready, and the host's word has it
		q.want("s1", "s2")
		q.seat("s2").leave()
		q.want("s1", "s2", "f1") // which came after s3
		q.come(coldTurn, 236, "a", "b")
		h.free.Store(2000)
		<-time.After(lookAgain)
		q.want("s1", "s2", "f1", "a") // b has no room on the cores
		q.seat("f1").leave()
		q.want("s1", "s2", "f1", "a", "b")
		q.seat("a").leave()
		q.seat("b").boot()
		q.want("s1", "s2", "f1", "a", "b") // b does not serve yet, and somebody waits for it
		if !q.a.guestsStart() {
			t.Error("no guest starts, while b does")
		}
		q.seat("b").leave()
		q.want("s1", "s2", "f1", "a", "b", "s3")
		if q.a.guestsStart() {
			t.Error("a spare is taken for a guest")
		}
		q.seat("s3").leave()
		if q.a.underway != 0 || q.a.reservedMB != 0 {
			t.Errorf("%d starts and %d MB are left", q.a.underway, q.a.reservedMB)
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

// A node's boots take turns with those of others on its host, and wait no longer than a boot may take.
func TestBootsTakeTheHostsTurns(t *testing.T) {
	for _, tt := range []struct {
		name  string
		kind  turn
		turn  func(ctx context.Context, given *int) (func(), error)
		given int // turns given on when the seat gives on its own
		waits time.Duration
	}{
		{"a boot", coldTurn, func(_ context.Context, given *int) (func(), error) { return func() { *given++ }, nil }, 1, 0},
		{"a fork", forkTurn, func(context.Context, *int) (func(), error) { panic("a fork asks for no turn") }, 0, 0},
		{"a host whose others never end", coldTurn, func(ctx context.Context, _ *int) (func(), error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, 0, 7 * time.Second},
		{"a host that has no turns to give", coldTurn, func(context.Context, *int) (func(), error) {
			return nil, errors.New("no such folder")
		}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				given, began := 0, time.Now()
				c := &Controller{log: slog.New(slog.DiscardHandler), admission: newAdmission(1, 3, 0, hostWith(-1).memory)}
				c.cfg.BootTimeout = 7 * time.Second
				c.cfg.BootTurn = func(ctx context.Context) (func(), error) { return tt.turn(ctx, &given) }
				c.cfg.Driver = newFakeDriver()
				s, err := c.takeTurn(t.Context(), tt.kind, 45)
				if err != nil || time.Since(began) != tt.waits {
					t.Fatalf("%v after %v, want a turn after %v", err, time.Since(began), tt.waits)
				}
				s.boot()
				s.leave()
				if given != tt.given || c.admission.taken() != 0 {
					t.Errorf("%d turns given on, want %d; %d parts are taken", given, tt.given, c.admission.taken())
				}
			})
		})
	}
}

func TestAStartThatIsNotWantedGivesUpTheHostsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Controller{log: slog.New(slog.DiscardHandler), admission: newAdmission(1, 3, 0, hostWith(-1).memory)}
		c.cfg.BootTimeout, c.cfg.Driver = time.Minute, newFakeDriver()
		c.cfg.BootTurn = func(ctx context.Context) (func(), error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := c.takeTurn(ctx, coldTurn, 236); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if c.admission.taken() != 0 || c.admission.reservedMB != 0 {
			t.Errorf("%d parts and %d MB are kept", c.admission.taken(), c.admission.reservedMB)
		}
	})
}
