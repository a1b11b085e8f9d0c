package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// coreLimit is the most bytes of a core dump. Zero would keep one from being a file, but not from going to the program
// that /proc/sys/kernel/core_pattern may name; for a limit of one byte the kernel leaves that out too (core(5), and
// fs/coredump.c).
const coreLimit = 1

// refuseCoreDumps keeps this process's memory, which holds keys, from being written anywhere when it crashes. The
// processes that it starts, QEMU among them, inherit the limit.
func refuseCoreDumps() error {
	limit := unix.Rlimit{Cur: coreLimit, Max: coreLimit}
	var have unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &have); err == nil && have.Max < coreLimit {
		limit = unix.Rlimit{} // somebody set it to none before; it cannot be raised
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("limit core dumps: %w", err)
	}
	// Root may still look at the memory of a process that is not dumpable, as leakscan does; another user, who could not
	// scan his own then, keeps to the limit.
	if os.Geteuid() != 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("refuse core dumps: %w", err)
	}
	return nil
}
