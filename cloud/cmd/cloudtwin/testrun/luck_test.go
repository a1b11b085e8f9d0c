package testrun

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// outside copies the suites of fixtures/outside to where they are outside this repository.
func outside(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "fixtures", "outside"))); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600); err != nil {
		t.Fatal(err)
	}
	edit := exec.CommandContext(t.Context(), "go", "mod", "edit", "-replace", "github.com/cloudtwin/cloudtwin="+root)
	edit.Dir = dir
	if out, err := edit.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// luck runs the unlucky suite with words for its specs.
type luck struct {
	t      *testing.T
	module string
	words  string
	output string
	built  *built
	starve bool // every run meets a kernel without memory
	said   bytes.Buffer
}

func newLuck(t *testing.T) *luck {
	t.Helper()
	l := &luck{t: t, module: outside(t), words: t.TempDir(), output: t.TempDir()}
	t.Setenv("UNLUCKY", l.words)
	t.Setenv("GOFLAGS", "-mod=mod -buildvcs=false")
	t.Setenv("CLOUDTWIN_GUESTS", "sim")
	var err error
	if l.built, err = build(t.Context(), Config{Dir: l.module, Patterns: []string{"./unlucky"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.built.remove)
	return l
}

// say has a spec meet words, one a run.
func (l *luck) say(name string, words ...string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.words, name), []byte(strings.Join(words, "\n")), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *luck) run(change func(*Config)) error {
	l.t.Helper()
	cfg := Config{Dir: l.module, Patterns: []string{"./unlucky"}, Output: l.output, Out: &l.said,
		History: filepath.Join(l.words, "history.db"), built: l.built}
	var killed uint64
	cfg.oomKilled = func() (uint64, error) {
		if l.starve {
			killed++
		}
		return killed, nil
	}
	change(&cfg)
	l.said.Reset()
	if err := os.RemoveAll(filepath.Join(l.words, "ran")); err != nil {
		l.t.Fatal(err)
	}
	return Run(l.t.Context(), cfg)
}

// ran are the specs that ran in the last run.
func (l *luck) ran() string {
	text, err := os.ReadFile(filepath.Join(l.words, "ran"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	names := strings.Fields(string(text))
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (l *luck) junit() junitSuites {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.output, "junit.xml"))
	if err != nil {
		l.t.Fatal(err)
	}
	var report junitSuites
	if err := xml.Unmarshal(text, &report); err != nil {
		l.t.Fatal(err)
	}
	return report
}

func plain(*Config) {}

// wants checks a run's error and what was said; a text that begins with ! must be missing.
func (l *luck) wants(err, want error, says ...string) {
	l.t.Helper()
	if !errors.Is(err, want) {
		l.t.Errorf("got %v, want %v\n%s", err, want, &l.said)
	}
	for _, text := range says {
		missing, not := strings.CutPrefix(text, "!")
		if strings.Contains(l.said.String(), missing) == not {
			l.t.Errorf("%q: want that it is said: %t\n%s", missing, !not, &l.said)
		}
	}
}

// TestLuck runs a real suite through Ginkgo; the steps share its build's cache.
func TestLuck(t *testing.T) {
	l := newLuck(t)
	step := func(name string, f func()) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			l.t = t
			f()
		})
	}
	step("all pass", func() {
		l.wants(l.run(plain), nil, "9 passed, 0 failed")
		if n := len(strings.Fields(l.ran())); n != 10 {
			t.Errorf("%d ran: %s", n, l.ran())
		}
	})
	step("the product's failure, its first cause, and what is rerun", func() {
		l.say("two", "cause")
		l.say("second", "fail")
		l.wants(l.run(plain), ErrFailed, "first cause: i-0123456789abcdef0: its kernel panicked", "1 not run",
			"--rerun", "!tried once more")
		report := l.junit()
		if report.Failures != 2 || report.Errors != 1 {
			t.Errorf("%d failures, %d errors", report.Failures, report.Errors)
		}
		for _, c := range report.Suites[0].Cases {
			if c.Name == "Luck two" && (c.Failure == nil || c.Failure.Type != "product" ||
				!strings.HasPrefix(c.Failure.Message, "i-0123456789abcdef0: its kernel panicked")) {
				t.Errorf("%s: %+v", c.Name, c.Failure)
			}
		}
		err := l.run(func(c *Config) { c.Rerun = filepath.Join(l.output, "report.json") })
		l.wants(err, nil, "4 specs of", "failed and are run again", "4 passed, 0 failed",
			"failed in 1 of its last 3 runs (33.3 %): 8 passes in a row are needed")
		if got := l.ran(); got != "before first second third two" {
			t.Errorf("ran %s", got)
		}
		err = l.run(func(c *Config) { c.Rerun = filepath.Join(l.output, "report.json") })
		l.wants(err, nil, "0 specs")
	})
	step("the machine's failure is tried once more, and only that", func() {
		l.say("one", "machine")
		l.say("three", "fail")
		l.wants(l.run(plain), ErrFailed, "infrastructure failure, so 1 specs", "no memory is left")
		if got := l.ran(); strings.Count(got, "one") != 2 || strings.Count(got, "three") != 1 {
			t.Errorf("ran %s", got)
		}
		l.say("one", "machine")
		l.wants(l.run(plain), nil, "infrastructure failure, so 1 specs", "9 passed, 0 failed")
		l.say("one", "machine", "machine", "machine")
		l.wants(l.run(plain), ErrInfrastructure, "1 infrastructure")
		if report := l.junit(); report.Errors != 1 || report.Failures != 0 {
			t.Errorf("%d errors, %d failures", report.Errors, report.Failures)
		}
		l.say("one")
	})
	step("a set-up that the machine let down", func() {
		l.say("before", "machine")
		l.wants(l.run(plain), nil, "so 9 specs", "9 passed")
		l.say("before", "fail")
		l.wants(l.run(plain), ErrFailed, "!tried once more", "9 not run")
	})
	step("suites that end without a report", func() {
		l.say("one", "crash")
		l.wants(l.run(plain), ErrFailed, "9 not run")
		l.say("one", "killed")
		l.starve = true
		l.wants(l.run(plain), nil, "ran out of memory", "so 9 specs", "9 passed")
		l.starve = false
	})
	step("panics and skips", func() {
		l.say("one", "panic")
		l.wants(l.run(plain), ErrFailed, "first cause: panic: out of luck")
		l.say("one", "skip", "skip")
		l.wants(l.run(plain), ErrInfrastructure, "this machine has no luck to give")
		l.wants(l.run(func(c *Config) { c.AllowSkips = true }), nil, "1 skipped")
	})
	step("quarantine", func() { l.quarantine(t) })
	step("rounds", func() {
		l.say("one", "", "", "fail")
		l.wants(l.run(func(c *Config) { c.UntilItFails = true }), ErrFailed, "round 3", "!round 4")
		l.wants(l.run(func(c *Config) { c.Repeat = 2 }), nil, "round 2", "18 passed")
	})
	step("shards, labels and flags", func() { l.shards(t) })
	step("nobody waits for a run that was interrupted", func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Run(ctx, Config{Dir: l.module, Output: l.output, Out: &l.said}); !errors.Is(err, context.Canceled) &&
			!errors.Is(err, ErrTools) {
			t.Errorf("got %v", err)
		}
	})
}

func (l *luck) quarantine(t *testing.T) {
	file := filepath.Join(l.words, "quarantine.json")
	day := time.Now().UTC().AddDate(0, 0, 5).Format(time.DateOnly)
	text := `{"entries":[{"pattern":"Luck four","tracker":"https://example.test/4","owner":"qa","expires":"` + day + `"}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(c *Config) { c.Quarantine = file }
	l.say("four.*", "fail")
	l.wants(l.run(with), nil, "quarantined failure: example.test/outside/unlucky: Luck four", "https://example.test/4",
		"1 quarantined", "8 passed")
	if s := l.junit().Suites[0]; s.Skipped != 1 || s.Failures != 0 {
		t.Errorf("%d skipped, %d failures", s.Skipped, s.Failures)
	}
	l.say("four.*", "fail")
	l.say("one", "fail")
	l.wants(l.run(with), ErrFailed, "1 quarantined", "1 failed")
	late := func(c *Config) {
		c.Quarantine = file
		c.Now = func() time.Time { return time.Now().AddDate(0, 0, 6) }
	}
	err := l.run(late)
	l.wants(err, ErrExpired)
	if err == nil || !strings.Contains(err.Error(), "Luck four") || l.ran() != "" {
		t.Errorf("got %v; ran %q", err, l.ran())
	}
}

func (l *luck) shards(t *testing.T) {
	var all []string
	names := map[string]bool{}
	for _, shard := range []string{"1/3", "2/3", "3/3"} {
		part, err := ParseShard(shard)
		if err != nil {
			t.Fatal(err)
		}
		l.wants(l.run(func(c *Config) { c.Shard = part }), nil, "shard "+shard+" of plan ")
		_, name, _ := strings.Cut(l.said.String(), "of plan ")
		name, _, _ = strings.Cut(name, ":")
		names[name] = true
		all = append(all, strings.Fields(strings.ReplaceAll(l.ran(), "before", ""))...)
	}
	seen := map[string]int{}
	for _, name := range all {
		seen[name]++
	}
	if len(seen) != 9 || len(all) != 9 || len(names) != 1 {
		t.Errorf("ran %v of plans %v, want 9 specs once", all, names)
	}
	l.wants(l.run(func(c *Config) { c.Labels = "rare" }), nil, "1 passed, 0 failed")
	l.wants(l.run(func(c *Config) { c.Flags = []string{"--focus=Luck f", "-p"} }), nil, "2 passed")
	l.wants(l.run(func(c *Config) { c.Labels = "none" }), ErrUsage)
	l.wants(l.run(func(c *Config) { c.Flags = []string{"--flake-attempts=3"} }), ErrUsage)
	l.wants(l.run(func(c *Config) { c.List = true }), nil, "example.test/outside/unlucky: Luck four.*\n")
	bare := func(c *Config) { c.built = nil }
	l.wants(l.run(func(c *Config) { c.built, c.Patterns = nil, []string{"./nowhere"} }), ErrUsage)
	l.wants(l.run(bare), nil, "9 passed")
	if left, _ := filepath.Glob(filepath.Join(l.module, "*", ".cloudtwin-*")); len(left) != 1 { // the test's own
		t.Errorf("beside the sources: %v", left)
	}
	t.Setenv("PATH", t.TempDir())
	l.wants(l.run(bare), ErrTools)
}
