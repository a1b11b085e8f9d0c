package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// driveNode is the first floppy drive with the format fixed to 1.44 MB (major 2, minor 28 is fd0u1440): the driver
// need not find out the format by trial.
const (
	driveNode  = "/dev/fd0u1440"
	driveMajor = 2
	driveMinor = 28

	sectorSize     = 512
	cylinderBytes  = 2 * 18 * sectorSize
	firstCylinder  = 0
	secondCylinder = cylinderBytes
)

// Requests of the floppy driver, and the fields that are used of their structures (linux/fd.h, x86-64).
const (
	fdGetDriveParams = 0x80800211
	fdSetDriveParams = 0x40800290
	fdGetDriveState  = 0x80500212

	paramsSize        = 128
	paramsSpinup      = 40  // unsigned long, ticks
	paramsSelectDelay = 57  // unsigned char, ticks
	paramsMaxErrors   = 76  // unsigned int, after which a request fails
	paramsCheckEvery  = 116 // int, ticks

	stateSize  = 80
	stateTrack = 34 // short, negative when the driver does not know

	// maxErrors leaves room for the one error that a drive reports after it was reset.
	maxErrors = 2
)

// The controller's digital input register, and its bit that says that the medium was changed. A seek clears it when
// there is a medium; an empty drive keeps it.
const (
	portsFile     = "/dev/port"
	inputRegister = 0x3f7
	mediumChanged = 0x80
)

// floppyDrive is the kernel's floppy drive. The driver alone does not tell an empty drive from a full one, for it sees
// one there every other time that it is asked; so the controller's register is read beside it.
type floppyDrive struct {
	number int  // media seen so far
	there  bool // a medium was there last time
}

// prepare makes the device node and takes out the waits for a motor that an emulated drive does not have.
func (d *floppyDrive) prepare() error {
	err := unix.Mknod(driveNode, unix.S_IFBLK|0o600, int(unix.Mkdev(driveMajor, driveMinor)))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mknod", Path: driveNode, Err: err}
	}
	f, err := os.OpenFile(driveNode, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open floppy drive: %w", err)
	}
	defer f.Close()
	var params [paramsSize]byte
	if err := ioctl(f.Fd(), fdGetDriveParams, params[:]); err != nil {
		return fmt.Errorf("get floppy drive's parameters: %w", err)
	}
	binary.NativeEndian.PutUint64(params[paramsSpinup:], 0)
	params[paramsSelectDelay] = 0
	binary.NativeEndian.PutUint32(params[paramsMaxErrors:], maxErrors)
	binary.NativeEndian.PutUint32(params[paramsCheckEvery:], 1)
	if err := ioctl(f.Fd(), fdSetDriveParams, params[:]); err != nil {
		return fmt.Errorf("set floppy drive's parameters: %w", err)
	}
	return nil
}

// look tells whether there is a medium, and its number: another medium has another one. As long as nothing changes it
// costs one read of a port.
func (d *floppyDrive) look() (number int, there bool, err error) {
	changed, err := changedLine()
	if err != nil {
		return 0, false, err
	}
	if d.there && !changed {
		return d.number, true, nil
	}
	d.there = false
	f, err := os.OpenFile(driveNode, os.O_RDONLY, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOMEDIUM) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("open floppy drive: %w", err)
	}
	defer f.Close()
	readErr := seek(f)
	still, err := changedLine()
	if err != nil || still {
		return 0, false, err
	}
	if readErr != nil && !changed { // a drive that is empty since the machine started
		return 0, false, nil
	}
	d.number++
	d.there = true
	return d.number, true, nil
}

// seek moves the drive's head by reading a sector that is not on its present cylinder.
func seek(f *os.File) error {
	var state [stateSize]byte
	if err := ioctl(f.Fd(), fdGetDriveState, state[:]); err != nil {
		return fmt.Errorf("get floppy drive's state: %w", err)
	}
	offset := int64(secondCylinder)
	if track := int16(binary.NativeEndian.Uint16(state[stateTrack:])); track > 0 {
		offset = firstCylinder
	}
	var sector [sectorSize]byte
	if _, err := f.ReadAt(sector[:], offset); err != nil {
		return fmt.Errorf("read medium: %w", err)
	}
	return nil
}

// changedLine reads the register's bit.
func changedLine() (bool, error) {
	f, err := os.Open(portsFile)
	if err != nil {
		return false, fmt.Errorf("open I/O ports: %w", err)
	}
	defer f.Close()
	var register [1]byte
	if _, err = f.ReadAt(register[:], inputRegister); err != nil {
		return false, fmt.Errorf("read floppy controller: %w", err)
	}
	return register[0]&mediumChanged != 0, nil
}

// mount shows the medium's files at dir until unmount is called.
func (d *floppyDrive) mount(dir string) (unmount func() error, err error) {
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
