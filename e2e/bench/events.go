package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// watcher remembers the journal's events by the instance that they are about, and wakes who waits for one.
type watcher struct {
	mu    sync.Mutex
	seen  map[string][]journal.Event
	news  chan struct{} // closed and replaced with every event
	ended bool
}

func watch(events <-chan journal.Event) *watcher {
	w := &watcher{seen: map[string][]journal.Event{}, news: make(chan struct{})}
	go func() {
		for ev := range events {
			w.take(ev)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
		close(w.news)
	}()
	return w
}

func (w *watcher) take(ev journal.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	instance := ev.Subject
	if i := ev.Attributes["instance"]; i != "" {
		instance = i
	}
	w.seen[instance] = append(w.seen[instance], ev)
	close(w.news)
	w.news = make(chan struct{})
}

// about returns the events of one instance, and a channel that is closed when there is more.
func (w *watcher) about(instance string) (events []journal.Event, more <-chan struct{}, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[instance], w.news, w.ended
}

// landmark is an event that a stage ends with.
type landmark struct {
	kind  string
	stage string // of a guest.milestone
}

func milestone(stage string) landmark { return landmark{"guest.milestone", stage} }

func (l landmark) is(ev journal.Event) bool {
	return ev.Kind == l.kind && (l.stage == "" || ev.Attributes["stage"] == l.stage)
}

// at is when an event happened: of a milestone, when the node saw it, not when the cloud heard of it.
func at(ev journal.Event) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, ev.Attributes["at"]); err == nil {
		return t
	}
	return ev.Time
}

// await waits for an event of an instance; its error tells what made the event impossible.
func (w *watcher) await(ctx context.Context, instance string, l landmark) error {
	for {
		events, more, ended := w.about(instance)
		for _, ev := range events {
			if l.is(ev) {
				return nil
			}
		}
		for _, ev := range events {
			if err := fatal(ev); err != nil {
				return fmt.Errorf("%s: %w", instance, err)
			}
		}
		if ended {
			return errors.New("the cloud's journal ended")
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s %s of %s: %w", l.kind, l.stage, instance, context.Cause(ctx))
		}
	}
}

// fatal tells why after ev no guest can serve.
func fatal(ev journal.Event) error {
	switch {
	case milestone("failed").is(ev):
		return fmt.Errorf("the guest gave up: %s", ev.Attributes["reason"])
	case ev.Kind == "instance.state" && ev.Attributes["state"] == "terminated":
		return fmt.Errorf("the guest ended: %s", ev.Attributes["reason"])
	case ev.Kind == "delivery.denied":
		return fmt.Errorf("the delivery was denied: %s: %s", ev.Attributes["reason"], ev.Attributes["detail"])
	}
	return nil
}
