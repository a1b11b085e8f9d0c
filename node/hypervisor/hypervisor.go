// Package hypervisor is the contract between a node's controller and whatever runs its guests: real QEMU guests
// (package libvirt) or simulated ones. It holds the contract and nothing else; drivertest holds the conformance
// suite that every driver passes.
package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors that callers test for with errors.Is.
var (
	ErrNotFound = errors.New("no such machine")
	ErrExists   = errors.New("a machine with this id exists")
	ErrNoMedium = errors.New("no medium is inserted")
	// ErrNotRunning means that the machine has ended, so that there is nothing to insert, stop or look at.
	ErrNotRunning = errors.New("the machine is not running")
	// ErrUnavailable means that the host cannot run guests at all: no QEMU, no libvirt, no memory. It is an
	// infrastructure fault, never a guest's.
	ErrUnavailable = errors.New("hypervisor unavailable")
)

// Driver runs the machines of one node. Methods may be called from any goroutine.
type Driver interface {
	// Start defines and starts a machine and returns as soon as it runs; what its guest does is told by its
	// console. ErrExists when the id is taken; ErrUnavailable, wrapped, when the host is at fault.
	Start(ctx context.Context, spec Spec) (Machine, error)
	// Find returns a machine by id, also one that an earlier process started; ErrNotFound otherwise.
	Find(ctx context.Context, id string) (Machine, error)
	// List returns every machine of this driver's state folder, those of an earlier process too.
	List(ctx context.Context) ([]Machine, error)
	// Events returns a channel of lifecycle events from now on, closed when ctx ends.
	Events(ctx context.Context) (<-chan Event, error)
	// Info says what the driver runs on.
	Info() Info
	// Close lets go of the driver. Machines go on; a later driver on the same folder finds them.
	Close() error
}

// Machine is one guest.
type Machine interface {
	ID() string
	// State tells where the machine is in its life; a machine that was killed is Gone.
	State(ctx context.Context) (State, error)
	// Stop asks the guest to power off (ACPI button) and returns at once. A guest may take its time or ignore it.
	Stop(ctx context.Context) error
	// Kill ends the guest now and forgets it with all its files but the console log and the medium, which are the
	// caller's. It returns nil when the machine is gone already.
	Kill(ctx context.Context) error
	// InsertMedium puts the image at path (mode 0600) into the floppy drive in place of what is there. The guest
	// can read it, never write it.
	InsertMedium(ctx context.Context, path string) error
	// EjectMedium empties the drive; ErrNoMedium when it is empty already.
	EjectMedium(ctx context.Context) error
	// Console follows the serial console from this machine's first byte until the machine has ended and all is
	// read, or ctx ends; then io.EOF.
	Console(ctx context.Context) (io.ReadCloser, error)
	// Statistics tells what the machine has used; ErrNotRunning when it has ended.
	Statistics(ctx context.Context) (Statistics, error)
}

// Screenshotter is the ability of machines that have a display.
type Screenshotter interface {
	// Screenshot returns a PNG of the guest's display.
	Screenshot(ctx context.Context) ([]byte, error)
}

// State is where a machine is in its life.
type State string

// The states of a machine. Gone means that it ended and nothing of it is left.
const (
	Running State = "running"
	Paused  State = "paused"
	Stopped State = "stopped"
	Crashed State = "crashed"
	Gone    State = "gone"
)

// Event is a change of a machine's state.
type Event struct {
	ID     string
	State  State
	Reason string // the hypervisor's own word: shutdown, destroyed, crashed, …
	At     time.Time
}

// Info describes the ground under a driver.
type Info struct {
	Driver      string        // "libvirt", "sim"
	Accelerator string        // "kvm", "tcg", "none"
	Version     string        // for example "QEMU 7.2.22, libvirt 9.0.0"
	BootTimeout time.Duration // how long a guest may take to its first milestone here
	// ParallelBoots is how many guests may boot at once before they starve each other; callers queue the rest.
	ParallelBoots int
}

// Statistics are a machine's resource counters since its start. Its network traffic is counted where it passes, by
// the node's virtual network.
type Statistics struct {
	CPUTime     time.Duration
	MemoryBytes uint64 // resident memory on the host
}

// Error is what a driver returns when a machine, not the host, is at fault. It carries the evidence.
type Error struct {
	Op          string // "start", "insert medium", …
	MachineID   string
	ConsoleTail string // last lines of the serial console
	Err         error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s of machine %s: %v", e.Op, e.MachineID, e.Err)
}

// Unwrap returns the underlying fault.
func (e *Error) Unwrap() error { return e.Err }
