// Package scale runs a whole cloud with very many nodes and load balancers in one process and measures what each
// costs: the control plane, etcd, nodelink, TLS and the key's delivery are the real ones, and the guests are simulated
// (node/hypervisor/sim), which run the agent's own code.
//
// Run starts the cloud and its nodes (site.go), creates load balancers over the API and waits until each serves
// (create.go, follow.go), and returns what it measured, a row for each step of the way (measure.go, report.go).
package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
)

// Config of a run. Nodes and LoadBalancers are required.
type Config struct {
	// Nodes is how many nodes there are, 1 to 10,000.
	Nodes int
	// LoadBalancers is how many are created in all, 1 to 60,000: the guests' network has so many addresses.
	LoadBalancers int
	// Steps are the numbers of load balancers at which a row of the table is taken, rising; LoadBalancers is always the
	// last. Default 1,000, 5,000 and 20,000, as far as they lie below it.
	Steps []int
	// Concurrency is how many load balancers are under way at once, from the request until they serve; default 16.
	Concurrency int
	// Patience is how long nothing may come to serve before the run fails; default 60 s.
	Patience time.Duration
	// Handshakes is how many of the load balancers are asked for their certificate at the end, spread evenly over all;
	// default 100, or all if there are fewer.
	Handshakes int
	// Idle is how long the cloud is watched at the end while nobody asks it for anything; default 60 s, one long poll of
	// every guest. Negative means not at all.
	Idle time.Duration
	// Dir is where the run makes a folder for its state, removed at the end; default the system's for temporary files.
	Dir string
	// MemoryMB is the heap's size, in MB, from which on collecting garbage comes before speed; default 12,000.
	MemoryMB int
	// Progress takes a line about every second; nil means silence.
	Progress io.Writer
}

// Bounds of a Config.
const (
	maxNodes         = 10_000
	maxLoadBalancers = 60_000
)

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	for _, n := range []struct {
		name       string
		value      int
		least, top int
	}{
		{"nodes", c.Nodes, 1, maxNodes},
		{"load balancers", c.LoadBalancers, 1, maxLoadBalancers},
		{"concurrency", c.Concurrency, 0, 10_000},
		{"handshakes", c.Handshakes, 0, maxLoadBalancers},
		{"memory", c.MemoryMB, 0, 1 << 24},
	} {
		if n.value < n.least || n.value > n.top {
			errs = append(errs, fmt.Errorf("%s: %d, must be %d to %d", n.name, n.value, n.least, n.top))
		}
	}
	if c.Patience < 0 {
		errs = append(errs, fmt.Errorf("patience: %s, must not be negative", c.Patience))
	}
	for i, step := range c.Steps {
		if step < 1 || step > c.LoadBalancers || i > 0 && step <= c.Steps[i-1] {
			errs = append(errs, fmt.Errorf("steps: %d, must be rising numbers from 1 to %d", step, c.LoadBalancers))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if len(c.Steps) == 0 {
		for _, step := range []int{1_000, 5_000, 20_000} {
			if step < c.LoadBalancers {
				c.Steps = append(c.Steps, step)
			}
		}
	}
	if !slices.Contains(c.Steps, c.LoadBalancers) {
		c.Steps = append(slices.Clone(c.Steps), c.LoadBalancers)
	}
	if c.Concurrency == 0 {
		c.Concurrency = 16
	}
	if c.Patience == 0 {
		c.Patience = time.Minute
	}
	if c.Handshakes == 0 {
		c.Handshakes = 100
	}
	if c.Idle == 0 {
		c.Idle = servo.MaxWait
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = 12_000
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

// garbagePercent is how much garbage there may be beside what lives, below Config.MemoryMB. Most of what this process
// allocates lives as long as a load balancer, so collecting often finds little.
const garbagePercent = 300

// ErrNotServing means that a load balancer did not come to serve; the error says which, and how far it came.
var ErrNotServing = errors.New("a load balancer does not come to serve")

// ErrLimit means that the machine does not let one process have what a run of this size needs.
var ErrLimit = errors.New("a limit of this machine is too low")

// Run does it all, cleans up and returns what it measured. An error comes with the rows that were complete.
func Run(ctx context.Context, cfg Config) (_ Report, err error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	cfg = cfg.withDefaults()
	if err := raiseLimits(cfg); err != nil {
		return Report{}, err
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(cfg.MemoryMB) << 20))
	defer debug.SetGCPercent(debug.SetGCPercent(garbagePercent))
	report := Report{
		Nodes: cfg.Nodes, LoadBalancers: cfg.LoadBalancers, Concurrency: cfg.Concurrency, CPUs: runtime.GOMAXPROCS(0),
		DeliveryMeasured: "by the cloud's front door, from the request's arrival to the answer",
	}
	began := time.Now()
	s, err := startSite(ctx, cfg)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return report, err
	}
	report.NodesSeconds = time.Since(began).Seconds()
	report.NodeKB = s.nodeKB
	err = s.grow(ctx, &report)
	if err != nil {
		return report, err
	}
	if report.IdleCPUMillis, err = s.idle(ctx); err != nil {
		return report, err
	}
	report.Handshakes, err = s.handshakes(ctx)
	return report, err
}

// idle returns the processor's time, in ms, that a guest with all that belongs to it takes in a second when nothing
// happens.
func (s *site) idle(ctx context.Context) (float64, error) {
	if s.cfg.Idle < 0 {
		return 0, nil
	}
	s.progress.say("watching the cloud idle for %s", s.cfg.Idle)
	before, timer := usedCPU(), time.NewTimer(s.cfg.Idle)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return (usedCPU() - before).Seconds() * 1000 / s.cfg.Idle.Seconds() / float64(s.cfg.LoadBalancers), nil
}

// grow creates the load balancers, step by step.
func (s *site) grow(ctx context.Context, report *Report) error {
	made := 0
	for _, step := range s.cfg.Steps {
		s.meter.begin(s.tracker)
		if err := s.create(ctx, made, step); err != nil {
			return err
		}
		row, err := s.meter.end(ctx, s, step, step-made)
		if err != nil {
			return err
		}
		report.Rows = append(report.Rows, row)
		made = step
	}
	return nil
}
