package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// powerOff switches the machine off at once. There is no disk to flush.
func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // the machine is gone, or cannot be switched off; there is nothing to go back to
}

// The kernel's ACPI events over generic netlink (drivers/acpi/event.c).
const (
	acpiFamily     = "acpi_event"
	acpiAttrEvent  = 1
	acpiClassBytes = 20
	powerButton    = "button/power"
)

// watchButton tells when the hypervisor presses the power button, which is how it asks a guest to stop. A
// machine without one goes on without it.
func (m *machine) watchButton(ctx context.Context) {
	events, err := openACPIEvents()
	if err != nil {
		m.logger.Warn("power button is not watched", "error", err)
		return
	}
	defer events.Close()
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	buf := make([]byte, 4096)
	for {
		n, err := events.Read(buf)
		if err != nil {
			return
		}
		if isPowerButton(buf[:n]) {
			m.logger.Info("power button pressed")
			m.pressed()
			return
		}
	}
}

// openACPIEvents subscribes to the kernel's ACPI events. The file is closed to end a read.
func openACPIEvents() (*os.File, error) {
	family, err := netlink.GenlFamilyGet(acpiFamily)
	if err != nil {
		return nil, fmt.Errorf("find netlink family %s: %w", acpiFamily, err)
	}
	if len(family.Groups) == 0 {
		return nil, fmt.Errorf("netlink family %s has no group", acpiFamily)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), acpiFamily)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	group := int(family.Groups[0].ID)
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("join netlink group %d: %w", group, err)
	}
	return f, nil
}

// isPowerButton looks for a power button event among netlink messages: each has a generic header of four bytes, then
// attributes; the event attribute starts with the device class.
func isPowerButton(data []byte) bool {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return false
	}
	for _, msg := range messages {
		attrs := msg.Data
		if len(attrs) < 4 {
			continue
		}
		for attrs = attrs[4:]; len(attrs) >= 4; {
			size, kind := int(binary.NativeEndian.Uint16(attrs)), binary.NativeEndian.Uint16(attrs[2:])
			if size < 4 || size > len(attrs) {
				break
			}
			if value := attrs[4:size]; kind == acpiAttrEvent && len(value) >= acpiClassBytes {
				class, _, _ := strings.Cut(string(value[:acpiClassBytes]), "\x00")
				if class == powerButton {
					return true
				}
			}
			attrs = attrs[min(len(attrs), (size+3)&^3):]
		}
	}
	return false
}
