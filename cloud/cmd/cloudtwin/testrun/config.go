package testrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Config says what to run.
type Config struct {
	// Dir is a folder of the suites' module; empty means the current one.
	Dir string
	// Patterns name packages as go does; none means ./... .
	Patterns []string
	// Flags are further ones for Ginkgo.
	Flags []string
	// Guests is the kind of guests: fork, sim, cold; empty leaves it to CLOUDTWIN_GUESTS.
	Guests string
	// Labels is a filter in Ginkgo's language.
	Labels string
	// Shard picks a part of the specs.
	Shard Shard
	// Timings are JSON reports from which the durations for shards are taken. Without one all specs count alike: the
	// history is no help, since it differs from machine to machine and after every run.
	Timings []string
	// Rerun is a JSON report whose failed specs are run, and no others.
	Rerun string
	// Repeat is how many rounds are run; 0 means one. With UntilItFails, the most rounds, 0 for no limit.
	Repeat       int
	UntilItFails bool
	// Quarantine and History are files; an empty History means none.
	Quarantine, History string
	// Keep leaves the clouds of failed specs running, Break stops at the first failure with everything as it was then.
	Keep, Break bool
	// AllowSkips counts specs that skip themselves as well.
	AllowSkips bool
	// List prints the specs and runs none.
	List bool
	// Output is the folder for reports and for what failed specs leave; JUnit is another place for that report.
	Output, JUnit string
	// Program is the cloudtwin under test, for suites that start one; empty leaves it to CLOUDTWIN_BIN.
	Program string
	// Out is where progress goes.
	Out io.Writer
	// Now is the clock; nil means the system's.
	Now func() time.Time

	built     *built                 // for tests that run the same suites many times
	oomKilled func() (uint64, error) // nil means the kernel's count
}

// Validate reports all that cannot be.
func (c *Config) Validate() error {
	var wrong []error
	if c.Repeat < 0 {
		wrong = append(wrong, usagef("--repeat %d: expected at least 1", c.Repeat))
	}
	if c.Shard.Count > 1 && c.Rerun != "" {
		wrong = append(wrong, usagef("--shard and --rerun exclude each other: what failed is run as a whole"))
	}
	if c.Keep && c.Break {
		wrong = append(wrong, usagef("--keep and --break-on-failure exclude each other"))
	}
	wrong = append(wrong, checkFlags(c.Flags))
	return errors.Join(wrong...)
}

// environment is what suites are started with.
func (c *Config) environment() []string {
	env := os.Environ()
	set := func(name, value string) {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	set("CLOUDTWIN_GUESTS", c.Guests)
	set("CLOUDTWIN_BIN", c.Program)
	set("CLOUDTWIN_ARTIFACTS", filepath.Join(c.Output, "specs"))
	switch {
	case c.Keep:
		set("CLOUDTWIN_KEEP", "cloud")
	case c.Break:
		set("CLOUDTWIN_KEEP", "spec")
	}
	return env
}

// guests is the kind under which the history remembers this run.
func (c *Config) guests() string {
	for _, kind := range []string{c.Guests, os.Getenv("CLOUDTWIN_GUESTS"), "fork"} {
		if kind != "" {
			return kind
		}
	}
	return ""
}

// Run does it. ErrUsage, ErrExpired, ErrTools, ErrFailed and ErrInfrastructure tell who has to act; a product's failure
// counts before a machine's.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.oomKilled == nil {
		cfg.oomKilled = oomKilled
	}
	if len(cfg.Patterns) == 0 {
		cfg.Patterns = []string{"./..."}
	}
	if cfg.Output, err = filepath.Abs(cfg.Output); err != nil {
		return fmt.Errorf("the folder for reports: %w", err)
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	quarantine, err := ReadQuarantine(cfg.Quarantine, cfg.Now())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Output, 0o750); err != nil {
		return fmt.Errorf("make the folder for reports: %w", err)
	}
	r := &runner{cfg: cfg, quarantine: quarantine, descriptions: map[string]string{}, flags: cfg.Flags}
	if cfg.Labels != "" {
		r.flags = append([]string{"--label-filter=" + cfg.Labels}, cfg.Flags...)
	}
	if r.built = cfg.built; r.built == nil {
		if r.built, err = build(ctx, cfg); err != nil {
			return err
		}
		defer r.remove()
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if cfg.List {
		return r.list()
	}
	return r.all(ctx)
}
