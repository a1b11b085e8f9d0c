package testrun

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

// runner is one run of the command.
type runner struct {
	*built

	cfg        Config
	flags      []string // Ginkgo's
	quarantine Quarantine

	descriptions map[string]string // of suites by import path
	units        []Unit
	chosen       []Spec
	fingerprint  string
	known        map[Spec]time.Duration

	starved bool // whether the kernel ran out of memory during the last run of a suite
	reports []types.Report
	results []Result
}

// prepare lists the suites' specs and decides which to run.
func (r *runner) prepare(ctx context.Context) error {
	for _, s := range r.suites {
		description, units, err := r.tools.list(ctx, s, r.flags, r.scratch)
		if err != nil {
			return err
		}
		r.descriptions[s.ImportPath] = description
		r.units = append(r.units, units...)
	}
	if err := r.timings(); err != nil {
		return err
	}
	return r.choose()
}

// timings takes the durations of earlier runs.
func (r *runner) timings() error {
	r.known = map[Spec]time.Duration{}
	for _, path := range r.cfg.Timings {
		reports, err := ReadReport(path)
		if err != nil {
			return usagef("--timings: %v", err)
		}
		for _, s := range r.suites {
			for _, report := range reports {
				if s.is(report.SuitePath) {
					addDurations(r.known, s.ImportPath, report)
				}
			}
		}
	}
	return nil
}

func addDurations(known map[Spec]time.Duration, pkg string, report types.Report) {
	for _, s := range report.SpecReports {
		if isSpec(s) && s.State == types.SpecStatePassed {
			known[Spec{Package: pkg, Text: s.FullText()}] = s.RunTime
		}
	}
}

// choose picks the specs of the shard or of the earlier failures.
func (r *runner) choose() error {
	all := flat(r.units)
	if len(all) == 0 {
		return usagef("no spec is left by the labels and flags in %s", strings.Join(r.cfg.Patterns, " "))
	}
	switch {
	case r.cfg.Rerun != "":
		return r.chooseFailed()
	case r.cfg.Shard.Count > 1:
		parts := Split(r.units, r.known, r.cfg.Shard.Count)
		r.chosen, r.fingerprint = parts[r.cfg.Shard.Index-1], Fingerprint(parts)
		say(r.cfg.Out, "shard %s of plan %s: %d of %d specs, about %v; every shard of the plan prints the same name",
			r.cfg.Shard, r.fingerprint, len(r.chosen), len(all), r.estimate().Round(time.Second))
	default:
		r.chosen = all
	}
	return nil
}

// estimate is how long the chosen specs took in earlier runs.
func (r *runner) estimate() (sum time.Duration) {
	usual := median(sorted(flat(r.units)), r.known)
	for _, s := range r.chosen {
		if d := r.known[s]; d > 0 {
			sum += d
		} else {
			sum += usual
		}
	}
	return sum
}

func (r *runner) chooseFailed() error {
	reports, err := ReadReport(r.cfg.Rerun)
	if err != nil {
		return usagef("--rerun: %v", err)
	}
	failures := 0
	for _, report := range reports {
		if !report.SuiteSucceeded {
			failures++
		}
	}
	var failed []Spec
	for _, s := range r.suites {
		failed = append(failed, failedIn(reports, s)...)
	}
	var gone []string
	for _, s := range failed {
		at := slices.IndexFunc(r.units, func(u Unit) bool { return slices.Contains(u, s) })
		if at < 0 {
			gone = append(gone, s.String())
			continue
		}
		r.chosen = append(r.chosen, r.units[at]...)
	}
	r.chosen = sorted(r.chosen)
	switch {
	case len(gone) > 0:
		return usagef("--rerun %s: specs failed there that these packages and labels do not have:\n  %s", r.cfg.Rerun,
			strings.Join(gone, "\n  "))
	case len(r.chosen) == 0 && failures > 0:
		return usagef("--rerun %s: the suites that failed there are none of %s", r.cfg.Rerun,
			strings.Join(r.cfg.Patterns, " "))
	}
	say(r.cfg.Out, "%d specs of %s failed and are run again", len(r.chosen), r.cfg.Rerun)
	return nil
}

// list prints the chosen specs.
func (r *runner) list() error {
	for _, s := range sorted(r.chosen) {
		if _, err := fmt.Fprintln(r.cfg.Out, s); err != nil {
			return err
		}
	}
	return nil
}

func flat(units []Unit) []Spec {
	var list []Spec
	for _, u := range units {
		list = append(list, u...)
	}
	return list
}

// of returns the specs of a suite.
func of(specs []Spec, suite Suite) []Spec {
	var list []Spec
	for _, s := range specs {
		if s.Package == suite.ImportPath {
			list = append(list, s)
		}
	}
	return sorted(list)
}
