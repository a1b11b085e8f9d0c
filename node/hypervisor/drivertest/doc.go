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
//
// Texts that make it act: "power-off"; "panic", after which its kernel panics; "flood", 1024 numbered lines of 64
// bytes.
//
// Command guest in the folder below is that guest for real machines; BuildInitrd packs it. A simulated driver
// brings its own.
package drivertest
