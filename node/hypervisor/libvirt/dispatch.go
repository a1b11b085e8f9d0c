package libvirt

import (
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// rawEvents is how many events may wait between libvirt's loop and dispatch. A node has some hundred machines with a
// handful of events each.
const rawEvents = 4096

type rawEvent struct {
	name  string // the domain's
	event libvirt.DomainEventLifecycle
	at    time.Time
	// found is set instead of name and event when the domains were looked at anew on a new line: it gets their states once
	// calls go there, or is closed when none will.
	found chan map[string]hypervisor.State
}

// onLifecycle is called on libvirt's event loop, which must not be kept: it only hands over.
func (d *Driver) onLifecycle(_ *libvirt.Connect, domain *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
	name, err := domain.GetName()
	if err != nil {
		return
	}
	select {
	case d.raw <- rawEvent{name: name, event: *e, at: time.Now()}:
	case <-d.quit:
	}
}

// dispatch turns libvirt's events into the driver's until the driver closes. last has the states of the domains that
// were there before.
func (d *Driver) dispatch(last map[string]hypervisor.State) {
	defer d.ops.Done()
	for {
		select {
		case <-d.quit:
			return
		case raw := <-d.raw:
			if raw.found != nil {
				d.tellMissed(last, raw)
				continue
			}
			_, ours := d.names.machine(raw.name)
			state, reason, ok := translate(&raw.event)
			// A copy's guest runs from its first resumption on, and so does that of a machine that boots. What
			// libvirt tells before is the making of a machine, which may come to nothing.
			unborn := last[raw.name] == "" && raw.event.Event != libvirt.DOMAIN_EVENT_RESUMED
			if !ours || !ok || unborn {
				continue
			}
			if reason == reasonShutdown && d.panicked(raw.name) {
				state, reason = hypervisor.Crashed, "panicked"
			}
			if last[raw.name] == state {
				continue // libvirt tells a start twice: resumed, then started
			}
			d.tell(last, raw.name, hypervisor.Event{State: state, Reason: reason, At: raw.at})
		}
	}
}

// tellMissed publishes what nobody heard while there was no line.
func (d *Driver) tellMissed(last map[string]hypervisor.State, raw rawEvent) {
	select {
	case found := <-raw.found:
		if found == nil {
			return
		}
		for name, state := range missed(last, found) {
			d.tell(last, name, hypervisor.Event{State: state, Reason: reasonAway, At: raw.at})
		}
	case <-d.quit:
	}
}

// tell publishes what became of a domain, and notes it in last.
func (d *Driver) tell(last map[string]hypervisor.State, name string, e hypervisor.Event) {
	id, ours := d.names.machine(name)
	if !ours {
		return
	}
	e.ID, last[name] = id, e.State
	if e.State == hypervisor.Gone {
		delete(last, name)
		d.names.bury(name)
	}
	d.cfg.Logger.Debug("machine changed", "machine", id, "state", e.State, "reason", e.Reason)
	d.hub.Publish(e)
}

// panicked says whether the last words of the domain's guest were a kernel panic. With panic=-1 the kernel reboots,
// which ends the machine like a power off would; only the console tells them apart.
func (d *Driver) panicked(name string) bool {
	domain, err := d.lookup(name)
	if err != nil {
		return false
	}
	defer domain.Free() //nolint:errcheck // it cannot fail for a valid domain
	text, err := domain.GetXMLDesc(0)
	if err != nil {
		return false
	}
	n, _, ok := readNotes(text)
	return ok && endsInPanic(consoleTail(n.Console, n.From))
}
