package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// landmark is an event by which a step of the journey is known to be over.
type landmark struct {
	step   Step
	kind   string
	stage  string // of a guest.milestone
	detail func(journal.Event) string
	// boot marks what a fork does not tell: its template was through it before.
	boot bool
}

// journey are the steps between CreateLoadBalancer's answer and the first page, as the journal tells them.
var journey = []landmark{
	{step: Step{"3", "LBCERT signed, sealed to the node"}, kind: "instance.credential", detail: attribute("node")},
	{step: Step{"4", "floppy written, guest started"}, kind: "guest.milestone", stage: "machine-started",
		detail: attribute("guests")},
	{step: Step{"", "kernel booted"}, kind: "guest.milestone", stage: "booted", boot: true},
	{step: Step{"", "guest ready for its floppy"}, kind: "guest.milestone", stage: "ready-for-medium", boot: true},
	{step: Step{"5", "floppy read"}, kind: "guest.milestone", stage: "medium-read"},
	{
		step:   Step{"5", "role credentials from IMDS"},
		kind:   "guest.milestone",
		stage:  "credentials",
		detail: attribute("role"),
	},
	{step: Step{"5", "listeners from elb"}, kind: "guest.milestone", stage: "listeners"},
	{step: Step{"6", "iam checks, opens, seals, signs"}, kind: "delivery.granted", detail: attribute("arn")},
	{step: Step{"7", "guest verifies and opens the key"}, kind: "guest.milestone", stage: "key-received"},
	{step: Step{"7", "guest serves TLS"}, kind: "guest.milestone", stage: "serving", detail: attribute("listener")},
}

func attribute(name string) func(journal.Event) string {
	return func(ev journal.Event) string { return ev.Attributes[name] }
}

// forked tells whether a machine-started event is that of a fork, whose guest does not boot.
func forked(ev journal.Event) bool {
	return ev.Attributes["guests"] == "fork" || ev.Attributes["guests"] == "pooled"
}

// tracker waits for events of one instance.
type tracker struct {
	events   <-chan journal.Event
	seen     []journal.Event
	instance string
	deadline time.Duration
}

var errEventsEnded = errors.New("the cloud's journal ended")

// wait returns the first event that the landmark describes.
func (t *tracker) wait(ctx context.Context, l landmark) (journal.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, t.deadline)
	defer cancel()
	for _, ev := range t.seen {
		if t.matches(ev, l) {
			return ev, nil
		}
	}
	for {
		select {
		case ev, open := <-t.events:
			if !open {
				return journal.Event{}, errEventsEnded
			}
			t.seen = append(t.seen, ev)
			if t.matches(ev, l) {
				return ev, nil
			}
			if err := t.fatal(ev); err != nil {
				return journal.Event{}, err
			}
		case <-ctx.Done():
			return journal.Event{}, fmt.Errorf("waited %s for it: %w", t.deadline, context.Cause(ctx))
		}
	}
}

func (t *tracker) matches(ev journal.Event, l landmark) bool {
	about := ev.Subject == t.instance || ev.Attributes["instance"] == t.instance
	return about && ev.Kind == l.kind && (l.stage == "" || ev.Attributes["stage"] == l.stage)
}

// fatal tells whether after ev nothing more can come.
func (t *tracker) fatal(ev journal.Event) error {
	switch about := ev.Subject == t.instance; {
	case about && ev.Kind == "guest.milestone" && ev.Attributes["stage"] == "failed":
		return fmt.Errorf("the guest gave up: %s", ev.Attributes["reason"])
	case about && ev.Kind == "instance.state" && ev.Attributes["state"] == "terminated":
		return fmt.Errorf("the guest ended: %s", ev.Attributes["reason"])
	case ev.Kind == "delivery.denied" && ev.Attributes["instance"] == t.instance:
		return fmt.Errorf("the delivery was denied: %s: %s", ev.Attributes["reason"], ev.Attributes["detail"])
	}
	return nil
}
