package main

import (
	"cmp"
	"slices"
	"time"
)

// medianBy returns the middle one of an odd number of items, and the upper middle one of an even number.
func medianBy[T any, K cmp.Ordered](items []T, key func(T) K) T {
	sorted := slices.SortedFunc(slices.Values(items), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	return sorted[len(sorted)/2]
}

func median(times []time.Duration) time.Duration {
	return medianBy(times, func(d time.Duration) time.Duration { return d })
}

// percentile returns the time that p percent of times do not exceed, by nearest rank. It sorts times.
func percentile(times []time.Duration, p float64) time.Duration {
	slices.Sort(times)
	rank := int(float64(len(times))*p/100+0.999999) - 1
	return times[min(max(rank, 0), len(times)-1)]
}
