package libvirt

import (
	"fmt"
	"strings"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// KernelCmdline returns what the driver tells every guest's Linux, followed by the machine's own options, which win
// where they name the same thing. tscKHz is the host's time stamp counter under TCG, or 0 when it is not known.
// The gains are processor time of a cold boot under TCG, of 1.9 s without these options (2-core host, Linux 6.1).
func KernelCmdline(accelerator string, tscKHz int, own string) string {
	options := []string{
		"console=ttyS0", // all that the kernel and the agent say goes to the console log
		"quiet",         // warnings and worse only: each character is an exit to QEMU
		"panic=-1",      // a panic ends the machine at once (with on_reboot=destroy) instead of hanging
		// RDRAND, which is the host's own generator here, seeds the kernel: without it the first key that a guest
		// makes waits a second for entropy.
		"random.trust_cpu=1",
		"cryptomgr.notests", // the kernel's self tests of ciphers that no guest uses: 0.1 s
	}
	if accelerator == accel.TCG {
		options = append(options, tcgOptions(tscKHz)...)
	}
	if own != "" {
		options = append(options, own)
	}
	return strings.Join(options, " ")
}

// kernelCmdline is KernelCmdline for a machine that may have a display.
func kernelCmdline(g ground, spec hypervisor.Spec) string {
	line := KernelCmdline(g.accelerator, g.tscKHz, spec.Cmdline)
	if spec.Display {
		// Before the serial console: /dev/console is the last one.
		line = hypervisor.DisplayWord + " " + line
	}
	return line
}

// tcgOptions make up for what emulation is bad at: keeping time while it calibrates, and patching code that it has
// translated.
func tcgOptions(tscKHz int) []string {
	options := []string{
		// The test whether timer interrupts come counts them against a delay loop, and fails on a busy host.
		"no_timer_check",
		// No watchdog marks the counter unstable because an emulated timer came late.
		"tsc=reliable",
		// There is no speculation under emulation, hence nothing to mitigate: 0.2 s.
		"mitigations=off",
		// With one processor Linux patches all its lock prefixes away, and each patch throws translated code
		// away: 0.15 s.
		"noreplace-smp",
	}
	if tscKHz > 0 {
		// A guest measures the counter's rate against an emulated timer; on a busy host it can be off by a factor,
		// and so is the guest's clock from then on (measured: 45 s passed in the guest within 3 s).
		options = append(options, fmt.Sprintf("tsc_early_khz=%d", tscKHz))
	}
	return options
}
