// Package accel finds out which accelerator really runs guests on this host. That /dev/kvm opens, and even that a
// virtual CPU can be made, proves nothing: under nested virtualisation a guest may hang, or run a thousand times
// slower than software emulation. So the accelerator is proved by a tiny guest that has to do a fixed amount of work
// before a deadline, and the verdict is kept until the host boots again. TCG, QEMU's software emulation, needs no
// proof: it is what is left.
//
// Prover is the seam for tests; KVM is the real one, Cached keeps its verdicts. SteadyTSCKHz belongs to TCG: guests see
// the host's time stamp counter, and are told its rate. The driver that uses all this is hypervisor/libvirt.
package accel

import (
	"context"
	"time"
)

// The accelerators.
const (
	KVM = "kvm"
	TCG = "tcg"
)

// Verdict is the answer of a proof.
type Verdict struct {
	Accelerator string        `json:"accelerator"` // KVM or TCG
	Reason      string        `json:"reason"`      // why, in one sentence for an operator
	Took        time.Duration `json:"took"`        // how long the proof took, in nanoseconds
}

// Prover finds the accelerator. An error means that the host could not even be asked (no QEMU); a host without KVM is
// a Verdict of TCG.
type Prover interface {
	Prove(ctx context.Context) (Verdict, error)
}

// Fixed is a Prover that answers what it is told to: the accelerator that an operator chose, or that a test needs.
type Fixed string

// Prove returns the accelerator that f names.
func (f Fixed) Prove(context.Context) (Verdict, error) {
	return Verdict{Accelerator: string(f), Reason: "chosen by configuration"}, nil
}
