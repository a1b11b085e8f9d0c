package sim

import (
	"context"
	"slices"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var (
	_ hypervisor.MediumSpoiler = (*Driver)(nil)
	_ hypervisor.Pauser        = (*machine)(nil)
	_ hypervisor.Interrupter   = (*machine)(nil)
	_ hypervisor.Panicker      = (*machine)(nil)
)

// SpoilMedia implements hypervisor.MediumSpoiler.
func (d *Driver) SpoilMedia(_ context.Context, id string, bad []hypervisor.Sectors) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(bad) == 0 {
		delete(d.spoiled, id)
	} else {
		if d.spoiled == nil {
			d.spoiled = map[string][]hypervisor.Sectors{}
		}
		d.spoiled[id] = slices.Clone(bad)
	}
	if m := d.machines[id]; m != nil {
		if in, _ := m.drive.look(); in != nil {
			in.spoil(bad)
		}
	}
	return nil
}

// spoiledFor is what cannot be read of a machine's media.
func (d *Driver) spoiledFor(id string) []hypervisor.Sectors {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spoiled[id]
}

func (m *medium) spoil(bad []hypervisor.Sectors) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = slices.Clone(bad)
}

// blank puts zeros where the medium cannot be read. The caller holds mu.
func (m *medium) blank(p []byte, at int64) {
	for _, run := range m.bad {
		from, to := int64(run.First)*hypervisor.SectorSize-at, int64(run.First+run.Count)*hypervisor.SectorSize-at
		if from, to = max(from, 0), min(to, int64(len(p))); from < to {
			clear(p[from:to])
		}
	}
}

// Pause cuts the guest off from its network card and its drive. Its program is not stopped: its time goes on.
func (m *machine) Pause(context.Context) error {
	if err := m.running("pause"); err != nil {
		return err
	}
	m.mu.Lock()
	before := m.paused
	m.paused = true
	m.mu.Unlock()
	if m.nic != nil {
		m.nic.still.Store(true)
	}
	if !before {
		m.publish(hypervisor.Paused, reasonPaused)
	}
	return nil
}

// Resume undoes Pause.
func (m *machine) Resume(context.Context) error {
	if err := m.running("resume"); err != nil {
		return err
	}
	m.mu.Lock()
	before := m.paused
	m.paused = false
	m.mu.Unlock()
	if m.nic != nil {
		m.nic.still.Store(false)
	}
	if before {
		m.publish(hypervisor.Running, reasonResumed)
	}
	return nil
}

// Interrupt has the guest's kernel say what Linux does of an interrupt that it knows no reason for.
func (m *machine) Interrupt(context.Context) error {
	if err := m.running("interrupt"); err != nil {
		return err
	}
	g := &Guest{m: m}
	g.printk("Uhhuh. NMI received for unknown reason 30 on CPU 0.")
	g.printk("Dazed and confused, but trying to continue")
	return nil
}

// Panic ends the guest's kernel as a processor does that is broken.
func (m *machine) Panic(context.Context) error {
	if err := m.running("panic"); err != nil {
		return err
	}
	g := &Guest{m: m}
	g.printk("mce: [Hardware Error]: Machine check: Processor context corrupt")
	g.Panic("Fatal machine check")
	return nil
}
