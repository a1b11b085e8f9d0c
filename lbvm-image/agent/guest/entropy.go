package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSeed is what one call may add, in bytes; more would be mixed down anyway.
const maxSeed = 512

// addEntropy credits the seed to the kernel's random number generator and makes it take the seed into use at once, so
// that two guests started from the same state never draw the same numbers.
func addEntropy(seed []byte) error {
	if len(seed) == 0 || len(seed) > maxSeed {
		return fmt.Errorf("add entropy: a seed has 1 to %d bytes, not %d", maxSeed, len(seed))
	}
	f, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing is buffered
	// struct rand_pool_info: bits of entropy, bytes of data, data
	info := make([]byte, 8+len(seed))
	defer clear(info)
	binary.NativeEndian.PutUint32(info, uint32(len(seed)*8)) //nolint:gosec // at most maxSeed
	binary.NativeEndian.PutUint32(info[4:], uint32(len(seed)))
	copy(info[8:], seed)
	if err := ioctl(f.Fd(), unix.RNDADDENTROPY, unsafe.Pointer(&info[0])); err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	// Before the generator is seeded for the first time the kernel refuses to reseed, and need not.
	if err := ioctl(f.Fd(), unix.RNDRESEEDCRNG, nil); err != nil && !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("reseed random numbers: %w", err)
	}
	return nil
}

func ioctl(fd uintptr, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
