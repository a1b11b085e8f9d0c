package builder

import "strings"

// cmdline is the kernel command line of every image: what a guest without disk, users and other kernels' modules can
// do without, and what makes its boot short. A hypervisor adds the console and what its accelerator needs. The gains
// were measured with QEMU 7.2, TCG and Debian's 6.1, of 2.2 s from QEMU's start to /init without them.
func cmdline() string {
	return strings.Join([]string{
		// Errors are on the console too when they are fatal; else it belongs to the agent's milestones.
		"quiet", "loglevel=3",
		// A panic ends the guest at once instead of hanging it.
		"panic=-1",
		// The interrupt routing is in the MP table as well, and reading it from ACPI's byte code costs 0.15 s for each
		// PCI device.
		"acpi=noirq",
		// The local timer is calibrated for 0.1 s; the HPET needs no calibration, and a guest of one or two processors
		// notices no difference.
		"noapictimer",
		// No self tests of kernel crypto, which is not used; no search for more serial ports; no security modules in a
		// system with one process; no IPv6, whose frames the virtual network would drop.
		"cryptomgr.notests", "8250.nr_uarts=1", "lsm=", "ipv6.disable=1",
		// No tracing, error-detecting allocator and debug file system: some 9 MB of inodes and pools, without which a
		// guest of 96 MB has room to boot (with them one in seventy ran out of memory while its initramfs was
		// unpacked), and 0.2 s.
		"initcall_blacklist=event_trace_init,tracer_init_tracefs", "kfence.sample_interval=0", "debugfs=off",
		// No accounting of pressure and of memory for groups of processes, of which there are none, no watchdog for
		// hung processors, which a busy host's guests seem to have: a fifth of what the kernel does at each of the
		// guest's steps, and a wake-up every few seconds.
		"psi=0", "cgroup_disable=memory", "nowatchdog",
		// The kernel holds the initramfs twice until it has unpacked it, and a guest of 96 MB has 27 MB for that and all
		// else: no table of 4 MB that says whose the memory of per-processor counters is, and no bound of half the memory
		// for what is unpacked, beyond which it is cut short and a program in it ends by SIGBUS. By both, an image may be
		// 15.7 MB instead of 13.9.
		"cgroup.memory=nokmem", "rootfstype=ramfs",
		// Random numbers at once where the processor makes them.
		"random.trust_cpu=1",
	}, " ")
}
