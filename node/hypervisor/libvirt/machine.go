package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var (
	_ hypervisor.Machine       = (*machine)(nil)
	_ hypervisor.Screenshotter = (*displayMachine)(nil)
	_ hypervisor.Pooled        = (*machine)(nil)
)

// machine is a name for a domain: it holds nothing of libvirt's, so that it outlives what it names.
type machine struct {
	driver *Driver
	notes  notes
}

// displayMachine is a machine with a display.
type displayMachine struct{ *machine }

func (d *Driver) machine(n notes) hypervisor.Machine {
	m := &machine{driver: d, notes: n}
	if n.Display {
		return displayMachine{m}
	}
	return m
}

func (m *machine) ID() string { return m.notes.ID }

// Pooled says whether the machine is one that was kept ready.
func (m *machine) Pooled() bool {
	names := m.driver.names
	return names.fromPool(names.domain(m.notes.ID))
}

func (m *machine) do(ctx context.Context, op string, f func(*libvirt.Domain) error) error {
	return m.driver.onDomain(ctx, op, m.notes.ID, f)
}

// State asks libvirt; a machine that libvirt does not know is gone.
func (m *machine) State(ctx context.Context) (state hypervisor.State, err error) {
	err = m.do(ctx, "state", func(domain *libvirt.Domain) error {
		s, reason, err := domain.GetState()
		state = m.translate(s, reason)
		return err
	})
	if errors.Is(err, hypervisor.ErrNotFound) {
		return hypervisor.Gone, nil
	}
	if err != nil {
		return "", err
	}
	return state, nil
}

func (m *machine) translate(s libvirt.DomainState, reason int) hypervisor.State {
	switch s { //nolint:exhaustive // the rest has ended
	case libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED:
		return hypervisor.Running
	case libvirt.DOMAIN_PAUSED, libvirt.DOMAIN_PMSUSPENDED:
		if libvirt.DomainPausedReason(reason) == libvirt.DOMAIN_PAUSED_CRASHED {
			return hypervisor.Crashed
		}
		return hypervisor.Paused
	case libvirt.DOMAIN_CRASHED:
		return hypervisor.Crashed
	case libvirt.DOMAIN_SHUTOFF:
		why := libvirt.DomainShutoffReason(reason)
		if why == libvirt.DOMAIN_SHUTOFF_CRASHED || why == libvirt.DOMAIN_SHUTOFF_FAILED {
			return hypervisor.Crashed
		}
	}
	if endsInPanic(consoleTail(m.notes.Console, m.notes.From)) {
		return hypervisor.Crashed
	}
	return hypervisor.Stopped
}

// Stop presses the power button.
func (m *machine) Stop(ctx context.Context) error {
	return m.do(ctx, "stop", func(domain *libvirt.Domain) error {
		return domain.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
	})
}

// Kill ends QEMU, politely at first, and removes the domain and its files.
func (m *machine) Kill(ctx context.Context) error {
	d := m.driver
	err := d.call(ctx, func() error {
		unlock := d.ids.lock(m.notes.ID)
		defer unlock()
		return d.kill(m.notes.ID)
	})
	if err != nil {
		return fmt.Errorf("kill of machine %s: %w", m.notes.ID, plain(err))
	}
	return nil
}

// kill is for holders of the id's lock.
func (d *Driver) kill(id string) error {
	name := d.names.domain(id)
	domain, err := d.lookup(name)
	if is(err, libvirt.ERR_NO_DOMAIN) {
		return nil
	}
	if err != nil {
		return err
	}
	defer domain.Free() //nolint:errcheck // it cannot fail for a valid domain
	text, err := domain.GetXMLDesc(0)
	if err != nil && !is(err, libvirt.ERR_NO_DOMAIN) {
		return err
	}
	n, _, _ := readNotes(text)
	if text != "" {
		d.remains.keep(id, d.show(id, name, text))
	}
	if err := d.destroy(domain, name, n); err != nil {
		return err
	}
	d.names.forget(id)
	return nil
}

// destroy ends a domain and removes it with its files.
func (d *Driver) destroy(domain *libvirt.Domain, name string, n notes) error {
	// SIGTERM, and SIGKILL when QEMU does not go; OPERATION_INVALID says that it does not run.
	if err := domain.Destroy(); err != nil && !is(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_NO_DOMAIN) {
		return err
	}
	if err := d.remove(domain); err != nil {
		return err
	}
	errs := []error{removeFile(n.Socket)} // QEMU leaves it when it was killed
	if d.cfg.embedded() {
		errs = append(errs, removeFile(d.logFile(name)))
	}
	return errors.Join(errs...)
}

// logFile is where libvirt puts what a domain's QEMU says itself.
func (d *Driver) logFile(name string) string {
	return filepath.Join(d.cfg.Root, "log", "qemu", name+".log")
}

// InsertMedium changes the medium; the drive tells the guest by its disk change line.
func (m *machine) InsertMedium(ctx context.Context, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("insert medium of machine %s: %q is not an absolute path", m.notes.ID, path)
	}
	return m.do(ctx, "insert medium", func(domain *libvirt.Domain) error {
		if err := checkFile("medium", path); err != nil {
			return err
		}
		if len(m.driver.spoiledFor(m.notes.ID)) == 0 {
			return changeMedium(domain, path)
		}
		return standing(domain, func() error {
			if err := heal(domain); err != nil {
				return err
			}
			if err := changeMedium(domain, path); err != nil {
				return err
			}
			return m.driver.spoil(domain, m.notes.ID)
		})
	})
}

// EjectMedium empties the drive.
func (m *machine) EjectMedium(ctx context.Context) error {
	return m.do(ctx, "eject medium", func(domain *libvirt.Domain) error {
		running, err := domain.IsActive()
		if err != nil {
			return err
		}
		if !running {
			return hypervisor.ErrNotRunning
		}
		text, err := domain.GetXMLDesc(0)
		if err != nil {
			return err
		}
		if _, medium, _ := readNotes(text); medium == "" {
			return hypervisor.ErrNoMedium
		}
		if len(m.driver.spoiledFor(m.notes.ID)) == 0 {
			return changeMedium(domain, "")
		}
		return standing(domain, func() error {
			if err := heal(domain); err != nil {
				return err
			}
			return changeMedium(domain, "")
		})
	})
}

func changeMedium(domain *libvirt.Domain, path string) error {
	disk := floppy(path)
	text, err := disk.Marshal()
	if err != nil {
		return fmt.Errorf("write the disk XML: %w", err)
	}
	return domain.UpdateDeviceFlags(text, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
}

// Statistics reads the counters of the QEMU process.
func (m *machine) Statistics(ctx context.Context) (s hypervisor.Statistics, err error) {
	err = m.do(ctx, "statistics", func(domain *libvirt.Domain) error {
		running, err := domain.IsActive()
		if err != nil {
			return err
		}
		if !running {
			return hypervisor.ErrNotRunning
		}
		info, err := domain.GetInfo()
		if err != nil {
			return err
		}
		s.CPUTime = time.Duration(info.CpuTime)
		const most, kib = 16, 1 << 10
		counters, err := domain.MemoryStats(most, 0)
		if err != nil {
			return err
		}
		for _, c := range counters {
			if libvirt.DomainMemoryStatTags(c.Tag) == libvirt.DOMAIN_MEMORY_STAT_RSS {
				s.MemoryBytes = c.Val * kib
			}
		}
		return nil
	})
	return s, err
}
