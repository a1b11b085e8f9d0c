package libvirt

import (
	"errors"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// Bounds of idling. The guest's wait for its medium takes some 0.25 s of processor time until all of it is
// translated; what a guest does besides while it waits is its own.
const (
	idleCPU   = 500 * time.Millisecond // of processor time, after which it is as warm as it gets
	idleTime  = 3 * time.Second        // on a host that is busy with other things
	readyTick = 50 * time.Millisecond
	waitCPU   = 5 * time.Millisecond // of processor time within a tick, in which a guest does nothing but wait
	waitTicks = 4                    // ticks like that in a row: it is no host that has no time for it
)

// getReady makes a copy that nobody has taken yet as warm as it gets. Emulation translates the guest's code when it
// first runs, and a state holds none of that; under KVM there is nothing to gain.
func (d *Driver) getReady(domain *libvirt.Domain, spare plan, t hypervisor.Template) error {
	if d.warm.ground.accelerator != accel.TCG {
		return nil
	}
	r := d.pools.rehearsal(t)
	if r == nil {
		return d.idle(domain)
	}
	err := d.rehearse(domain, spare.spec.ConsoleLog, r)
	if !errors.Is(err, errClosed) {
		d.pools.rehearsed(t, err != nil)
	}
	return err
}

// idle lets a copy run for a moment while it waits for its medium: it then reads it 0.25 s sooner.
func (d *Driver) idle(domain *libvirt.Domain) error {
	if err := domain.Resume(); err != nil {
		return err
	}
	if err := d.watchIdling(domain); err != nil {
		return err
	}
	return domain.Suspend()
}

// watchIdling returns when the guest is warm, when it has nothing to do, or when the host is needed for others.
func (d *Driver) watchIdling(domain *libvirt.Domain) error {
	ticker := time.NewTicker(readyTick)
	defer ticker.Stop()
	begun := time.Now()
	var first, last time.Duration
	for calm := 0; calm < waitTicks; {
		info, err := domain.GetInfo()
		if err != nil {
			return err
		}
		used := time.Duration(info.CpuTime)
		if first == 0 {
			first, last = used, used-readyTick
		}
		if used-first > idleCPU || time.Since(begun) > idleTime || d.pools.busy() {
			return nil
		}
		if calm++; used-last >= waitCPU {
			calm = 0
		}
		last = used
		select {
		case <-ticker.C:
		case <-d.quit:
			return nil
		}
	}
	return nil
}
