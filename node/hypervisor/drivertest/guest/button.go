//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest/program"
)

// watchButton returns a channel that is closed when the power button is pressed: the kernel tells it by generic
// netlink (acpi_event).
func watchButton() <-chan struct{} {
	pressed := make(chan struct{})
	family, err := netlink.GenlFamilyGet("acpi_event")
	if err != nil || len(family.Groups) == 0 {
		program.Say(os.Stdout, "trouble: no ACPI events: %v", err)
		return pressed
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
			unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(family.Groups[0].ID)))
	}
	if err != nil {
		program.Say(os.Stdout, "trouble: listen to ACPI events: %v", err)
		return pressed
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err == nil && bytes.Contains(buf[:n], []byte("button/power")) {
				close(pressed)
				return
			}
		}
	}()
	return pressed
}
