package events_test

import (
	"context"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/events"
)

func TestHub(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	h := &events.Hub{}
	ctx, cancel := context.WithCancel(t.Context())
	slow, brief := h.Subscribe(t.Context()), h.Subscribe(ctx)
	const many = 1000
	for i := range many {
		h.Publish(hypervisor.Event{ID: fmt.Sprint(i)})
	}
	for i := range many {
		if e := <-slow; e.ID != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, e.ID)
		}
	}
	cancel()
	for range brief {
	}
	h.Close()
	h.Close()
	if _, open := <-slow; open {
		t.Error("a subscription outlives its hub")
	}
	if _, open := <-h.Subscribe(t.Context()); open {
		t.Error("a closed hub takes subscribers")
	}
}
