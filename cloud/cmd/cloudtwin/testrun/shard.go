package testrun

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shard is one of Count parts of a plan, counted from 1. The zero value is everything.
type Shard struct {
	Index, Count int
}

// ParseShard reads "2/5". Empty text is everything.
func ParseShard(text string) (Shard, error) {
	if text == "" {
		return Shard{}, nil
	}
	index, count, ok := strings.Cut(text, "/")
	i, err := strconv.Atoi(index)
	n, err2 := strconv.Atoi(count)
	if !ok || err != nil || err2 != nil || n < 1 || n > 1000 || i < 1 || i > n {
		return Shard{}, usagef("--shard %q: expected i/n with 1 <= i <= n <= 1000, such as 2/5", text)
	}
	return Shard{Index: i, Count: n}, nil
}

// String is what ParseShard reads.
func (s Shard) String() string {
	if s.Count == 0 {
		return "1/1"
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Count)
}

// Unit are specs that stay together: one alone, or those of an ordered container, which build upon each other.
type Unit []Spec

// Split deals units into n parts of about the same duration: the longest first, each to the part that has the least so
// far. durations are those of earlier runs; a spec without one counts as the median of the others. Every unit is in
// exactly one part, and the same units with the same durations make the same parts, in whatever order they come.
func Split(units []Unit, durations map[Spec]time.Duration, n int) [][]Spec {
	ordered := slices.Clone(units)
	var all []Spec
	for i, u := range ordered {
		ordered[i] = sorted(u)
		all = append(all, u...)
	}
	usual := median(sorted(all), durations)
	cost := func(u Unit) (sum time.Duration) {
		for _, s := range u {
			if d := durations[s]; d > 0 {
				sum += d
			} else {
				sum += usual
			}
		}
		return sum
	}
	slices.SortFunc(ordered, func(a, b Unit) int {
		return cmp.Or(cmp.Compare(cost(b), cost(a)), strings.Compare(a[0].String(), b[0].String()))
	})
	parts := make([][]Spec, n)
	sums := make([]time.Duration, n)
	for _, u := range ordered {
		least := slices.Index(sums, slices.Min(sums))
		parts[least] = append(parts[least], u...)
		sums[least] += cost(u)
	}
	return parts
}

// sorted returns each spec once, in an order that depends on nothing else.
func sorted(specs []Spec) []Spec {
	list := slices.Clone(specs)
	slices.SortFunc(list, func(a, b Spec) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(list)
}

func median(specs []Spec, durations map[Spec]time.Duration) time.Duration {
	var known []time.Duration
	for _, s := range specs {
		if d := durations[s]; d > 0 {
			known = append(known, d)
		}
	}
	if len(known) == 0 {
		return time.Second
	}
	slices.Sort(known)
	return known[len(known)/2]
}

// Fingerprint names a way to split: two machines that print the same one have dealt the same specs into the same
// parts, so that together they run every spec once.
func Fingerprint(parts [][]Spec) string {
	sum := sha256.New()
	for _, part := range parts {
		for _, s := range sorted(part) {
			fmt.Fprintln(sum, s)
		}
		fmt.Fprintln(sum, "--")
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}
