package libvirt

import (
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// translate turns a lifecycle event of libvirt into ours; ok is false for those that change no state.
func translate(e *libvirt.DomainEventLifecycle) (state hypervisor.State, reason string, ok bool) {
	switch e.Event {
	case libvirt.DOMAIN_EVENT_STARTED:
		return hypervisor.Running, "started", true
	case libvirt.DOMAIN_EVENT_RESUMED:
		return hypervisor.Running, "resumed", true
	case libvirt.DOMAIN_EVENT_SUSPENDED:
		return hypervisor.Paused, "suspended", true
	case libvirt.DOMAIN_EVENT_CRASHED:
		return hypervisor.Crashed, "panicked", true
	case libvirt.DOMAIN_EVENT_UNDEFINED:
		return hypervisor.Gone, "removed", true
	case libvirt.DOMAIN_EVENT_STOPPED:
		state, reason = stopped(libvirt.DomainEventStoppedDetailType(e.Detail))
		return state, reason, true
	default:
		return "", "", false
	}
}

func stopped(detail libvirt.DomainEventStoppedDetailType) (hypervisor.State, string) {
	switch detail {
	case libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN:
		return hypervisor.Stopped, reasonShutdown
	case libvirt.DOMAIN_EVENT_STOPPED_DESTROYED:
		return hypervisor.Stopped, "destroyed"
	case libvirt.DOMAIN_EVENT_STOPPED_CRASHED:
		return hypervisor.Crashed, "crashed"
	case libvirt.DOMAIN_EVENT_STOPPED_FAILED:
		return hypervisor.Crashed, "failed" // QEMU itself ended
	default:
		return hypervisor.Stopped, "stopped"
	}
}

// reasonShutdown is the guest's own power off, or a panic, which looks the same to QEMU.
const reasonShutdown = "shutdown"
