package sim

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestVirtualOrder: everything happens in the order of its virtual time, and nobody waits in real time.
func TestVirtualOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := SkipTime()
		hold := v.Enter()
		var happened []string // by one worker at a time: the clock sees to it, and the race detector to that
		var all sync.WaitGroup
		for _, w := range []struct {
			name  string
			hours []time.Duration
		}{{"a", []time.Duration{3, 3}}, {"b", []time.Duration{1, 1, 1, 1}}, {"c", []time.Duration{4}}} {
			leave := v.Enter()
			all.Go(func() {
				defer leave()
				for _, h := range w.hours {
					if err := v.Sleep(t.Context(), h*time.Hour); err != nil {
						t.Error(err)
					}
					happened = append(happened, w.name)
				}
			})
			synctest.Wait() // so that it is asleep before the next comes: that decides between equal times
		}
		began := time.Now()
		hold()
		all.Wait()
		// a at 3 and 6, b at 1, 2, 3 and 4, c at 4. At 3, a has slept for longer; at 4, c has.
		if want := []string{"b", "b", "a", "b", "c", "b", "a"}; !slices.Equal(happened, want) {
			t.Errorf("happened %v, want %v", happened, want)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s of real time", took)
		}
	})
}

func TestVirtualSleepEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := SkipTime()
		hold := v.Enter()
		leave := v.Enter()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Sleep(ctx, time.Hour) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := v.Sleep(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("no delay, ended context: got %v", err)
		}
		leave()
		// Nothing of the one who was interrupted is left: the next sleeps alone.
		if err := v.Sleep(t.Context(), time.Minute); err != nil {
			t.Error(err)
		}
		hold()
	})
}

func TestRealTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := RealTime().Sleep(t.Context(), time.Hour); err != nil || time.Since(began) != time.Hour {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := RealTime().Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
