package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	tags    = "-tags=libvirt_dlopen"
	program = "./cloud/cmd/cloudtwin"
	suite   = "./e2e/threats"
	// specTime ends the specs of a mutant that have come to nothing: they wait for what a check would have done.
	specTime = 20 * time.Second
	// rehearsalTime bounds all labelled specs on the program as it is.
	rehearsalTime = 3 * time.Minute
)

// bench is where mutants are tried.
type bench struct {
	root    string // of the tree
	dir     string
	program string
	suite   string
}

// newBench builds what tries the chosen mutants, with the switches of all in it: program and suite for those that specs
// must notice, and the unit tests of the others' packages.
func newBench(ctx context.Context, chosen []mutant) (*bench, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the source tree: %w", err)
	}
	b := &bench{root: strings.TrimSpace(string(out))}
	if b.dir, err = os.MkdirTemp("", "mutate-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	b.program, b.suite = filepath.Join(b.dir, "cloudtwin"), filepath.Join(b.dir, "threats.test")
	overlay, err := writeOverlay(b.root, b.dir, edits())
	if err == nil && slices.ContainsFunc(chosen, func(m mutant) bool { return m.unit == unit{} }) {
		err = errors.Join(b.gocmd(ctx, "build", overlay, b.program, program),
			b.gocmd(ctx, "test", overlay, b.suite, "-c", suite))
	}
	built := map[string]bool{}
	for _, m := range chosen {
		if err == nil && m.unit != (unit{}) && !built[m.unit.folder] {
			built[m.unit.folder] = true
			err = b.gocmd(ctx, "test", overlay, b.binary(m.unit), "-c", "./"+m.unit.folder)
		}
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() { _ = os.RemoveAll(b.dir) }

func (b *bench) gocmd(ctx context.Context, verb, overlay, to string, args ...string) error {
	all := append([]string{verb, tags, "-buildvcs=false", "-overlay", overlay, "-o", to}, args...)
	cmd := exec.CommandContext(ctx, "go", all...)
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", verb, err, out)
	}
	return nil
}

// rehearse runs the specs and unit tests of all mutants on the program as it is: they must be there and pass.
func (b *bench) rehearse(ctx context.Context, chosen []mutant) error {
	var guards []string
	tried := map[unit]bool{{}: true}
	for _, m := range chosen {
		if m.unit == (unit{}) {
			guards = append(guards, "guard-"+m.guard)
		}
		if tried[m.unit] {
			continue
		}
		tried[m.unit] = true
		if name, err := b.tests(ctx, "", m.unit); err != nil || name != "" {
			return errors.Join(err, fmt.Errorf("the product as it is fails: %s", name))
		}
	}
	if len(guards) == 0 {
		return nil
	}
	slices.Sort(guards)
	guards = slices.Compact(guards)
	r, err := b.specs(ctx, "", strings.Join(guards, " || "), rehearsalTime)
	if err != nil {
		return err
	}
	if name := r.failed(); name != "" {
		return fmt.Errorf("the product as it is fails: %s", name)
	}
	labels := map[string]bool{}
	for _, spec := range r.ran() {
		for _, label := range spec.LeafNodeLabels {
			labels[label] = true
		}
	}
	for _, guard := range guards {
		if !labels[guard] {
			return fmt.Errorf("no spec on simulated guests has the label %s", guard)
		}
	}
	return nil
}

// try runs the specs or unit tests of a mutant on it.
func (b *bench) try(ctx context.Context, m mutant) (v verdict, err error) {
	begun := time.Now()
	if m.unit != (unit{}) {
		v.noticedBy, err = b.tests(ctx, m.guard, m.unit)
		v.running = time.Since(begun)
		return v, err
	}
	r, err := b.specs(ctx, m.guard, "guard-"+m.guard, specTime, "-ginkgo.fail-fast")
	v.running = time.Since(begun)
	if err != nil {
		return v, err
	}
	v.noticedBy = r.failed()
	return v, nil
}

// result is what Ginkgo's report has of a run.
type result []struct{ SpecReports []spec }

type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	LeafNodeLabels          []string
	State                   string
}

// specs runs the suite's specs of a label filter, without one of the checks when it is named.
func (b *bench) specs(ctx context.Context, without, filter string, limit time.Duration, flags ...string) (result,
	error) {
	report, err := os.CreateTemp(b.dir, "report-*.json")
	if err != nil {
		return nil, err
	}
	_ = report.Close()
	defer func() { _ = os.Remove(report.Name()) }()
	args := append([]string{"-ginkgo.label-filter=(" + filter + ") && sim && !slow", "-ginkgo.no-color",
		"-ginkgo.timeout=" + limit.String(), "-ginkgo.json-report=" + report.Name()}, flags...)
	cmd := exec.CommandContext(ctx, b.suite, args...)
	cmd.Dir = filepath.Join(b.root, "e2e", "threats")
	cmd.Env = append(os.Environ(), "CLOUDTWIN_GUESTS=sim", "CLOUDTWIN_BIN="+b.program, variable+"="+without)
	// A Ctrl-C is the suite's to clean up after.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = limit
	out, runErr := cmd.CombinedOutput()
	text, err := os.ReadFile(report.Name())
	var r result
	if err != nil || json.Unmarshal(bytes.TrimSpace(text), &r) != nil || len(r) == 0 || len(r.ran()) == 0 {
		return nil, fmt.Errorf("run the specs of %s: %w\n%s", filter, errors.Join(runErr, err), out)
	}
	if runErr != nil && r.failed() == "" {
		return nil, fmt.Errorf("the specs of %s pass, but the suite does not end well: %w\n%s", filter, runErr, out)
	}
	return r, nil
}

// ran are the specs that were run.
func (r result) ran() []spec {
	var specs []spec
	for _, suite := range r {
		for _, s := range suite.SpecReports {
			if s.LeafNodeType == "It" && s.State != "skipped" && s.State != "pending" {
				specs = append(specs, s)
			}
		}
	}
	return specs
}

// failed names the first spec that did not pass; empty when all did.
func (r result) failed() string {
	for _, s := range r.ran() {
		if s.State != "passed" {
			return strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " ")
		}
	}
	return ""
}
