package fault

import (
	"context"
	"slices"
	"time"
)

// Shrink finds a smallest part of a schedule that still fails: no fault of it can be left out. It is given one that
// fails; fails plays one and says whether it did, and is called some n·log n times for n faults. Each of what remains
// is then tried with half its length, again and again down to 50 ms. Beside the smallest schedule so far it returns the
// error of fails or ctx that ended the search early.
//
// The method is delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).
func Shrink(ctx context.Context, s Schedule, fails func(context.Context, Schedule) (bool, error)) (Schedule, error) {
	try := func(faults []Fault) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		smaller := s
		smaller.Faults = slices.Clone(faults)
		return fails(ctx, smaller)
	}
	faults, err := fewest(s.Faults, try)
	if err == nil {
		faults, err = shortest(faults, try)
	}
	s.Faults = faults
	return s, err
}

// fewest leaves faults out, first many at once, until none can be left out any more.
func fewest(faults []Fault, fails func([]Fault) (bool, error)) ([]Fault, error) {
	for parts := 2; len(faults) > 0; {
		parts = min(parts, len(faults))
		reduced := false
		for i := range parts {
			from, to := i*len(faults)/parts, (i+1)*len(faults)/parts
			rest := slices.Concat(faults[:from], faults[to:])
			broken, err := fails(rest)
			if err != nil {
				return faults, err
			}
			if broken {
				faults, reduced = rest, true
				break
			}
		}
		switch {
		case reduced:
			parts = max(parts-1, 2)
		case parts >= len(faults):
			return faults, nil
		default:
			parts *= 2
		}
	}
	return faults, nil
}

// shortestFault is the least that a fault's length is cut to.
const shortestFault = 50 * time.Millisecond

// shortest halves the faults' lengths for as long as it still fails.
func shortest(faults []Fault, fails func([]Fault) (bool, error)) ([]Fault, error) {
	for i := range faults {
		for faults[i].For.Duration > 2*shortestFault {
			shorter := slices.Clone(faults)
			shorter[i].For.Duration /= 2
			broken, err := fails(shorter)
			if err != nil {
				return faults, err
			}
			if !broken {
				break
			}
			faults = shorter
		}
	}
	return faults, nil
}
