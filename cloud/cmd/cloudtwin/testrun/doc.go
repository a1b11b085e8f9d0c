// Package testrun is behind 'cloudtwin test': it runs Ginkgo suites as CI needs them run. It builds each suite once,
// lists its specs (suites.go), picks those of a shard or of an earlier failure (plan.go, shard.go), runs them
// through Ginkgo's own command (run.go), reads its report (report.go), says who is to blame, excuses what is
// quarantined (quarantine.go), and remembers how often every spec failed (history.go, flakes.go).
//
// What a suite says about a failure's cause is in e2e/twin/verdict; the harness that says it is e2e/twin.
package testrun

import (
	"errors"
	"fmt"
)

// Errors that callers test for.
var (
	// ErrTools means that go or Ginkgo cannot be run on this machine: an infrastructure fault.
	ErrTools = errors.New("the tools to run tests are missing")
	// ErrUsage means that what was asked for cannot be done as it was said.
	ErrUsage = errors.New("cannot run these tests")
	// ErrExpired means that a quarantined spec's time is over.
	ErrExpired = errors.New("quarantine has expired")
	// ErrFailed means that specs failed, by the product's fault.
	ErrFailed = errors.New("tests failed")
	// ErrInfrastructure means that specs failed, all of them by this machine's fault.
	ErrInfrastructure = errors.New("tests could not be run on this machine")
)

// Spec names a spec: the import path of its suite's package and all its texts, as Ginkgo joins them. Specs that have
// both in common are told apart by nobody, and stay together.
type Spec struct {
	Package string `json:"package"`
	Text    string `json:"text"`
}

// String is how a person, a quarantine's pattern and the history name a spec.
func (s Spec) String() string { return s.Package + ": " + s.Text }

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUsage}, args...)...)
}
