package testrun

import (
	"fmt"
	"math"
	"time"
)

// doubt is how likely it may be that a spec which still fails as often as before passes all the runs that are to show
// that it is mended.
const doubt = 0.05

// Record is what is known of a spec on one kind of guests.
type Record struct {
	Spec   Spec   `json:"spec"`
	Guests string `json:"guests"`
	// Runs and Failures are counted over the last maxRemembered runs that were the product's to pass or fail.
	Runs     int `json:"runs"`
	Failures int `json:"failures"`
	// Streak is how many runs passed since the last failure.
	Streak int `json:"streak"`
	// Infrastructure counts failures of the machine, which are in neither.
	Infrastructure int `json:"infrastructure,omitempty"`
	// Typical is the median duration of the last passes.
	Typical time.Duration `json:"typical"`
	// LastFailure is when it failed last, and Cause why.
	LastFailure time.Time `json:"lastFailure,omitzero"`
	Cause       string    `json:"cause,omitempty"`
}

// Rate is the part of its runs that failed, from 0 to 1.
func (r Record) Rate() float64 {
	if r.Runs == 0 {
		return 0
	}
	return float64(r.Failures) / float64(r.Runs)
}

// Flaky tells whether the spec has passed as well as failed.
func (r Record) Flaky() bool { return r.Failures > 0 && r.Failures < r.Runs }

// RunsNeeded is how many passes in a row it takes to believe that a spec which failed in failures of runs is mended:
// one that still fails as often would pass them all in less than 5 of 100 cases. 0 when it never failed.
func RunsNeeded(failures, runs int) int {
	switch {
	case failures <= 0 || runs <= 0:
		return 0
	case failures >= runs:
		return 1
	}
	p := float64(failures) / float64(runs)
	return int(math.Ceil(math.Log(doubt) / math.Log1p(-p)))
}

// Advice says what the numbers mean, in one line; empty when the spec never failed.
func (r Record) Advice() string {
	if r.Failures == 0 {
		return ""
	}
	needed := RunsNeeded(r.Failures, r.Runs)
	if !r.Flaky() {
		return fmt.Sprintf("failed in all of its %d runs: no flake; one pass shows that it is mended", r.Runs)
	}
	text := fmt.Sprintf("failed in %d of its last %d runs (%.1f %%): %d passes in a row are needed to believe a fix",
		r.Failures, r.Runs, 100*r.Rate(), needed)
	if r.Streak > 0 {
		text += fmt.Sprintf(", %d so far", r.Streak)
	}
	return text
}
