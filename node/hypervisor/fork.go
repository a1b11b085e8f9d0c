package hypervisor

import (
	"context"
	"errors"
)

// ErrTemplate means that a template cannot be forked: it was made on another ground, or its files are cut short or
// gone. Whoever gets it makes the template again.
var ErrTemplate = errors.New("template not usable")

// Template names the two files of a template: a guest that was booted once, up to the point where it waits for its
// medium. Every fork is a copy of it that shares the template's memory until it writes. No secret may ever have been
// in its memory.
type Template struct {
	Memory string // absolute path of the guest's RAM, as long as the machine's memory
	State  string // absolute path of the devices' state
}

// Forker is the ability of drivers that start machines as copies of a template. All machines of a template have the
// same shape: what a Spec says but for its ID, Medium, ConsoleLog and NIC. A fork keeps the template's MAC until its
// guest sets another.
type Forker interface {
	// Ground tells, in one line, everything besides a machine's shape that a template depends on: the hypervisor's
	// version, the machine type, the processor. A template of one ground cannot be forked on another.
	Ground(ctx context.Context) (string, error)
	// StartTemplate is Start with the guest's memory in the file t.Memory, which it makes, mode 0600; an error that is
	// fs.ErrExist when it is there already. The machine is in no List, and does not outlive its process.
	StartTemplate(ctx context.Context, spec Spec, t Template) (Machine, error)
	// SaveTemplate stops the machine that StartTemplate started for t, makes and writes t.State, mode 0600, and ends
	// the machine, also when it fails. From then on neither file changes.
	SaveTemplate(ctx context.Context, m Machine, t Template) error
	// Fork starts a machine as a copy of t, with spec.Medium in its drive before its guest goes on. Its console has
	// what the guest says from then on. ErrTemplate, wrapped, when t is at fault; otherwise the errors of Start. A fork
	// that fails leaves nothing, and no event of its id.
	Fork(ctx context.Context, spec Spec, t Template) (Machine, error)
	// Prepare keeps n machines ready for Fork to take, paused copies of t in spec's shape, in the background; later
	// calls for t change n and r, and 0 drops them. What a fork brings of its own need not be in spec. They are in no
	// List, and end with the driver's Close. Such a copy may have run before, for a moment while it waited for its
	// medium or for a whole rehearsal when r is not nil; what its guest said then is in no console, and the medium of
	// its rehearsal is gone.
	Prepare(ctx context.Context, spec Spec, t Template, n int, r *Rehearsal) error
}

// Admitter is the ability of Forkers to ask for room before they make a machine ready that nobody waits for yet, and to
// leave the host to guests that start.
type Admitter interface {
	// AdmitSpares has the driver call admit with the memory in MB of each machine that it makes ready for Prepare. It
	// goes on when admit returns, and calls release once the host's free memory shows what the machine takes. An error
	// means that there is no room: none is made ready until the next Fork or Prepare. ctx ends with the driver's Close.
	// While guestsStart says so, which must not block, a machine that is being made ready stands back: a guest goes on to
	// need the processor after its Fork returned.
	AdmitSpares(admit func(ctx context.Context, memoryMB int) (release func(), err error), guestsStart func() bool)
}

// Rehearsal is how the guest of a copy that is kept ready plays its start once, so that the real one takes less of the
// processor. A copy whose rehearsal fails is dropped; a driver may do without rehearsals when they keep failing, and
// where they gain nothing. Both functions are called from a goroutine of the driver's, one call at a time.
type Rehearsal struct {
	// Medium makes the new file path, mode 0600, which is the medium of one copy's rehearsal. The driver overwrites and
	// removes it.
	Medium func(path string) error
	// Done says whether a line of the guest's console tells that its rehearsal is over, and that it waits for the
	// medium that it is for.
	Done func(line []byte) bool
}

// Pooled is the ability of a fork to tell whether Prepare had made it ready before it was asked for.
type Pooled interface {
	Pooled() bool
}
