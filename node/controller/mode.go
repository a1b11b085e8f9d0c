package controller

import "fmt"

// GuestMode is how a node's guests come to life.
type GuestMode string

// The modes. The zero value means GuestsCold.
const (
	// GuestsCold boots each guest from its kernel.
	GuestsCold GuestMode = "cold"
	// GuestsFork makes each guest a copy of a template, and boots it cold when that does not work.
	GuestsFork GuestMode = "fork"
	// GuestsSim is for a driver whose guests are simulated in the node's process: they cost nearly nothing, so many
	// start at once.
	GuestsSim GuestMode = "sim"
)

// howPooled is how a fork was started that took a machine which was ready; otherwise it is the mode.
const howPooled = "pooled"

// cost is what a guest takes of its host's memory: a part of its own, and so many MB whatever its size.
type cost struct{ fixedMB, percent int }

// cost is what was measured: a cold guest is its own memory and QEMU's copy of the kernel and translated code; a fork
// shares its template's memory and has what it wrote of it.
func (m GuestMode) cost() cost {
	switch m {
	case GuestsFork:
		return cost{fixedMB: 45}
	case GuestsSim:
		return cost{fixedMB: 1}
	default:
		return cost{fixedMB: 140, percent: 100}
	}
}

// startsPerCore is how many starts on one core may be under way at once. A fork takes a core until it serves: with two
// or three of them on each, ten together took longer in all (10.2 s instead of 8.1), and all served late. Simulated
// guests wait for answers most of the time.
func (m GuestMode) startsPerCore() int {
	if m == GuestsSim {
		return 16
	}
	return 1
}

func (c cost) of(memoryMB int) int { return c.fixedMB + memoryMB*c.percent/100 }

func (m GuestMode) validate() error {
	switch m {
	case "", GuestsCold, GuestsFork, GuestsSim:
		return nil
	default:
		return fmt.Errorf("controller: Guests %q: want %s, %s or %s", m, GuestsSim, GuestsFork, GuestsCold)
	}
}
