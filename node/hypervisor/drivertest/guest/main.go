//go:build linux

// Command guest is the whole user space of the conformance suite's machines: PID 1 of a kernel whose initramfs it was
// added to. It tells on the console what it sees and does what a medium says; package drivertest documents both. It
// loads the modules that the image lists, and needs those of the floppy drive and the power button.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	prefix     = "@conformance "
	moduleList = "/etc/cloudtwin/modules"
	drive      = "/dev/fd0"
	look       = 50 * time.Millisecond // between two looks at the drive
	sector     = 512
)

func main() {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		_ = os.MkdirAll(m.at, 0o755) //nolint:gosec // a guest's own tree
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			say("trouble: mount %s: %v", m.at, err)
		}
	}
	say("booted")
	loadModules()
	go watchButton()
	say("ready")
	watchDrive()
}

// say writes one line to the console, which PID 1 has as its standard output.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, prefix+format+"\n", args...)
}

func loadModules() {
	list, err := os.ReadFile(moduleList)
	if err != nil {
		say("trouble: %v", err)
	}
	for path := range strings.FieldsSeq(string(list)) {
		if err := loadModule(path); err != nil {
			say("trouble: module %s: %v", path, err)
		}
	}
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// watchDrive tells each change of the medium and obeys it, for ever.
func watchDrive() {
	last := ""
	ticker := time.NewTicker(look)
	for ; ; <-ticker.C {
		text, err := readMedium()
		switch {
		case errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EIO):
			text = ""
		case err != nil:
			say("trouble: read medium: %v", err)
			continue
		}
		if text == last {
			continue
		}
		last = text
		if text == "" {
			say("no medium")
			continue
		}
		say("medium %s", text)
		obey(text)
	}
}

// readMedium returns the first line of the first sector. Opening the drive anew makes the kernel look whether the
// medium was changed, and forget what it had read if so.
func readMedium() (string, error) {
	f, err := os.Open(drive)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data := make([]byte, sector)
	if _, err := io.ReadFull(f, data); err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return string(bytes.TrimRight(line, "\x00")), nil
}

func obey(command string) {
	switch command {
	case "power-off":
		powerOff()
	case "panic":
		os.Exit(1) // a kernel whose PID 1 ends panics
	case "flood":
		flood()
	}
}

// flood writes 64 KiB of numbered lines.
func flood() {
	const lines, width = 1024, 64
	for i := range lines {
		fmt.Fprintf(os.Stdout, "%0*d\n", width-1, i)
	}
	say("flooded")
}

func powerOff() {
	say("power-off")
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say("trouble: power off: %v", err)
	}
}

// watchButton powers off when the power button is pressed: the kernel tells it by generic netlink (acpi_event).
func watchButton() {
	family, err := netlink.GenlFamilyGet("acpi_event")
	if err != nil || len(family.Groups) == 0 {
		say("trouble: no ACPI events: %v", err)
		return
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
			unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(family.Groups[0].ID)))
	}
	if err != nil {
		say("trouble: listen to ACPI events: %v", err)
		return
	}
	buf := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == nil && bytes.Contains(buf[:n], []byte("button/power")) {
			say("button")
			powerOff()
		}
	}
}
