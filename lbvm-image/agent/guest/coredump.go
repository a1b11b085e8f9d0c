package guest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// refuseCoreDumps keeps the memory of the guest's processes, in which the keys are, from being written anywhere when
// one crashes. What is started later inherits the limit.
func refuseCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("limit core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("refuse core dumps: %w", err)
	}
	return nil
}
