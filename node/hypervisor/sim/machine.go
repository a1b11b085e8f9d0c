package sim

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var _ hypervisor.Machine = (*machine)(nil)

// Why a machine ended, in the words that package libvirt has for the same.
const (
	reasonStarted      = "started"
	reasonShutdown     = "shutdown"
	reasonDestroyed    = "destroyed"
	reasonPanicked     = "panicked"
	reasonRemoved      = "removed"
	reasonPaused       = "suspended"
	reasonResumed      = "resumed"
	reasonDriverClosed = "its driver was closed"
)

// machine is the host's side of a guest. Its fields above the blank line never change.
type machine struct {
	driver  *Driver
	record  record
	spec    hypervisor.Spec
	life    life
	console *console
	drive   *drive
	nic     *nic // nil when the machine has none
	stop    context.CancelFunc
	ended   context.Context //nolint:containedctx // the machine's own life, which no call spans
	button  context.Context //nolint:containedctx // ends when the power button is pressed
	press   context.CancelFunc
	hung    atomic.Bool            // its lifecycle has it so: nothing happens in it any more
	leave   atomic.Pointer[func()] // the clock, while it boots
	wall    wallClock

	mu      sync.Mutex
	state   hypervisor.State
	paused  bool          // while it is Running
	begun   time.Time     // when its program began
	booting time.Duration // modelled so far
}

func newMachine(d *Driver, spec hypervisor.Spec, p parts, l life) *machine {
	m := &machine{
		driver: d, spec: spec, life: l, console: p.console, drive: newDrive(p.medium), state: hypervisor.Running,
		record: record{ID: spec.ID, Console: spec.ConsoleLog, From: p.console.from, Display: spec.Display},
	}
	m.ended, m.stop = context.WithCancel(context.Background())
	m.button, m.press = context.WithCancel(context.Background())
	if spec.NIC != (hypervisor.NIC{}) {
		m.nic = newNIC(d.network, spec.NIC.MAC)
	}
	return m
}

// pastMachine is what is left of a machine whose driver is gone.
func pastMachine(d *Driver, r record) *machine {
	return &machine{
		driver: d, record: r, console: pastConsole(r.Console, r.From), drive: newDrive(nil), state: hypervisor.Crashed,
	}
}

// powerOn starts the program. The caller has counted it among the driver's work.
func (m *machine) powerOn(program Program) {
	m.publish(hypervisor.Running, reasonStarted)
	g := &Guest{m: m}
	leave := m.driver.cfg.Clock.Enter()
	m.leave.Store(&leave)
	go func() {
		defer m.driver.work.Done()
		defer leave()
		program(m.ended, g)
		// A first process that returns without having switched the machine off is what no kernel survives.
		g.Panic("Attempted to kill init! exitcode=0x00000000")
	}()
}

// end ends the machine, once; later calls change nothing. When it returns, the guest reaches nothing any more.
func (m *machine) end(state hypervisor.State, reason string) {
	m.mu.Lock()
	if m.state != hypervisor.Running {
		m.mu.Unlock()
		return
	}
	m.state = state
	m.mu.Unlock()
	m.console.end() // before the program learns of it: nobody has last words whose power is gone
	m.stop()
	if m.nic != nil {
		m.nic.remove()
	}
	m.drive.eject()
	m.publish(state, reason)
}

func (m *machine) publish(state hypervisor.State, reason string) {
	m.driver.hub.Publish(hypervisor.Event{ID: m.record.ID, State: state, Reason: reason, At: time.Now()})
}

func (m *machine) current() hypervisor.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// running says why something cannot be done to the machine.
func (m *machine) running(op string) error {
	switch m.current() {
	case hypervisor.Running:
		return nil
	case hypervisor.Gone:
		return fmt.Errorf("%s of machine %s: %w", op, m.record.ID, hypervisor.ErrNotFound)
	default:
		return fmt.Errorf("%s of machine %s: %w", op, m.record.ID, hypervisor.ErrNotRunning)
	}
}

func (m *machine) ID() string { return m.record.ID }

func (m *machine) State(context.Context) (hypervisor.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == hypervisor.Running && m.paused {
		return hypervisor.Paused, nil
	}
	return m.state, nil
}

// Stop presses the power button. What comes of it is the guest's.
func (m *machine) Stop(context.Context) error {
	if err := m.running("stop"); err != nil {
		return err
	}
	m.press()
	return nil
}

func (m *machine) Kill(context.Context) error {
	m.end(hypervisor.Stopped, reasonDestroyed)
	m.mu.Lock()
	gone := m.state == hypervisor.Gone
	m.state = hypervisor.Gone
	m.mu.Unlock()
	if gone {
		return nil
	}
	if err := m.driver.records.remove(m.record.ID); err != nil {
		return fmt.Errorf("kill of machine %s: %w", m.record.ID, err)
	}
	m.driver.forget(m.record.ID)
	m.publish(hypervisor.Gone, reasonRemoved)
	return nil
}

func (m *machine) InsertMedium(_ context.Context, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("insert medium of machine %s: %q is not an absolute path", m.record.ID, path)
	}
	if err := m.running("insert medium"); err != nil {
		return err
	}
	medium, err := openMedium(path)
	if err != nil {
		return &hypervisor.Error{Op: "insert medium", MachineID: m.record.ID, Err: err}
	}
	medium.bad = m.driver.spoiledFor(m.record.ID)
	if !m.drive.insert(medium) {
		return m.running("insert medium")
	}
	return nil
}

func (m *machine) EjectMedium(context.Context) error {
	if err := m.running("eject medium"); err != nil {
		return err
	}
	if !m.drive.empty() {
		return fmt.Errorf("eject medium of machine %s: %w", m.record.ID, hypervisor.ErrNoMedium)
	}
	return nil
}

func (m *machine) Console(ctx context.Context) (io.ReadCloser, error) {
	return m.console.follow(ctx), nil
}

// Statistics tells what the lifecycle says of memory, and the time that the boot has taken as the processor's.
func (m *machine) Statistics(context.Context) (hypervisor.Statistics, error) {
	if err := m.running("statistics"); err != nil {
		return hypervisor.Statistics{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return hypervisor.Statistics{
		CPUTime: m.booting, MemoryBytes: m.driver.cfg.Lifecycle.Memory.resident(m.spec.MemoryMB),
	}, nil
}

func (m *machine) dial() (net.Conn, error) {
	if err := m.running("dial network card"); err != nil {
		return nil, err
	}
	if m.nic == nil {
		return nil, fmt.Errorf("dial network card of machine %s: it has none: %w", m.record.ID, hypervisor.ErrNotRunning)
	}
	return m.nic.plug(), nil
}

// uptime is the modelled time since the machine's start: its boot's as the lifecycle says, then what its program took.
func (m *machine) uptime() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun.IsZero() {
		return m.booting
	}
	return m.booting + time.Since(m.begun)
}
