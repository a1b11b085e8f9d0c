// Package outside runs a suite that is in another module and imports the harness, as somebody does who tests a product
// of their own against a twin: what fixtures/outside needs must be exported, and resolvable without this repository's
// go.mod.
package outside

import (
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// build returns the program's path.
func build(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("CLOUDTWIN_BIN"); program != "" {
		return program
	}
	program := filepath.Join(t.TempDir(), "cloudtwin")
	run(t, root, nil, "go", "build", "-tags", "libvirt_dlopen", "-o", program, "./cloud/cmd/cloudtwin")
	return program
}

func run(t *testing.T, dir string, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// module copies the suite to where it has no repository around it.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
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
	repository, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "go", "mod", "edit", "-replace", "github.com/cloudtwin/cloudtwin="+repository)
	return dir
}

// env is the environment of a user of the program outside this repository.
func env() []string {
	return []string{"GOFLAGS=-mod=mod -buildvcs=false -tags=libvirt_dlopen", "CLOUDTWIN_BIN=", "CLOUDTWIN_KEEP=",
		"CLOUDTWIN_ARTIFACTS="}
}

func TestSuiteOutsideThisRepository(t *testing.T) {
	program := build(t)
	dir := module(t)
	out := run(t, dir, env(), program, "test", "./serving", "--guests", "sim", "--history", "", "--output",
		filepath.Join(dir, "reports"))
	if !strings.Contains(out, "2 passed, 0 failed") {
		t.Errorf("it said:\n%s", out)
	}
	for _, report := range []string{"report.json", "junit.xml"} {
		if _, err := os.Stat(filepath.Join(dir, "reports", report)); err != nil {
			t.Error(err)
		}
	}
}

// report is what of a JUnit report counts here.
type report struct {
	Cases []struct {
		Name    string   `xml:"name,attr"`
		Failure *verdict `xml:"failure"`
		Error   *verdict `xml:"error"`
	} `xml:"testsuite>testcase"`
}

type verdict struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func TestMisbehavingGuestsAreFound(t *testing.T) {
	program := build(t)
	dir := module(t)
	cmd := exec.CommandContext(t.Context(), program, "test", "./misbehaving", "--guests", "sim", "--history", "",
		"--output", filepath.Join(dir, "reports"), "--keep")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env()...)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Fatalf("got %v, want exit code 1\n%s", err, out)
	}
	endKept(t, program, string(out), regexp.MustCompile(`node-1 up`))
	text, err := os.ReadFile(filepath.Join(dir, "reports", "junit.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := xml.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	finding := regexp.MustCompile(`^i-[0-9a-f]+: kernel panic, line \d+ of its console: .*Attempted to kill init.*` +
		`\(/.*console\.log\)$`)
	for _, c := range r.Cases {
		switch c.Name {
		case "A panic fails a spec that noticed nothing":
			if c.Failure == nil || c.Failure.Type != "product" || !finding.MatchString(c.Failure.Message) {
				t.Errorf("%s: %+v", c.Name, c.Failure)
			}
		case "is the machine's fault where no room is left":
			if c.Error == nil || c.Error.Type != "infrastructure" || !strings.Contains(c.Error.Message, "no space left") {
				t.Errorf("%s: %+v", c.Name, c.Error)
			}
		default:
			if c.Failure != nil || c.Error != nil {
				t.Errorf("%s: %+v %+v", c.Name, c.Failure, c.Error)
			}
		}
	}
	if len(r.Cases) != 4 {
		t.Errorf("%d cases, want 4\n%s", len(r.Cases), out)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "reports", "specs", "A-panic-fails-*", "console-i-*.log"))
	if err != nil || len(kept) == 0 {
		t.Errorf("no console was kept: %v", err)
	}
	playsAgain(t, dir, string(out), r)
	stopsAtAFailure(t, program, dir)
}

// playsAgain runs the command with which a failure is told, from the summary, and looks for it in the report.
func playsAgain(t *testing.T, dir, out string, r report) {
	t.Helper()
	told := regexp.MustCompile(`(?m)^ +first cause: i-[0-9a-f]+: kernel panic.*\n +play it again with: (.+)$`).
		FindStringSubmatch(out)
	if told == nil {
		t.Fatalf("no command that plays the panic again in\n%s", out)
	}
	bundles, err := filepath.Glob(filepath.Join(dir, "reports", "specs", "A-panic-fails-*", "bundle.zip"))
	if err != nil || len(bundles) != 1 || !strings.Contains(told[1], bundles[0]) {
		t.Errorf("bundles %v, %v, want the one that is played with: %s", bundles, err, told[1])
	}
	for _, c := range r.Cases {
		if has := c.Failure != nil && strings.Contains(c.Failure.Text, told[1]); has != (c.Failure != nil) {
			t.Errorf("the report of %q does not tell the command: %+v", c.Name, c.Failure)
		}
	}
	if said := run(t, t.TempDir(), nil, "timeout", "120", "bash", "-c", told[1]); !strings.Contains(said, "same") {
		t.Errorf("%s said:\n%s", told[1], said)
	}
}

// stopsAtAFailure has the same suite stop at its first failure, with its cloud and guests as they are.
func stopsAtAFailure(t *testing.T, program, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "test", "./misbehaving", "--guests", "sim", "--history", "",
		"--output", filepath.Join(dir, "stopped"), "--break-on-failure", "--", "--focus", "A panic")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env()...)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Fatalf("got %v, want exit code 1\n%s", err, out)
	}
	endKept(t, program, string(out), regexp.MustCompile(`\ni-[0-9a-f]+ +web +running`))
}

// endKept looks for what is there of the clouds that a run left, and ends them as the run says.
func endKept(t *testing.T, program, out string, there *regexp.Regexp) {
	t.Helper()
	lines := regexp.MustCompile(
		`(?m)^ +(?:(\S+ (?:ps|down) --state (\S+))|(kill \d+) && (\S+ node --remove --state \S+))$`,
	).FindAllStringSubmatch(out, -1)
	seen := map[string]bool{}
	var orders []string
	for _, m := range lines {
		line := strings.TrimSpace(m[0])
		if seen[line] { // it is told when a spec fails and when its suite ends
			continue
		}
		seen[line] = true
		if m[3] == "" {
			orders = append(orders, m[1])
			continue
		}
		// The node takes a moment to end: the folder is its own until then.
		orders = append(orders, m[3], "until "+m[4]+"; do sleep 0.1; done")
	}
	if len(orders) < 4 {
		t.Errorf("%d ways in were told:\n%s", len(orders), out)
	}
	for _, order := range orders {
		said := run(t, ".", nil, "timeout", "60", "bash", "-c", order)
		if strings.Contains(order, " ps ") && !there.MatchString(said) {
			t.Errorf("the cloud that was kept has no %s:\n%s", there, said)
		}
		if state, ok := strings.CutPrefix(order, program+" down --state "); ok {
			defer func() { _ = os.RemoveAll(filepath.Dir(state)) }()
		}
	}
}
