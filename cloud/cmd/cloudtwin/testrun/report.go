package testrun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/cloudtwin/cloudtwin/e2e/twin/verdict"
)

// maxReportBytes bounds a report that is read: consoles and traces of failures are in it.
const maxReportBytes = 1 << 30

// Outcome is what came of a spec.
type Outcome string

const (
	// Passed is what every spec shall do.
	Passed Outcome = "passed"
	// Failed is a failure that is the product's fault, or the spec's.
	Failed Outcome = "failed"
	// Broken is a failure that is the machine's fault.
	Broken Outcome = "infrastructure"
	// Skipped is a spec that was asked for and said itself that it cannot be shown here.
	Skipped Outcome = "skipped"
	// NotRun is a spec whose turn did not come: its suite could not begin, or ended early.
	NotRun Outcome = "not run"
)

// Result is what came of one spec, or of a suite's own set-up and clean-up.
type Result struct {
	Spec
	// Suite is set when this is no spec but a part of the suite, such as BeforeSuite.
	Suite   bool
	Outcome Outcome
	// Duration is of the spec with its set-up and clean-up.
	Duration time.Duration
	// Cause is what went wrong first, when something did; Message and Location are the assertion that noticed it.
	Cause    verdict.Cause
	Message  string
	Location string
	// Replay is the command that plays the recording of the failure again; empty when there is none.
	Replay string
	// Output is what the spec wrote to Ginkgo's writer.
	Output string
	// Excused is the entry of the quarantine under which the failure does not count.
	Excused *Entry
	// Retried tells that this is the second try, after a failure of the machine.
	Retried bool
	// Round is the round of a repeated run, from 1.
	Round int
}

// failed tells whether something is wrong, whoever's fault it is.
func (r Result) failed() bool { return r.Outcome == Failed || r.Outcome == Broken }

// ReadReport reads a report of Ginkgo's in JSON, also one that this package wrote.
func ReadReport(path string) ([]types.Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var reports []types.Report
	if err := json.NewDecoder(io.LimitReader(f, maxReportBytes)).Decode(&reports); err != nil {
		return nil, fmt.Errorf("read %s: expected Ginkgo's JSON report: %w", path, err)
	}
	return reports, nil
}

func writeReport(path string, reports []types.Report) error {
	text, err := json.Marshal(reports)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// planned returns the specs that a dry run says would run, those of an ordered container as one unit.
func planned(pkg string, reports []types.Report) []Unit {
	var units []Unit
	ordered := map[string]int{}
	for _, report := range reports {
		for _, s := range report.SpecReports {
			if !isSpec(s) || s.State != types.SpecStatePassed {
				continue
			}
			spec := Spec{Package: pkg, Text: s.FullText()}
			if !s.IsInOrderedContainer {
				units = append(units, Unit{spec})
				continue
			}
			// Which of its containers is the ordered one is not told: the outermost holds it.
			outermost := s.ContainerHierarchyTexts[0]
			if at, ok := ordered[outermost]; ok {
				units[at] = append(units[at], spec)
				continue
			}
			ordered[outermost] = len(units)
			units = append(units, Unit{spec})
		}
	}
	return units
}

func isSpec(s types.SpecReport) bool { return s.LeafNodeType == types.NodeTypeIt }

// resultsOf reads a suite's report. chosen are the specs that were asked for: all others are left out.
func resultsOf(pkg string, reports []types.Report, chosen []Spec) []Result {
	var list []Result
	seen := map[Spec]bool{}
	for _, report := range reports {
		for _, s := range report.SpecReports {
			r := resultOf(pkg, s)
			if r.Suite && !r.failed() || !r.Suite && !slices.Contains(chosen, r.Spec) {
				continue
			}
			seen[r.Spec] = true
			list = append(list, r)
		}
		list = append(list, special(pkg, report)...)
	}
	for _, s := range chosen {
		if !seen[s] {
			list = append(list, Result{Spec: s, Outcome: NotRun, Message: "the suite ended before its turn"})
		}
	}
	return list
}

// special are the failures that no spec has: an interrupt, a focus that was forgotten.
func special(pkg string, report types.Report) []Result {
	var list []Result
	for _, reason := range report.SpecialSuiteFailureReasons {
		// That BeforeSuite failed is told by its own report.
		if strings.Contains(reason, "BeforeSuite") || strings.Contains(reason, "AfterSuite") {
			continue
		}
		list = append(list, suiteFailure(pkg, verdict.OfMessage(reason), reason))
	}
	return list
}

// suiteFailure is a failure of a suite outside its specs.
func suiteFailure(pkg string, blame verdict.Blame, what string) Result {
	r := Result{Spec: Spec{Package: pkg, Text: "[suite]"}, Suite: true, Message: what,
		Cause: verdict.Cause{Blame: blame, What: what}, Outcome: Failed}
	if blame == verdict.Infrastructure {
		r.Outcome = Broken
	}
	return r
}

func resultOf(pkg string, s types.SpecReport) Result {
	r := Result{Spec: Spec{Package: pkg, Text: s.FullText()}, Duration: s.RunTime,
		Message: s.Failure.Message, Output: s.CapturedGinkgoWriterOutput}
	if !isSpec(s) {
		r.Suite = true
		r.Text = strings.TrimSpace("[" + s.LeafNodeType.String() + "] " + s.LeafNodeText)
	}
	if s.Failure.Location.FileName != "" {
		r.Location = s.Failure.Location.String()
	}
	switch {
	case s.State.Is(types.SpecStateFailureStates):
		r.Cause, r.Replay = causeOf(s), replayOf(s)
		r.Outcome = Failed
		if r.Cause.Blame == verdict.Infrastructure {
			r.Outcome = Broken
		}
	case s.State == types.SpecStatePassed:
		r.Outcome = Passed
	case s.Failure.Message != "" && !consequence(s.Failure.Message):
		r.Outcome = Skipped
	default:
		r.Outcome = NotRun
	}
	return r
}

// consequence tells whether a spec was skipped since something else failed, which has a result of its own.
func consequence(message string) bool {
	return strings.HasPrefix(message, "Spec skipped because") && !strings.Contains(message, "Skip() was called")
}

// causeOf finds what went wrong first: the earliest cause that the harness put into the report, or else the assertion.
// One cause of the product's is enough to blame it.
func causeOf(s types.SpecReport) verdict.Cause {
	first := verdict.Cause{Blame: verdict.OfMessage(s.Failure.Message), Time: s.Failure.TimelineLocation.Time,
		What: firstLine(strings.TrimPrefix(s.Failure.Message, verdict.Prefix))}
	if s.Failure.ForwardedPanic != "" {
		first.What = "panic: " + firstLine(s.Failure.ForwardedPanic)
		first.Blame = verdict.Product
	}
	var told []verdict.Cause
	for _, entry := range s.ReportEntries {
		if entry.Name != verdict.Entry {
			continue
		}
		if c, err := verdict.Parse(entry.StringRepresentation()); err == nil {
			told = append(told, c)
		}
	}
	if len(told) == 0 {
		return first
	}
	slices.SortStableFunc(told, func(a, b verdict.Cause) int { return a.Time.Compare(b.Time) })
	if i := slices.IndexFunc(told, func(c verdict.Cause) bool { return c.Blame == verdict.Product }); i >= 0 {
		return told[i]
	}
	return told[0]
}

// replayOf finds the last command that the harness told, when the spec had several clouds: that of the outermost.
func replayOf(s types.SpecReport) (command string) {
	for _, entry := range s.ReportEntries {
		if entry.Name == verdict.Replay {
			command = firstLine(entry.StringRepresentation())
		}
	}
	return command
}

func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return "it failed without a word"
}

// failedIn returns the specs that did not pass in an earlier report, for a suite. When the suite itself failed and no
// spec did, all of it is to be run again.
func failedIn(reports []types.Report, s Suite) []Spec {
	var list []Spec
	for _, report := range reports {
		if !s.is(report.SuitePath) {
			continue
		}
		var failed, others []Spec
		for _, r := range report.SpecReports {
			switch spec := (Spec{Package: s.ImportPath, Text: r.FullText()}); {
			case !isSpec(r):
			case r.State.Is(types.SpecStateFailureStates):
				failed = append(failed, spec)
			case r.State != types.SpecStatePassed:
				others = append(others, spec)
			}
		}
		if !report.SuiteSucceeded && len(failed) == 0 {
			failed = others
		}
		list = append(list, failed...)
	}
	return sorted(list)
}

// errNoReport means that a suite ended without one.
var errNoReport = errors.New("it wrote no report")
