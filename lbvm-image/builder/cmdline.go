package builder

import "strings"

// cmdline is the kernel command line of every image: what makes an emulated guest boot fast and its console quiet.
// Measured with QEMU 7.2, TCG, Debian's 6.1: 2.2 s to /init without, 1.4 s with.
func cmdline(Flavour) string {
	return strings.Join([]string{
		"quiet", "loglevel=3", // errors and panics only: the console belongs to the agent's milestones
		"panic=-1",               // a panic ends the guest at once instead of hanging it
		"tsc=reliable",           // the host's counter: no watchdog against slower clocks
		"no_timer_check",         // a busy host fails the check of the timer's interrupt
		"noapictimer",            // saves 0.11 s of calibration against a clock that lies anyway
		"noreplace-smp",          // saves 0.16 s of patching lock prefixes in and out
		"mitigations=off",        // one tenant, one process
		"cryptomgr.notests",      // kernel crypto is not used
		"random.trust_cpu=1",     // the pool is full from the first moment where the CPU has RDRAND
		"8250.nr_uarts=1",        // no search for more serial ports
		"lsm=", "ipv6.disable=1", // not used in the guest
		"acpi=noirq", // saves 0.30 s of interpreting the firmware's interrupt routing; the MP table tells the same
	}, " ")
}
