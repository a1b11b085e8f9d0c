// Package events passes a driver's lifecycle events on to whoever follows them. Every driver has one Hub.
package events

import (
	"context"
	"sync"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Hub passes events on to any number of subscribers. None is ever lost and nobody waits for a slow reader: each
// subscriber has a queue of its own, which a machine's few events cannot fill by much. The zero value is ready, and
// every method may be called from any goroutine.
type Hub struct {
	mu     sync.Mutex
	subs   map[*subscriber]struct{}
	closed bool
}

type subscriber struct {
	mu    sync.Mutex
	queue []hypervisor.Event
	over  bool          // no more will come
	wake  chan struct{} // holds one token while there may be something to take
}

// Subscribe returns a channel of the events from now on. It is closed when ctx ends, or when the hub was closed and
// all that came before is read.
func (h *Hub) Subscribe(ctx context.Context) <-chan hypervisor.Event {
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

func (h *Hub) drop(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}

// Publish gives e to all subscribers and waits for none.
func (h *Hub) Publish(e hypervisor.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.put(false, e)
	}
}

// Close ends all subscriptions. Closing twice is harmless.
func (h *Hub) Close() {
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
