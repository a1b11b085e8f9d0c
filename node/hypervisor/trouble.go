package hypervisor

import "context"

// Sectors is a run of sectors of a floppy, of 512 bytes each.
type Sectors struct{ First, Count int }

// SectorSize is a floppy's, in bytes.
const SectorSize = 512

// MediumSpoiler is the ability of drivers to have media that cannot be read everywhere, for tests.
type MediumSpoiler interface {
	// SpoilMedia has sectors of the medium in a machine's drive, and of those that come after it, unreadable; none makes
	// all readable again. The machine need not have been started. Its guest gets for such a sector what QEMU's floppy
	// controller gives: zeros, and no error.
	SpoilMedia(ctx context.Context, id string, bad []Sectors) error
}

// Pauser is the ability of machines to stand still.
type Pauser interface {
	// Pause stops the machine's processors; it is nil for a machine that is paused already.
	Pause(ctx context.Context) error
	// Resume lets them go on; it is nil for a machine that runs.
	Resume(ctx context.Context) error
}

// Interrupter is the ability of machines to be given a non-maskable interrupt.
type Interrupter interface {
	Interrupt(ctx context.Context) error
}

// Panicker is the ability of machines to have their guest's kernel panic.
type Panicker interface {
	// Panic returns when the machine has ended of it; a paused one does when it goes on.
	Panic(ctx context.Context) error
}
