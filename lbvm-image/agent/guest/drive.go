package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// driveNode is the first floppy drive with the format fixed to 1.44 MB (major 2, minor 28 is fd0u1440): the driver
// need not find out the format by trial.
const (
	driveNode  = "/dev/fd0u1440"
	driveMajor = 2
	driveMinor = 28
)

// Requests of the floppy driver, and the fields that are used of their structures (linux/fd.h, x86-64).
const (
	fdGetDriveParams = 0x80800211
	fdSetDriveParams = 0x40800290
	fdGetDriveState  = 0x80500212

	paramsSize        = 128
	paramsSpinup      = 40  // unsigned long, ticks
	paramsSelectDelay = 57  // unsigned char, ticks
	paramsCheckEvery  = 116 // int, ticks

	stateSize       = 80
	stateGeneration = 40 // int, grows with each medium
)

// floppyDrive is the kernel's floppy drive.
type floppyDrive struct{}

// prepare makes the device node and takes out the waits for a motor that an emulated drive does not have.
func (floppyDrive) prepare() error {
	err := unix.Mknod(driveNode, unix.S_IFBLK|0o600, int(unix.Mkdev(driveMajor, driveMinor)))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mknod", Path: driveNode, Err: err}
	}
	f, err := os.OpenFile(driveNode, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open floppy drive: %w", err)
	}
	defer f.Close() //nolint:errcheck // only asked and told
	var params [paramsSize]byte
	if err := ioctl(f.Fd(), fdGetDriveParams, unsafe.Pointer(&params)); err != nil {
		return fmt.Errorf("get floppy drive's parameters: %w", err)
	}
	binary.NativeEndian.PutUint64(params[paramsSpinup:], 0)
	params[paramsSelectDelay] = 0
	binary.NativeEndian.PutUint32(params[paramsCheckEvery:], 1)
	if err := ioctl(f.Fd(), fdSetDriveParams, unsafe.Pointer(&params)); err != nil {
		return fmt.Errorf("set floppy drive's parameters: %w", err)
	}
	return nil
}

// look tells whether there is a medium, and its number: another medium has another one. A drive that was empty since
// the machine started is not known to be empty.
func (floppyDrive) look() (number int, there bool, err error) {
	f, err := os.OpenFile(driveNode, os.O_RDONLY, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOMEDIUM) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("open floppy drive: %w", err)
	}
	defer f.Close() //nolint:errcheck // only asked
	var state [stateSize]byte
	if err := ioctl(f.Fd(), fdGetDriveState, unsafe.Pointer(&state)); err != nil {
		return 0, false, fmt.Errorf("get floppy drive's state: %w", err)
	}
	return int(binary.NativeEndian.Uint32(state[stateGeneration:])), true, nil
}

// probe reads the first sector, which fails when there is no medium after all.
func (floppyDrive) probe() error {
	f, err := os.OpenFile(driveNode, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open floppy drive: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	var sector [512]byte
	if _, err := io.ReadFull(f, sector[:]); err != nil {
		return fmt.Errorf("read first sector: %w", err)
	}
	return nil
}

// mount shows the medium's files at dir until unmount is called.
func (floppyDrive) mount(dir string) (unmount func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mount medium: %w", err)
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount(driveNode, dir, "vfat", flags, "codepage=437,iocharset=ascii,fmask=0177,dmask=0077"); err != nil {
		return nil, fmt.Errorf("mount medium: %w", err)
	}
	return func() error {
		if err := unix.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmount medium: %w", err)
		}
		return nil
	}, nil
}
