// Package chaos plays random faults under a random workload, both drawn from a seed, on a cloud of its own in this
// process, and checks all along and afterwards what must be so (e2e/invariant). When something is not, it looks for the
// smallest schedule of faults with which it is still not so.
//
// Read Run, then run.go (one cloud under one schedule) and workload.go.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/e2e/invariant"
	"github.com/cloudtwin/cloudtwin/node"
)

// ErrBroken means that an invariant broke: a fault of the product.
var ErrBroken = errors.New("an invariant broke")

// Config of a run. The zero value is usable.
type Config struct {
	// Seed is the first one; Seeds is how many, default 1. Seed n has always the same faults and workload.
	Seed  uint64
	Seeds int
	// Length is how long faults and workload are played for each seed; default 2 s.
	Length time.Duration
	// Faults is how many faults a schedule has; default 5.
	Faults int
	// Kinds are those of the faults; default all that the guests' driver can have happen.
	Kinds []fault.Kind
	// Schedule, if set, is played instead of a drawn one, with the workload of Seed.
	Schedule *fault.Schedule
	// Guests are how guests come to life; default simulated.
	Guests node.GuestMode
	// Nodes is how many nodes there are; default 2.
	Nodes int
	// Images is the folder of guest images; simulated guests need none.
	Images string
	// Parallel is how many seeds are played at the same time; default 1.
	Parallel int
	// Within bounds the time from the last fault until everything serves again; default 30 s.
	Within time.Duration
	// Shrink looks for the smallest schedule when one fails.
	Shrink bool
	// Artifacts is where schedules of failures are written; default the working folder.
	Artifacts string
	// Dir is where clouds keep their state; default the system's for temporary files.
	Dir string
	// Bug, for tests of this package, stands between the workload and the cloud.
	Bug func(twin *local.Twin, next http.RoundTripper) http.RoundTripper
	// Progress is written for people; nil means nothing.
	Progress io.Writer
}

// maxNodes bounds Config.Nodes: they all run in this process.
const maxNodes = 16

// Validate reports all that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	const shortest = 200 * time.Millisecond
	if c.Length != 0 && (c.Length < shortest || c.Length > fault.MaxTime) {
		errs = append(errs, fmt.Errorf("length %s: want %s to %s", c.Length, shortest, fault.MaxTime))
	}
	if c.Nodes < 0 || c.Nodes > maxNodes {
		errs = append(errs, fmt.Errorf("nodes %d: want at most %d", c.Nodes, maxNodes))
	}
	if c.Seeds < 0 || c.Faults < 0 || c.Faults > fault.MaxFaults || c.Parallel < 0 || c.Within < 0 {
		errs = append(errs, fmt.Errorf("seeds, faults (at most %d), parallel and within must not be negative",
			fault.MaxFaults))
	}
	for _, k := range c.Kinds {
		if _, known := fault.InfoOf(k); !known {
			errs = append(errs, fmt.Errorf("kind %q is not known", k))
		}
	}
	if c.Schedule != nil {
		errs = append(errs, c.Schedule.Validate())
		if c.Seeds > 1 {
			errs = append(errs, errors.New("a schedule is played with one seed"))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	def := func(n *int, to int) {
		if *n == 0 {
			*n = to
		}
	}
	const faults, nodes, length, within = 5, 2, 2 * time.Second, 30 * time.Second
	def(&c.Nodes, nodes)
	def(&c.Seeds, 1)
	def(&c.Faults, faults)
	def(&c.Parallel, 1)
	if c.Length == 0 {
		c.Length = length
	}
	if c.Within == 0 {
		c.Within = within
	}
	if c.Guests == "" {
		c.Guests = node.GuestsSim
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

// Failure is a seed with which something broke.
type Failure struct {
	Seed   uint64                   `json:"seed"`
	Broken []*invariant.BrokenError `json:"broken"`
	// Schedule is the smallest one that was found, and File where it is kept.
	Schedule fault.Schedule `json:"schedule"`
	File     string         `json:"file"`
	Tries    int            `json:"tries"` // that it took to find it
}

// Report is what a run found.
type Report struct {
	Seeds    int       `json:"seeds"`
	Faults   int       `json:"faults"` // that were played
	Failures []Failure `json:"failures,omitempty"`
}

// ScheduleOf is the schedule of a seed.
func ScheduleOf(cfg Config, seed uint64) fault.Schedule {
	cfg = cfg.withDefaults()
	if cfg.Schedule != nil {
		return *cfg.Schedule
	}
	guests := []string{"*", "lb:*"}
	for n := range loadBalancers {
		guests = append(guests, "lb:"+lbName(n))
	}
	nodes := cfg.nodeNames()
	for _, name := range nodes {
		guests = append(guests, "node:"+name)
	}
	return fault.Random(seed, fault.Options{
		Length: cfg.Length, Faults: cfg.Faults, Kinds: cfg.Kinds, Guests: guests, Nodes: append(nodes, "*"),
		Operations: []string{"*", "Create*", "Delete*", "DownloadServerCertificate", "Describe*", "PutServoStates"},
	})
}

// Run plays all seeds. The error is ErrBroken when something broke with one of them; any other means that something
// could not be tried.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &runner{cfg: cfg}
	var working sync.WaitGroup
	seeds := make(chan uint64)
	for range cfg.Parallel {
		working.Go(func() {
			for seed := range seeds {
				if err := r.one(ctx, seed); err != nil {
					r.fail(err)
					cancel()
				}
			}
		})
	}
	for n := range cfg.Seeds {
		select {
		case seeds <- cfg.Seed + uint64(n):
			continue
		case <-ctx.Done():
		}
		break
	}
	close(seeds)
	working.Wait()
	slices.SortFunc(r.report.Failures, func(a, b Failure) int { return int(a.Seed) - int(b.Seed) })
	if r.err == nil && len(r.report.Failures) > 0 {
		r.err = fmt.Errorf("%w with %d of %d seeds", ErrBroken, len(r.report.Failures), r.report.Seeds)
	}
	return r.report, r.err
}

type runner struct {
	cfg Config

	mu     sync.Mutex
	report Report
	err    error
}

func (r *runner) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// one plays a seed.
func (r *runner) one(ctx context.Context, seed uint64) error {
	schedule := ScheduleOf(r.cfg, seed)
	begun := time.Now()
	broken, err := try(ctx, r.cfg, seed, schedule)
	if err != nil {
		return fmt.Errorf("seed %d: %w", seed, err)
	}
	r.mu.Lock()
	r.report.Seeds++
	r.report.Faults += len(schedule.Faults)
	r.mu.Unlock()
	if len(broken) == 0 {
		r.say("seed %d: ok, %s", seed, time.Since(begun).Round(time.Millisecond))
		return nil
	}
	r.say("seed %d: %v", seed, broken[0])
	f := Failure{Seed: seed, Broken: broken, Schedule: schedule, Tries: 1}
	if r.cfg.Shrink {
		if err := r.shrink(ctx, &f); err != nil {
			return fmt.Errorf("seed %d: look for the smallest schedule: %w", seed, err)
		}
	}
	if f.File, err = r.keep(f); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Failures = append(r.report.Failures, f)
	return nil
}

// shrink makes the failure's schedule the smallest one with which the same invariant breaks.
func (r *runner) shrink(ctx context.Context, f *Failure) error {
	var err error
	f.Schedule, err = fault.Shrink(ctx, f.Schedule, func(ctx context.Context, s fault.Schedule) (bool, error) {
		f.Tries++
		broken, err := try(ctx, r.cfg, f.Seed, s)
		if err != nil {
			return false, err
		}
		same := slices.ContainsFunc(broken, func(b *invariant.BrokenError) bool {
			return b.Invariant == f.Broken[0].Invariant
		})
		r.say("seed %d: with %d faults it %s", f.Seed, len(s.Faults), map[bool]string{true: "breaks", false: "holds"}[same])
		return same, nil
	})
	return err
}

// keep writes the failure's schedule.
func (r *runner) keep(f Failure) (string, error) {
	f.Schedule.Comment = fmt.Sprintf("chaos, seed %d: %s", f.Seed, f.Broken[0].Invariant)
	path := filepath.Join(r.cfg.Artifacts, fmt.Sprintf("chaos-%d.json", f.Seed))
	if r.cfg.Artifacts != "" {
		if err := os.MkdirAll(r.cfg.Artifacts, 0o700); err != nil {
			return "", fmt.Errorf("keep the schedule: %w", err)
		}
	}
	if err := os.WriteFile(path, f.Schedule.JSON(), 0o600); err != nil {
		return "", fmt.Errorf("keep the schedule: %w", err)
	}
	return path, nil
}

func (r *runner) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = fmt.Fprintf(r.cfg.Progress, format+"\n", args...)
}
