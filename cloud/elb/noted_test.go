package elb

import (
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

// TestGuestAsksBeforeItsLaunchIsNoted has the guest ask for its listeners while the loop that launches it has not yet
// written down that it exists, as a guest does that is up at once.
func TestGuestAsksBeforeItsLaunchIsNoted(t *testing.T) {
	w := newWorld(t)
	answered := make(chan error, 1)
	w.ec2.launching = func(inst ec2.Instance) {
		waits := spy{Context: guest(inst.ID, webRole), begun: make(chan struct{}, 1)}
		go func() {
			_, err := w.describeAs(waits, inst.ID, "", 0)
			answered <- err
		}()
		<-waits.begun
	}
	w.create("web")
	if err := <-answered; err != nil {
		t.Errorf("answer to the guest: %v", err)
	}
	if vm := w.lbvm(); len(vm.Exposures) == 0 {
		t.Error("the guest was not launched with its exposures")
	}
}

// TestGuestsNewsDoNotReconcile has a guest tell of itself: nothing is to be done about its load balancer.
func TestGuestsNewsDoNotReconcile(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	vm := w.lbvm()
	key := recordKey(alice, "web")
	if !w.guests.note(key, "i-other", true) || w.guests.note(key, "i-other", true) ||
		!w.guests.note(key, "i-other", false) {
		t.Error("only the beginning and the end of an instance are news")
	}
	w.eventually("the loop has come to rest", func() bool {
		w.queue.mu.Lock()
		defer w.queue.mu.Unlock()
		return len(w.queue.state) == 0
	})
	vm.Milestones = append(vm.Milestones, ec2.Milestone{Stage: "network"})
	w.noteInstance(vm)
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	if len(w.queue.state) != 0 {
		t.Error("a milestone has the load balancer looked at")
	}
}
