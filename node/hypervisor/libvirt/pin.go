package libvirt

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onOneCPU runs f on the first processor that this process may use. libvirt compares the processor's description with
// the one in its capabilities cache when it starts, and with KVM that description holds the number of the very core
// that the thread runs on: off that core a good cache is thrown away, and 3 s with it.
func onOneCPU(f func() error) error {
	var before unix.CPUSet
	runtime.LockOSThread()
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return f()
	}
	var first unix.CPUSet
	for cpu := range len(before) * 64 {
		if before.IsSet(cpu) {
			first.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		runtime.UnlockOSThread()
		return f()
	}
	err := f()
	// A thread that cannot be set free stays locked to this goroutine, and ends with it.
	if unix.SchedSetaffinity(0, &before) == nil {
		runtime.UnlockOSThread()
	}
	return err
}
