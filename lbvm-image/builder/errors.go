package builder

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Errors that callers test for with errors.Is. Each comes wrapped in *Error, which says what to do about it.
var (
	// ErrNoApt means that the host has no apt or dpkg, so a kernel package cannot be fetched.
	ErrNoApt = errors.New("apt is not available")
	// ErrNoKernelPackage means that apt knows no such kernel package, or that it cannot be downloaded.
	ErrNoKernelPackage = errors.New("kernel package is not available")
	// ErrNotKernel means that a file is neither a bzImage nor an ELF kernel for x86-64.
	ErrNotKernel = errors.New("not a Linux kernel image")
	// ErrNoPVH means that the kernel has no PVH entry point (CONFIG_PVH), so it cannot be started without unpacking
	// itself.
	ErrNoPVH = errors.New("kernel has no PVH entry point")
	// ErrNoModule means that a module which the guest needs is neither built in nor in the modules folder.
	ErrNoModule = errors.New("kernel module is missing")
	// ErrNoAgent means that there is no agent to put into the image, or that it is no static x86-64 binary.
	ErrNoAgent = errors.New("agent binary is not usable")
	// ErrNoBusyBox means that there is no BusyBox to put into the web image, or that it is no static x86-64 binary.
	ErrNoBusyBox = errors.New("BusyBox is not usable")
	// ErrTooLarge means that an initramfs would exceed MaxInitramfs, or be more than a guest has memory for.
	ErrTooLarge = errors.New("initramfs is too large")
	// ErrDiskFull means that the cache or image folder has no space left.
	ErrDiskFull = errors.New("no space left")
	// ErrNoImage means that no image of that name was built.
	ErrNoImage = errors.New("no such image")
	// ErrDamaged means that an image's files do not fit its manifest.
	ErrDamaged = errors.New("image is damaged")
)

// Error tells what could not be done, why, and how to go on.
type Error struct {
	Op   string // "fetch kernel package linux-image-amd64"
	Err  error
	Hint string // "run apt-get update", empty when there is nothing to suggest
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s: %v (%s)", e.Op, e.Err, e.Hint)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fail wraps err for the operation, and turns a full disk into ErrDiskFull whoever noticed it.
func fail(op string, err error, hint string) error {
	if err == nil {
		return nil
	}
	if diskFull(err) && !errors.Is(err, ErrDiskFull) {
		return &Error{
			Op:   op,
			Err:  fmt.Errorf("%w: %w", ErrDiskFull, err),
			Hint: "free some space: a build needs about 700 MB in the cache folder",
		}
	}
	var wrapped *Error
	if hint == "" && errors.As(err, &wrapped) {
		return err
	}
	return &Error{Op: op, Err: err, Hint: hint}
}

// diskFull also knows the words of the tools that are run, whose errno is lost.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		strings.Contains(err.Error(), "No space left on device") || strings.Contains(err.Error(), "not enough space")
}
