package sim

import (
	"context"
	"sync"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// hub passes events on to its subscribers. It never waits for one: each has a queue of its own, and a machine has few
// events.
type hub struct {
	mu     sync.Mutex
	subs   map[*subscriber]struct{}
	closed bool
}

type subscriber struct {
	mu    sync.Mutex
	queue []hypervisor.Event
	over  bool          // no more will come
	wake  chan struct{} // capacity 1
}

func (h *hub) subscribe(ctx context.Context) <-chan hypervisor.Event {
	s := &subscriber{wake: make(chan struct{}, 1)}
	out := make(chan hypervisor.Event)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(out)
		return out
	}
	if h.subs == nil {
		h.subs = map[*subscriber]struct{}{}
	}
	h.subs[s] = struct{}{}
	go func() {
		defer close(out)
		defer h.drop(s)
		s.pass(ctx, out)
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
		s.put(false, e)
	}
}

// close ends all subscriptions once what they hold is read.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		s.put(true)
	}
}

func (s *subscriber) put(over bool, events ...hypervisor.Event) {
	s.mu.Lock()
	s.queue = append(s.queue, events...)
	s.over = s.over || over
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscriber) take() (events []hypervisor.Event, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, s.queue = s.queue, nil
	return events, s.over
}

func (s *subscriber) pass(ctx context.Context, out chan<- hypervisor.Event) {
	for {
		events, over := s.take()
		for _, e := range events {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
		if over {
			return
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}
