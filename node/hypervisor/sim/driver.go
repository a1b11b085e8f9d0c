package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/events"
)

var (
	_ hypervisor.Driver = (*Driver)(nil)
	_ hypervisor.Dialer = (*Driver)(nil)
)

// Config of a Driver. Dir is required.
type Config struct {
	// Dir keeps a small record per machine, so that the next driver knows which there were; made with mode 0700. One
	// driver at a time.
	Dir string
	// Lifecycle is how guests boot and fail; the zero value boots at once and never fails.
	Lifecycle Lifecycle
	// Clock is what modelled delays pass by; nil means SkipTime, by which they take no real time.
	Clock Clock
	// Seed decides about the chances of a lifecycle: the n-th machine of a driver with this seed always has the same
	// life.
	Seed uint64
	// Programs are further flavours of guests by name, beside "lbvm" and "web".
	Programs map[string]Program
	Logger   *slog.Logger // nil means silence
}

// Validate reports all that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("simulated machines: Dir is required"))
	}
	for name, program := range c.Programs {
		if !flavourPattern.MatchString(name) || program == nil {
			errs = append(errs, fmt.Errorf("simulated machines: Programs[%q]: want a short lower-case name and a program",
				name))
		}
	}
	return errors.Join(append(errs, c.Lifecycle.Validate())...)
}

func (c Config) withDefaults() Config {
	c.Lifecycle = c.Lifecycle.withDefaults()
	if c.Clock == nil {
		c.Clock = SkipTime()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	programs := map[string]Program{LBVM: runLBVM, Web: runWeb}
	maps.Copy(programs, c.Programs)
	c.Programs = programs
	return c
}

// Driver runs the simulated machines of one node.
type Driver struct {
	cfg     Config
	records records
	network *network
	hub     events.Hub
	work    sync.WaitGroup // the guests' programs

	mu       sync.Mutex
	closed   bool
	started  uint64 // machines so far, by which a life is chosen
	machines map[string]*machine
	spoiled  map[string][]hypervisor.Sectors // of media, by machine
}

var errClosed = fmt.Errorf("%w: the driver is closed", hypervisor.ErrUnavailable)

// New opens the driver on its folder. The machines of an earlier driver there are found as ended.
func New(cfg Config) (*Driver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	d := &Driver{cfg: cfg, records: records{dir: cfg.Dir}, machines: map[string]*machine{}}
	past, err := d.records.load()
	if err != nil {
		return nil, err
	}
	if d.network, err = newNetwork(); err != nil {
		return nil, err
	}
	for _, r := range past {
		d.machines[r.ID] = pastMachine(d, r)
	}
	return d, nil
}

// Info implements hypervisor.Driver.
func (d *Driver) Info() hypervisor.Info {
	return hypervisor.Info{
		Driver: "sim", Accelerator: "none", Version: "lifecycle " + d.cfg.Lifecycle.Name,
		BootTimeout: d.cfg.Lifecycle.BootTimeout.Duration, ParallelBoots: parallelBoots,
	}
}

// parallelBoots is far more than any number of cores: a simulated boot waits more than it works.
const parallelBoots = 64

// Start implements hypervisor.Driver.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", spec.ID, err)
	}
	fail := func(err error) error { return &hypervisor.Error{Op: "start", MachineID: spec.ID, Err: err} }
	if err := ctx.Err(); err != nil {
		return nil, fail(err)
	}
	parts, err := d.assemble(spec)
	if err != nil {
		return nil, fail(err)
	}
	m, err := d.admit(spec, parts)
	if err != nil {
		parts.medium.close()
		return nil, err
	}
	if err := d.records.save(m.record); err != nil {
		d.forget(spec.ID)
		m.drive.eject()
		d.work.Done()
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, err)
	}
	m.powerOn(parts.program)
	return m.seen(), nil
}

// parts are what a machine is made of.
type parts struct {
	program Program
	medium  *medium // nil for an empty drive
	console *console
}

// assemble looks for everything that the spec names.
func (d *Driver) assemble(spec hypervisor.Spec) (p parts, err error) {
	if err := checkFile("kernel", spec.Kernel); err != nil {
		return parts{}, err
	}
	flavour, err := readFlavour(spec.Initrd)
	if err != nil {
		return parts{}, err
	}
	if p.program = d.cfg.Programs[flavour]; p.program == nil {
		return parts{}, fmt.Errorf("initrd %s: no simulated guest of flavour %q is known here", spec.Initrd, flavour)
	}
	if p.console, err = openConsole(spec.ConsoleLog); err != nil {
		return parts{}, err
	}
	if spec.Medium != "" {
		if p.medium, err = openMedium(spec.Medium); err == nil {
			p.medium.bad = d.spoiledFor(spec.ID)
		}
	}
	return p, err
}

// admit makes the machine known, unless its id is taken.
func (d *Driver) admit(spec hypervisor.Spec, p parts) (*machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	if _, taken := d.machines[spec.ID]; taken {
		return nil, fmt.Errorf("start machine %s: %w", spec.ID, hypervisor.ErrExists)
	}
	d.started++
	m := newMachine(d, spec, p, d.cfg.Lifecycle.draw(d.cfg.Seed, d.started))
	d.machines[spec.ID] = m
	d.work.Add(1)
	return m, nil
}

func (d *Driver) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.machines, id)
}

func (d *Driver) find(id string) (*machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.machines[id]
	if !ok {
		return nil, fmt.Errorf("machine %q: %w", id, hypervisor.ErrNotFound)
	}
	return m, nil
}

// Find implements hypervisor.Driver.
func (d *Driver) Find(_ context.Context, id string) (hypervisor.Machine, error) {
	m, err := d.find(id)
	if err != nil {
		return nil, err
	}
	return m.seen(), nil
}

// List implements hypervisor.Driver.
func (d *Driver) List(context.Context) ([]hypervisor.Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]hypervisor.Machine, 0, len(d.machines))
	for _, m := range d.machines {
		all = append(all, m.seen())
	}
	return all, nil
}

// Events implements hypervisor.Driver.
func (d *Driver) Events(ctx context.Context) (<-chan hypervisor.Event, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	return d.hub.Subscribe(ctx), nil
}

// DialNIC implements hypervisor.Dialer.
func (d *Driver) DialNIC(ctx context.Context, id string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dial network card of machine %s: %w", id, err)
	}
	m, err := d.find(id)
	if err != nil {
		return nil, err
	}
	return m.dial()
}

// Close ends all machines, as a power cut does, and returns when nothing of them runs any more. Their records stay.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	machines := make([]*machine, 0, len(d.machines))
	for _, m := range d.machines {
		machines = append(machines, m)
	}
	d.mu.Unlock()
	for _, m := range machines {
		m.end(hypervisor.Crashed, reasonDriverClosed)
	}
	d.work.Wait()
	d.network.close()
	d.hub.Close()
	return nil
}

// checkFile says whether a regular file is at path.
func checkFile(what, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at %s: %w", what, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s %s: it is no regular file", what, filepath.Clean(path))
	}
	return nil
}
