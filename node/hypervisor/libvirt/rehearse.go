package libvirt

import (
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// Bounds of a rehearsal. The guest's wait for its medium takes some 0.25 s of processor time until all of it is
// translated; what a guest does besides while it waits is its own.
const (
	rehearsalCPU  = 500 * time.Millisecond // of processor time, after which it is as warm as it gets
	rehearsalTime = 3 * time.Second        // on a host that is busy with other things
	rehearsalTick = 50 * time.Millisecond
	rehearsalIdle = 5 * time.Millisecond // of processor time within a tick, in which a guest does nothing but wait
	rehearsalCalm = 4                    // ticks like that in a row: it is no host that has no time for it
)

// rehearse lets a copy that nobody has taken yet run for a moment while it waits for its medium. Emulation translates
// the guest's code when it first runs, and a state holds none of that: a copy that has run before reads its medium
// 0.25 s sooner. Under KVM there is nothing to gain.
func (d *Driver) rehearse(domain *libvirt.Domain) error {
	if d.warm.ground.accelerator != accel.TCG {
		return nil
	}
	if err := domain.Resume(); err != nil {
		return err
	}
	if err := d.watchRehearsal(domain); err != nil {
		return err
	}
	return domain.Suspend()
}

// watchRehearsal returns when the guest is warm, when it has nothing to do, or when the host is needed for others.
func (d *Driver) watchRehearsal(domain *libvirt.Domain) error {
	ticker := time.NewTicker(rehearsalTick)
	defer ticker.Stop()
	begun := time.Now()
	var first, last time.Duration
	for calm := 0; calm < rehearsalCalm; {
		info, err := domain.GetInfo()
		if err != nil {
			return err
		}
		used := time.Duration(info.CpuTime)
		if first == 0 {
			first, last = used, used-rehearsalTick
		}
		if used-first > rehearsalCPU || time.Since(begun) > rehearsalTime || d.pools.busy() {
			return nil
		}
		if calm++; used-last >= rehearsalIdle {
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
