package testrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/cloudtwin/cloudtwin/e2e/twin/verdict"
)

// interruptGrace is how long a suite may take to clean up after Ctrl-C.
const interruptGrace = time.Minute

// argumentLimit is how long all patterns of one run may be: the kernel refuses a longer command line.
const argumentLimit = 1 << 20

// runSuite runs chosen specs of a suite once and returns what came of them, and Ginkgo's report without the others. all
// tells that nothing but the flags chooses.
func (r *runner) runSuite(ctx context.Context, s Suite, chosen []Spec, all bool) ([]Result, []types.Report, error) {
	report := filepath.Join(r.scratch, "run.json")
	_ = os.Remove(report)
	args := []string{"--output-dir", r.scratch, "--json-report", "run.json", "--silence-skips"}
	if r.cfg.Break {
		args = append(args, "--fail-fast")
	}
	args = append(args, r.flags...)
	if !all {
		focus, err := focusOn(r.descriptions[s.ImportPath], chosen)
		if err != nil {
			return nil, nil, err
		}
		args = append(args, focus...)
	}
	cmd := exec.CommandContext(ctx, r.tools.ginkgo, append(args, s.binary)...)
	cmd.Dir, cmd.Env = r.tools.dir, r.tools.env
	cmd.Stdout, cmd.Stderr = r.cfg.Out, r.cfg.Out
	// Ginkgo and the suite clean up after one interrupt and give up at the second. In a group of their own they get
	// the one that is sent here, and not the terminal's too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = interruptGrace
	killedBefore, _ := r.cfg.oomKilled()
	runErr := cmd.Run()
	r.starved = false
	if killed, err := r.cfg.oomKilled(); err == nil && killed > killedBefore {
		r.starved = true
	}
	reports, err := ReadReport(report)
	if errors.Is(err, os.ErrNotExist) || err == nil && !written(reports) {
		return append(notRun(chosen), r.noReport(s, runErr)), nil, ctx.Err()
	}
	if err != nil {
		return nil, nil, err
	}
	dropOthers(reports, s, chosen)
	results := resultsOf(s.ImportPath, reports, chosen)
	if runErr != nil && ctx.Err() == nil && !slices.ContainsFunc(results, Result.failed) && !focused(runErr) {
		results = append(results, r.noReport(s, runErr))
	}
	return results, reports, ctx.Err()
}

// dropOthers takes the specs that were not chosen out of a suite's reports.
func dropOthers(reports []types.Report, s Suite, chosen []Spec) {
	for i := range reports {
		reports[i].SuitePath = s.Dir
		reports[i].SpecReports = slices.DeleteFunc(reports[i].SpecReports, func(report types.SpecReport) bool {
			return isSpec(report) && !slices.Contains(chosen, Spec{Package: s.ImportPath, Text: report.FullText()})
		})
	}
}

// written tells whether a suite wrote the report itself: for one that crashed, Ginkgo's command makes an empty one.
func written(reports []types.Report) bool {
	return slices.ContainsFunc(reports, func(r types.Report) bool { return !r.StartTime.IsZero() })
}

// oomKilled is how many processes the kernel has killed for want of memory, from /proc/vmstat (proc(5)).
func oomKilled() (uint64, error) {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strconv.ParseUint(strings.TrimSpace(count), 10, 64)
		}
	}
	return 0, errors.New("/proc/vmstat has no oom_kill")
}

// focused tells that Ginkgo complains about nothing but specs that the sources focus.
func focused(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == types.GINKGO_FOCUS_EXIT_CODE
}

// noReport is a suite that ended without telling why. It is the machine's fault when the kernel, out of memory, killed
// processes meanwhile: Ginkgo does not tell what ended the suite.
func (r *runner) noReport(s Suite, err error) Result {
	what := errNoReport.Error()
	if err != nil {
		what = fmt.Sprintf("it ended with %v and %v; what it printed is above", err, errNoReport)
	}
	blame := verdict.Product
	if r.starved {
		blame = verdict.Infrastructure
		what = "the kernel ran out of memory and killed processes; " + what
	}
	return suiteFailure(s.ImportPath, blame, what)
}

func notRun(chosen []Spec) []Result {
	var list []Result
	for _, s := range chosen {
		list = append(list, Result{Spec: s, Outcome: NotRun, Message: "its suite ended without a report"})
	}
	return list
}

// focusOn are the flags with which Ginkgo runs exactly these specs. It matches a pattern against the suite's
// description and a spec's texts.
func focusOn(description string, chosen []Spec) ([]string, error) {
	var flags []string
	length := 0
	for _, s := range chosen {
		flag := "--focus=^" + regexp.QuoteMeta(description+" "+s.Text) + "$"
		length += len(flag)
		flags = append(flags, flag)
	}
	if length > argumentLimit {
		return nil, usagef("the names of %d specs of %s are too long for one command line; make more shards",
			len(chosen), chosen[0].Package)
	}
	return flags, nil
}

// forbidden are Ginkgo's flags that this command has of its own, or that would hide failures.
var forbidden = map[string]string{
	"json-report": "--output", "junit-report": "--junit", "output-dir": "--output", "dry-run": "--list",
	"repeat": "--repeat", "until-it-fails": "--until-it-fails", "flake-attempts": "--quarantine",
	"label-filter": "--labels", "keep-separate-reports": "--output",
}

// checkFlags refuses those, and flags for the suites' own arguments.
func checkFlags(flags []string) error {
	for _, flag := range flags {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		if instead, ok := forbidden[name]; ok && strings.HasPrefix(flag, "-") {
			return usagef("Ginkgo's %s: use %s of this command", flag, instead)
		}
		if flag == "--" {
			return usagef("arguments for the suites themselves cannot be passed")
		}
	}
	return nil
}

// say prints a line of the command's own among Ginkgo's.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, "== "+format+"\n", args...)
}
