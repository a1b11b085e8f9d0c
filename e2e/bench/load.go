package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// The product and its peer take turns, so that whatever else the machine does meanwhile falls on both.
const (
	turns = 10
	turn  = 300 * time.Millisecond
)

// rate counts work done and the time that it took.
type rate struct {
	count int
	took  time.Duration
}

func (r *rate) add(o rate) { r.count, r.took = r.count+o.count, r.took+o.took }

func (r rate) perSecond() float64 { return float64(r.count) / r.took.Seconds() }

// drive does work on several goroutines at once until d is over; every one finishes what it has begun.
func drive(ctx context.Context, workers int, d time.Duration, work func(worker int) error) (rate, error) {
	var count atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	begun := time.Now()
	for worker := range workers {
		wg.Go(func() {
			for time.Since(begun) < d && ctx.Err() == nil && errs[worker] == nil {
				if errs[worker] = work(worker); errs[worker] == nil {
					count.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return rate{int(count.Load()), time.Since(begun)}, errors.Join(append(errs, ctx.Err())...)
}

// spread does n pieces of work on several goroutines at once and returns how long each took.
func spread(ctx context.Context, workers, n int, work func(i int) error) (rate, []time.Duration, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	took := make([]time.Duration, n)
	begun := time.Now()
	for worker := range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				at := time.Now()
				if errs[worker] = work(i); errs[worker] != nil {
					return
				}
				took[i] = time.Since(at)
			}
		})
	}
	wg.Wait()
	return rate{n, time.Since(begun)}, took, errors.Join(append(errs, ctx.Err())...)
}
