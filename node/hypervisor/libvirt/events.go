package libvirt

import (
	"context"
	"sync"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// hub passes events on to any number of subscribers. None is ever lost and nobody waits for a slow reader: each
// subscriber has a queue of its own, which a machine's few events cannot fill by much.
type hub struct {
	mu     sync.Mutex
	subs   map[*subscriber]struct{}
	closed bool
}

type subscriber struct {
	mu     sync.Mutex
	queue  []hypervisor.Event
	wake   chan struct{} // holds one token while the queue may have something
	closed chan struct{} // the hub has closed
}

func newHub() *hub { return &hub{subs: map[*subscriber]struct{}{}} }

// subscribe returns a channel of the events from now on, closed when ctx ends or the hub closes.
func (h *hub) subscribe(ctx context.Context) <-chan hypervisor.Event {
	s := &subscriber{wake: make(chan struct{}, 1), closed: make(chan struct{})}
	out := make(chan hypervisor.Event)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(out)
		return out
	}
	h.subs[s] = struct{}{}
	go func() {
		defer close(out)
		defer h.drop(s)
		s.pump(ctx, out)
	}()
	return out
}

func (h *hub) drop(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}

func (h *hub) publish(e hypervisor.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.push(e)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed = true
	for s := range h.subs {
		close(s.closed)
	}
}

func (s *subscriber) push(e hypervisor.Event) {
	s.mu.Lock()
	s.queue = append(s.queue, e)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscriber) take() []hypervisor.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.queue
	s.queue = nil
	return batch
}

func (s *subscriber) pump(ctx context.Context, out chan<- hypervisor.Event) {
	for {
		for _, e := range s.take() {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			case <-s.closed:
				return
			}
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		case <-s.closed:
			return
		}
	}
}

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
