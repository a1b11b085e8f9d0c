//go:build linux

// Command guest is the whole user space of the conformance suite's machines: PID 1 of a kernel whose initramfs it was
// added to. It sets the machine up and runs drivertest/program on it. It loads the modules that the image lists, and
// needs those of virtio's generator of randomness and of the power button.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/guest"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest/program"
)

const (
	moduleList = "/etc/cloudtwin/modules"
	generator  = "/dev/hwrng"
	look       = 50 * time.Millisecond // between two looks at the drive
)

func main() {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		_ = os.MkdirAll(m.at, 0o755) //nolint:gosec // a guest's own tree
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			program.Say(os.Stdout, "trouble: mount %s: %v", m.at, err)
		}
	}
	program.Say(os.Stdout, "booted")
	loadModules()
	drive, err := guest.OpenFloppyDrive()
	if err != nil {
		program.Say(os.Stdout, "trouble: floppy drive: %v", err)
		_ = powerOff()
	}
	program.Run(context.Background(), &machine{
		Writer: os.Stdout, drive: drive, button: watchButton(), tick: time.NewTicker(look),
	})
	select {} // a kernel whose PID 1 ends panics
}

func loadModules() {
	list, err := os.ReadFile(moduleList)
	if err != nil {
		program.Say(os.Stdout, "trouble: %v", err)
	}
	for path := range strings.FieldsSeq(string(list)) {
		if err := loadModule(path); err != nil {
			program.Say(os.Stdout, "trouble: module %s: %v", path, err)
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

// machine is the one that the program runs on.
type machine struct {
	io.Writer // the console, which PID 1 has as its standard output
	drive     *guest.FloppyDrive
	button    <-chan struct{}
	tick      *time.Ticker
}

// Medium reads the first sector.
func (m *machine) Medium() ([]byte, error) {
	data := make([]byte, program.SectorSize)
	_, err := m.drive.ReadAt(data, 0)
	if errors.Is(err, guest.ErrNoMedium) {
		return nil, program.ErrNoMedium
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Changed waits a moment: nobody tells when a floppy is changed.
func (m *machine) Changed(ctx context.Context) {
	select {
	case <-m.tick.C:
	case <-ctx.Done():
	}
}

func (m *machine) Button() <-chan struct{} { return m.button }

func (*machine) Random(p []byte) error {
	f, err := os.Open(generator)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.ReadFull(f, p)
	return err
}

func (*machine) PowerOff() error { return powerOff() }

func powerOff() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }

// Panic ends PID 1, which its kernel does not survive.
func (*machine) Panic() { os.Exit(1) }
