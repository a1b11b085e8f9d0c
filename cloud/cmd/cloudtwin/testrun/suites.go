package testrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2/types"
)

// ginkgoCommand is the package of Ginkgo's own command, in the version that the suites' module names.
const ginkgoCommand = "github.com/onsi/ginkgo/v2/ginkgo"

// Suite is a package with a Ginkgo suite.
type Suite struct {
	ImportPath string
	Dir        string
	Module     string

	binary string // the compiled suite, in Dir
}

// is tells whether a report's path is this suite's folder, here or in another checkout.
func (s Suite) is(path string) bool {
	inside := strings.TrimPrefix(s.ImportPath, s.Module)
	return path == s.Dir || inside != "" && strings.HasSuffix(filepath.ToSlash(path), inside)
}

// built is what a run needs before it can begin: the tools, and the suites' binaries.
type built struct {
	tools   *tools
	suites  []Suite
	scratch string
}

// build makes it; remove takes it away.
func build(ctx context.Context, cfg Config) (*built, error) {
	scratch, err := os.MkdirTemp("", "ct-test")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the run: %w", err)
	}
	b := &built{scratch: scratch}
	if err := b.make(ctx, cfg); err != nil {
		b.remove()
		return nil, err
	}
	return b, nil
}

func (b *built) make(ctx context.Context, cfg Config) (err error) {
	if b.tools, err = findTools(ctx, cfg.Dir, b.scratch, cfg.environment()); err != nil {
		return err
	}
	if b.suites, err = b.tools.find(ctx, cfg.Patterns); err != nil {
		return err
	}
	for i := range b.suites {
		if err := b.tools.build(ctx, &b.suites[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *built) remove() {
	for _, s := range b.suites {
		if s.binary != "" {
			_ = os.Remove(s.binary)
		}
	}
	_ = os.RemoveAll(b.scratch)
}

// tools are the programs that run tests.
type tools struct {
	golang string
	ginkgo string // of the suites' own module
	dir    string // where commands run
	env    []string
}

// findTools finds go and builds Ginkgo's command for the module in dir.
func findTools(ctx context.Context, dir, scratch string, env []string) (*tools, error) {
	golang, err := exec.LookPath("go")
	if err != nil {
		return nil, fmt.Errorf("%w: go is not in PATH: %w; install it from https://go.dev/dl", ErrTools, err)
	}
	t := &tools{golang: golang, ginkgo: filepath.Join(scratch, "ginkgo"), dir: dir, env: env}
	if out, err := t.run(ctx, "build", "-o", t.ginkgo, ginkgoCommand); err != nil {
		return nil, fmt.Errorf("%w: build Ginkgo's command for the module in %s: %w\n%s"+
			"the suites' go.mod must name github.com/onsi/ginkgo/v2: 'go get %s'", ErrTools, dir, err, out, ginkgoCommand)
	}
	return t, nil
}

// run runs go and returns all that it printed.
func (t *tools) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, t.golang, args...)
	cmd.Dir, cmd.Env = t.dir, t.env
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out, err
}

// find lists the suites among the packages that the patterns name.
func (t *tools) find(ctx context.Context, patterns []string) ([]Suite, error) {
	args := append([]string{"list", "-json=ImportPath,Dir,Module,TestImports,XTestImports", "--"}, patterns...)
	cmd := exec.CommandContext(ctx, t.golang, args...)
	cmd.Dir, cmd.Env = t.dir, t.env
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, usagef("list packages %s: %v\n%s", strings.Join(patterns, " "), err, complaint.String())
	}
	var suites []Suite
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p struct {
			ImportPath, Dir           string
			Module                    struct{ Path string }
			TestImports, XTestImports []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		if slices.Contains(append(p.TestImports, p.XTestImports...), "github.com/onsi/ginkgo/v2") {
			suites = append(suites, Suite{ImportPath: p.ImportPath, Dir: p.Dir, Module: p.Module.Path})
		}
	}
	if len(suites) == 0 {
		return nil, usagef("no Ginkgo suite in %s: expected packages with a _suite_test.go", strings.Join(patterns, " "))
	}
	return suites, nil
}

// build compiles a suite once for all its runs, without what only debuggers read: linking is most of the time. The
// binary lies beside its sources, where Ginkgo runs it.
func (t *tools) build(ctx context.Context, s *Suite) error {
	sweepBinaries(s.Dir)
	f, err := os.CreateTemp(s.Dir, fmt.Sprintf(".cloudtwin-%d-*.test", os.Getpid()))
	if err != nil {
		return fmt.Errorf("make a file for the suite's binary: %w", err)
	}
	s.binary = f.Name()
	if err := f.Close(); err != nil {
		return fmt.Errorf("make a file for the suite's binary: %w", err)
	}
	if out, err := t.run(ctx, "test", "-c", "-ldflags=-s -w", "-o", s.binary, s.ImportPath); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("build the suite %s: %w\n%s", s.ImportPath, err, out)
	}
	return nil
}

// sweepBinaries removes what runs left that were killed.
func sweepBinaries(dir string) {
	left, err := filepath.Glob(filepath.Join(dir, ".cloudtwin-*.test"))
	if err != nil {
		return
	}
	for _, path := range left {
		var pid int
		if n, _ := fmt.Sscanf(filepath.Base(path), ".cloudtwin-%d-", &pid); n == 1 && !alive(pid) {
			_ = os.Remove(path)
		}
	}
}

func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// list asks a suite for its description and the specs that the flags leave.
func (t *tools) list(ctx context.Context, s Suite, flags []string, scratch string) (string, []Unit, error) {
	report := filepath.Join(scratch, "list.json")
	_ = os.Remove(report)
	args := slices.Concat([]string{"--dry-run", "--silence-skips", "--succinct", "--output-dir", scratch,
		"--json-report", "list.json"}, serial(flags), []string{s.binary})
	cmd := exec.CommandContext(ctx, t.ginkgo, args...)
	cmd.Dir, cmd.Env = t.dir, t.env
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", nil, ctx.Err()
	}
	var reports []types.Report
	if err == nil {
		reports, err = ReadReport(report)
	}
	if err == nil && len(reports) != 1 {
		err = fmt.Errorf("expected one report, got %d", len(reports))
	}
	if err != nil {
		return "", nil, usagef("list the specs of %s: %v\n%s", s.ImportPath, err, out)
	}
	return reports[0].SuiteDescription, planned(s.ImportPath, reports), nil
}

// serial leaves out the flags that make processes, with which nothing can be listed.
func serial(flags []string) []string {
	var kept []string
	for i := 0; i < len(flags); i++ {
		name, _, whole := strings.Cut(strings.TrimLeft(flags[i], "-"), "=")
		switch name {
		case "p":
		case "procs", "nodes":
			if !whole {
				i++
			}
		default:
			kept = append(kept, flags[i])
		}
	}
	return kept
}
