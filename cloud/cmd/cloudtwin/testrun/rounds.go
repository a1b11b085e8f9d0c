package testrun

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/e2e/twin/verdict"
)

// all runs every round, writes the reports and tells who has to act.
func (r *runner) all(ctx context.Context) error {
	var stopped error
	for round := 1; ; round++ {
		if r.rounds() != 1 {
			say(r.cfg.Out, "round %d", round)
		}
		results, err := r.round(ctx, round)
		r.results = append(r.results, results...)
		if err != nil {
			stopped = err
			break
		}
		bad := slices.ContainsFunc(results, r.counts)
		if bad && (r.cfg.UntilItFails || r.cfg.Break) || r.rounds() > 0 && round >= r.rounds() {
			break
		}
	}
	err := errors.Join(r.write(), r.remember())
	r.summarize()
	if err := errors.Join(stopped, err); err != nil {
		return err
	}
	return r.verdict()
}

// rounds is how many there are; 0 means no limit.
func (r *runner) rounds() int {
	if r.cfg.UntilItFails {
		return r.cfg.Repeat
	}
	return max(1, r.cfg.Repeat)
}

// round runs every suite that has a chosen spec.
func (r *runner) round(ctx context.Context, number int) ([]Result, error) {
	var list []Result
	for _, s := range r.suites {
		chosen := of(r.chosen, s)
		if len(chosen) == 0 {
			continue
		}
		results, err := r.suite(ctx, s, chosen)
		for i := range results {
			results[i].Round = number
			if entry := r.quarantine.Of(results[i].Spec); entry != nil && results[i].failed() && !results[i].Suite {
				results[i].Excused = entry
			}
		}
		list = append(list, results...)
		if err != nil || r.cfg.Break && slices.ContainsFunc(results, r.counts) {
			return list, err
		}
	}
	return list, nil
}

// suite runs a suite's specs, and once more those that this machine let down.
func (r *runner) suite(ctx context.Context, s Suite, chosen []Spec) ([]Result, error) {
	all := len(chosen) == len(of(flat(r.units), s))
	results, reports, err := r.runSuite(ctx, s, chosen, all)
	r.reports = append(r.reports, reports...)
	again := r.again(results)
	if err != nil || len(again) == 0 || r.cfg.Break {
		return results, err
	}
	say(r.cfg.Out, "infrastructure failure, so %d specs of %s are tried once more: %s", len(again), s.ImportPath,
		firstBroken(results).Cause)
	second, reports, err := r.runSuite(ctx, s, again, false)
	r.reports = append(r.reports, reports...)
	for i := range second {
		second[i].Retried = true
	}
	kept := slices.DeleteFunc(results, func(one Result) bool {
		return one.Outcome == Broken || slices.Contains(again, one.Spec)
	})
	return append(kept, second...), err
}

// again are the specs that infrastructure failures kept from telling anything about the product: those that failed by
// them, and, when a suite's own set-up did, those whose turn did not come. A product's failure is never tried again.
func (r *runner) again(results []Result) []Spec {
	if slices.ContainsFunc(results, func(one Result) bool { return one.Suite && one.Outcome == Failed }) {
		return nil
	}
	setUp := slices.ContainsFunc(results, func(one Result) bool { return one.Suite && one.Outcome == Broken })
	var list []Spec
	for _, u := range r.units {
		needs := func(one Result) bool {
			return slices.Contains(u, one.Spec) && (one.Outcome == Broken || setUp && one.Outcome == NotRun)
		}
		hurt := func(one Result) bool { return slices.Contains(u, one.Spec) && one.Outcome == Failed }
		if slices.ContainsFunc(results, needs) && !slices.ContainsFunc(results, hurt) {
			list = append(list, u...)
		}
	}
	return sorted(list)
}

func firstBroken(results []Result) Result {
	at := slices.IndexFunc(results, func(one Result) bool { return one.Outcome == Broken })
	if at < 0 {
		return Result{}
	}
	return results[at]
}

// counts tells whether a result fails the run.
func (r *runner) counts(one Result) bool {
	if one.Excused != nil {
		return false
	}
	return one.failed() || one.Outcome == NotRun || one.Outcome == Skipped && !r.cfg.AllowSkips
}

// write writes the reports.
func (r *runner) write() error {
	err := writeReport(filepath.Join(r.cfg.Output, "report.json"), r.reports)
	paths := []string{filepath.Join(r.cfg.Output, "junit.xml")}
	if r.cfg.JUnit != "" && r.cfg.JUnit != paths[0] {
		paths = append(paths, r.cfg.JUnit)
	}
	properties := map[string]string{"guests": r.cfg.guests(), "shard": r.cfg.Shard.String(), "plan": r.fingerprint,
		"labels": r.cfg.Labels}
	for _, path := range paths {
		err = errors.Join(err, WriteJUnit(path, r.results, properties))
	}
	return err
}

// remember adds the run to the history.
func (r *runner) remember() error {
	if r.cfg.History == "" {
		return nil
	}
	h, err := OpenHistory(r.cfg.History)
	if err != nil {
		return err
	}
	return errors.Join(h.Add(r.cfg.guests(), r.results, r.cfg.Now()), h.Close())
}

// advise tells what the history knows of the specs that ran and do not always pass.
func (r *runner) advise() {
	if r.cfg.History == "" {
		return
	}
	h, err := OpenHistory(r.cfg.History)
	if err != nil {
		return // that it cannot be written was told
	}
	defer func() { _ = h.Close() }()
	records, _ := h.Records(r.cfg.guests())
	for _, record := range records {
		ran := slices.ContainsFunc(r.results, func(one Result) bool { return one.Spec == record.Spec })
		if text := record.Advice(); ran && text != "" && record.Streak < RunsNeeded(record.Failures, record.Runs) {
			say(r.cfg.Out, "%s\n     %s", record.Spec, text)
		}
	}
}

// summarize prints what matters, last of all.
func (r *runner) summarize() {
	counts := map[Outcome]int{}
	excused := 0
	for _, one := range r.results {
		if one.Excused != nil {
			excused++
			say(r.cfg.Out, "quarantined failure: %s\n     first cause: %s\n     under %s", one.Spec, one.Cause, one.Excused)
			continue
		}
		if !one.Suite || one.failed() {
			counts[one.Outcome]++
		}
		if one.failed() {
			say(r.cfg.Out, "%s: %s\n     first cause: %s%s", one.Outcome, one.Spec, one.Cause, again(one))
		} else if one.Outcome == Skipped {
			say(r.cfg.Out, "skipped: %s: %s", one.Spec, firstLine(one.Message))
		}
	}
	r.advise()
	var parts []string
	for _, outcome := range []Outcome{Passed, Failed, Broken, Skipped, NotRun} {
		if n := counts[outcome]; n > 0 || outcome == Passed || outcome == Failed {
			parts = append(parts, fmt.Sprintf("%d %s", n, outcome))
		}
	}
	if excused > 0 {
		parts = append(parts, fmt.Sprintf("%d quarantined", excused))
	}
	say(r.cfg.Out, "%s; reports in %s", strings.Join(parts, ", "), r.cfg.Output)
	if counts[Failed]+counts[Broken] > 0 {
		say(r.cfg.Out, "to run what failed again: cloudtwin test %s --rerun %s", strings.Join(r.cfg.Patterns, " "),
			filepath.Join(r.cfg.Output, "report.json"))
	}
}

// again is how a failure is played again, below what is said of it.
func again(one Result) string {
	if one.Replay == "" {
		return ""
	}
	return "\n     play it again with: " + one.Replay
}

// verdict tells who has to act: the product before the machine.
func (r *runner) verdict() error {
	var product, machine int
	for _, one := range r.results {
		switch {
		case !r.counts(one):
		case one.Outcome == Failed:
			product++
		default:
			machine++
		}
	}
	switch {
	case product > 0:
		return fmt.Errorf("%w: %d", ErrFailed, product)
	case machine > 0:
		return fmt.Errorf("%w: %d specs", ErrInfrastructure, machine)
	}
	return nil
}

// blameOf is what a report's type attribute says.
func blameOf(one Result) verdict.Blame {
	if one.Outcome == Failed {
		return verdict.Product
	}
	return verdict.Infrastructure
}
