package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
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
	// The os package would have the device watched for readiness.
	fd, err := unix.Open("/dev/random", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	// struct rand_pool_info: bits of entropy, bytes of data, data
	info := make([]byte, 8+len(seed))
	defer clear(info)
	binary.NativeEndian.PutUint32(info, uint32(len(seed)*8))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(seed)))
	copy(info[8:], seed)
	if err := ioctl(uintptr(fd), unix.RNDADDENTROPY, info); err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	// Before the generator is seeded for the first time the kernel refuses to reseed, and need not.
	if err := ioctl(uintptr(fd), unix.RNDRESEEDCRNG, nil); err != nil && !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("reseed random numbers: %w", err)
	}
	return nil
}

// ioctl hands the kernel a structure as bytes, or nothing. The bytes must be as long as the request says.
func ioctl(fd uintptr, request uint, arg []byte) error {
	p := unsafe.Pointer(unsafe.SliceData(arg)) //nolint:gosec // G103: the way to hand over a structure
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(p)); errno != 0 {
		return errno
	}
	return nil
}
