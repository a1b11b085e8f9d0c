//go:build linux

package main

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of the floppy driver and a field of its parameters (linux/fd.h, x86-64).
const (
	fdGetDriveParams = 0x80800211
	fdSetDriveParams = 0x40800290
	paramsSize       = 128
	paramsSpinup     = 40 // unsigned long, ticks
)

// hasten takes out the 0.4 s that the driver waits for a motor to turn, which an emulated drive does not have.
func hasten() error {
	f, err := os.OpenFile(drive, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var params [paramsSize]byte
	if err := ioctl(f, fdGetDriveParams, &params); err != nil {
		return err
	}
	binary.NativeEndian.PutUint64(params[paramsSpinup:], 0)
	return ioctl(f, fdSetDriveParams, &params)
}

func ioctl(f *os.File, request uintptr, params *[paramsSize]byte) error {
	//nolint:gosec // the request's number holds the size of what params points to
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(params)))
	if errno != 0 {
		return errno
	}
	return nil
}
