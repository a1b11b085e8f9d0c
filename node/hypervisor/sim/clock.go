package sim

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Clock is what modelled delays pass by.
type Clock interface {
	// Enter says that somebody works who will sleep on this clock: until leave is called, time passes for nobody while
	// he does not sleep.
	Enter() (leave func())
	// Sleep returns when d has passed on this clock, or with ctx's error as soon as ctx ends. The caller has entered.
	Sleep(ctx context.Context, d time.Duration) error
}

// RealTime is a clock on which delays last as long as they say.
func RealTime() Clock { return realTime{} }

type realTime struct{}

func (realTime) Enter() (leave func()) { return func() {} }

func (realTime) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Virtual is a clock of its own: when all who work by it sleep, it jumps to the end of the one who is to wake first,
// and goes on when he sleeps again or has left. So everything happens in the order of its virtual time, as fast as the
// work allows. The zero value is ready for use.
type Virtual struct {
	mu       sync.Mutex
	now      time.Duration
	sleepers sleepers
	order    uint64 // of arrival, which decides between equal ends
	awake    int    // who entered and does not sleep
}

// SkipTime returns a new virtual clock.
func SkipTime() *Virtual { return &Virtual{} }

// Enter implements Clock.
func (v *Virtual) Enter() (leave func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.awake++
	return sync.OnceFunc(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.awake--
		v.wake()
	})
}

// Sleep implements Clock.
func (v *Virtual) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	s := &sleeper{woken: make(chan struct{})}
	v.mu.Lock()
	v.order++
	s.until, s.order = v.now+d, v.order
	heap.Push(&v.sleepers, s)
	v.awake--
	v.wake()
	v.mu.Unlock()
	select {
	case <-s.woken:
		return nil
	case <-ctx.Done():
		v.interrupt(s)
		return ctx.Err()
	}
}

// interrupt wakes a sleeper out of turn, unless it is awake by now.
func (v *Virtual) interrupt(s *sleeper) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.at >= 0 {
		heap.Remove(&v.sleepers, s.at)
		v.awake++
	}
}

// wake ends the first sleep if nobody is awake. The caller holds mu.
func (v *Virtual) wake() {
	if v.awake > 0 || len(v.sleepers) == 0 {
		return
	}
	s, _ := heap.Pop(&v.sleepers).(*sleeper)
	v.now = s.until
	v.awake++
	close(s.woken)
}

type sleeper struct {
	until time.Duration
	order uint64
	at    int // place in the heap; negative when not in it
	woken chan struct{}
}

// sleepers is a heap by the time of waking.
type sleepers []*sleeper

func (s sleepers) Len() int { return len(s) }

func (s sleepers) Less(i, j int) bool {
	if s[i].until != s[j].until {
		return s[i].until < s[j].until
	}
	return s[i].order < s[j].order
}

func (s sleepers) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = i, j
}

// Push implements heap.Interface.
func (s *sleepers) Push(x any) {
	one, _ := x.(*sleeper)
	one.at = len(*s)
	*s = append(*s, one)
}

// Pop implements heap.Interface.
func (s *sleepers) Pop() any {
	old := *s
	last := old[len(old)-1]
	old[len(old)-1] = nil
	last.at = -1
	*s = old[:len(old)-1]
	return last
}
