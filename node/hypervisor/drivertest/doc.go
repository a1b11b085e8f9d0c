// Package drivertest is the conformance suite of hypervisor drivers: what every driver has to do, as Ginkgo specs.
// A driver's own tests call Specs with a Harness that opens the driver and describes its guest.
//
// The guest of the suite tells what it sees in lines that begin with "@conformance ", and does what the medium in its
// drive says. The first line of a medium's first sector is its text.
//
//	booted          the first line of all
//	ready           it looks at its drive and listens to the power button
//	medium TEXT     a medium is in the drive that was not there before
//	no medium       the medium was taken out
//	flooded         all of "flood" is written
//	button          the power button was pressed; it powers off
//	power-off       the last line before it powers off
//	trouble: TEXT   something is missing in the guest
//	remembered TEXT what it was told to remember before, or "nothing"
//	random HEX      16 bytes of the machine's generator
//
// Texts that make it act: "power-off"; "panic", after which its kernel panics; "flood", 1024 numbered lines of 64
// bytes; "remember TEXT" and "recall", which tell what it remembers; "random".
//
// What the guest does is package program, a function of an interface of seven methods. Command guest runs it on real
// machines; BuildInitrd packs it. A simulated driver runs program.Run as the guest of a kernel and an initrd of its
// own making, which Harness names like real ones: it says "booted" with program.Say, then runs the program.
// Harness.EndsWithDriver and hypervisor.Dialer tell the suite what else is different there.
//
// Drivers that are Forkers are also held to what fork.go of this package says; others skip it by design.
package drivertest
