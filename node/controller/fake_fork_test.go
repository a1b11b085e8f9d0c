package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// forkDriver is a fakeDriver that can fork. Its templates are ready as soon as they are started.
type forkDriver struct {
	*fakeDriver
	templates   int
	forks       []hypervisor.Spec
	forkErr     error
	mute        bool                        // templates never become ready
	pool        map[hypervisor.Template]int // as Prepare was told
	dropped     int                         // pools that were given up
	taken       bool                        // the next fork comes from the pool
	prover      accel.Prover                // finds what its machines run on
	admit       func(ctx context.Context, memoryMB int) (release func(), err error)
	guestsStart func() bool
}

var (
	_ hypervisor.Forker   = (*forkDriver)(nil)
	_ hypervisor.Admitter = (*forkDriver)(nil)
)

// Info says of the accelerator what libvirt's driver does.
func (d *forkDriver) Info() hypervisor.Info {
	info := d.fakeDriver.Info()
	if v, err := d.prover.Prove(context.Background()); err == nil && v.Accelerator == accel.KVM {
		info.Accelerator, info.BootTimeout = v.Accelerator, 15*time.Second
	}
	return info
}

func (d *forkDriver) Ground(ctx context.Context) (string, error) {
	v, err := d.prover.Prove(ctx)
	return v.Accelerator + " fake", err
}

func (d *forkDriver) AdmitSpares(admit func(ctx context.Context, memoryMB int) (release func(), err error),
	guestsStart func() bool,
) {
	d.admit, d.guestsStart = admit, guestsStart
}

func (d *forkDriver) StartTemplate(ctx context.Context, spec hypervisor.Spec,
	t hypervisor.Template) (hypervisor.Machine, error) {
	if err := os.WriteFile(t.Memory, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(t.Memory, int64(spec.MemoryMB)<<20); err != nil {
		return nil, err
	}
	m, err := d.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.templates++
	if !d.mute {
		d.machines[spec.ID].output = []byte(stage("ready-for-medium", 1) + "\n")
	}
	return m, nil
}

func (d *forkDriver) SaveTemplate(ctx context.Context, m hypervisor.Machine, t hypervisor.Template) error {
	if err := os.WriteFile(t.State, []byte("state"), 0o600); err != nil {
		return err
	}
	return m.Kill(ctx)
}

func (d *forkDriver) Fork(ctx context.Context, spec hypervisor.Spec,
	t hypervisor.Template) (hypervisor.Machine, error) {
	d.mu.Lock()
	err := d.forkErr
	taken := d.taken
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(t.State); err != nil {
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrTemplate, err)
	}
	m, err := d.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forks = append(d.forks, spec)
	if taken {
		return pooledMachine{m}, nil
	}
	return m, nil
}

func (d *forkDriver) Prepare(_ context.Context, spec hypervisor.Spec, t hypervisor.Template, n int,
	r *hypervisor.Rehearsal,
) error {
	if r == nil {
		return errors.New("forks are kept ready without a rehearsal")
	}
	// A fork brings its own.
	spec.ID, spec.ConsoleLog = "fork", "/console"
	if err := spec.Validate(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pool == nil {
		d.pool = map[hypervisor.Template]int{}
	}
	if d.pool[t] = n; n == 0 {
		d.dropped++
	}
	return nil
}

// ready counts the forks that are to be kept ready.
func (d *forkDriver) ready() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.pool {
		n += k
	}
	return n
}

func (d *forkDriver) forked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.forks)
}

type pooledMachine struct{ hypervisor.Machine }

func (pooledMachine) Pooled() bool { return true }

// forks makes the world's guests forks.
func (w *world) forks() *forkDriver {
	d := &forkDriver{fakeDriver: w.driver, prover: accel.Fixed(accel.TCG)}
	w.change = func(c *Config) {
		c.Driver, c.Guests, c.TemplateDir = d, GuestsFork, filepath.Join(w.dir, "templates")
	}
	return d
}
