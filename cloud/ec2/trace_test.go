package ec2_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// told returns the first event of a kind about an instance.
func (c *cloud) toldOf(kind, id string) (first journal.Event) {
	for _, ev := range c.journal.Events() {
		if ev.Kind == kind && ev.Subject == id {
			return ev
		}
	}
	return first
}

// TestALaunchAndWhatFollowsAreOneTrace looks at what is recorded of an instance, by the request and by its node's
// reports, and at what a node cannot make the journal say.
func TestALaunchAndWhatFollowsAreOneTrace(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	other := c.addNode(t, "node-2", bigNode())
	request := journal.Begin(t.Context())
	inst, err := c.Launch(request, ec2.Launch{AccountID: demo, ImageName: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if inst.NodeID != "node-1" {
		n, other = other, n
	}
	if !journal.SameTrace(inst.Trace, journal.Traceparent(request)) {
		t.Fatalf("the instance's step is %q, the request's %q", inst.Trace, journal.Traceparent(request))
	}
	address := c.serve(t)
	l, snapshot := c.sync(t, c.dialAs(t, address, n))
	if got := snapshot.GetRun()[0].GetTraceparent(); got != inst.Trace {
		t.Errorf("the node is told %q", got)
	}
	own := journal.Traceparent(journal.Begin(journal.Join(t.Context(), inst.Trace)))
	foreign := journal.Traceparent(journal.Begin(t.Context()))
	event := func(kind, id, step string) *nodelink.Event {
		return &nodelink.Event{Kind: kind, InstanceId: id, UnixNanos: time.Unix(1795330000, 5).UnixNano(), Traceparent: step,
			Attributes: map[string]string{"path": strings.Repeat("x", 5000)}}
	}
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(inst.ID, "running", "booted")},
		Events: []*nodelink.Event{
			event(nodelink.EventMetadata, inst.ID, own), event(nodelink.EventTLS, inst.ID, foreign),
			event("delivery.granted", inst.ID, ""), event(nodelink.EventFrames, "i-00000000000000000", ""),
		}})
	c.wantState(t, inst.ID, ec2.Running)
	span := func(step string) string { return strings.Split(step, "-")[2] }
	eventually(t, func() error {
		for kind, step := range map[string]string{
			"placement.chosen": inst.Trace, "instance.state": inst.Trace, "node.message": inst.Trace,
			"guest.milestone": inst.Trace, nodelink.EventMetadata: own, nodelink.EventTLS: inst.Trace,
		} {
			if ev := c.toldOf(kind, inst.ID); ev.Span != span(step) || !strings.Contains(inst.Trace, ev.Trace) {
				return fmt.Errorf("%s is in step %s of %s, want %s", kind, ev.Span, ev.Trace, step)
			}
		}
		return nil
	})
	asked := c.toldOf(nodelink.EventMetadata, inst.ID)
	if asked.Seq > c.toldOf("guest.milestone", inst.ID).Seq {
		t.Error("what led to a milestone is told after it")
	}
	if asked.Attributes["at"] != "2026-11-22T06:46:40.000000005Z" || len(asked.Attributes["path"]) > 1000 {
		t.Errorf("told %v", asked.Attributes["at"])
	}
	if ev := c.toldOf("placement.chosen", inst.ID); ev.Parent != span(journal.Traceparent(request)) {
		t.Errorf("the launch is caused by %q", ev.Parent)
	}
	if len(c.events("delivery.granted")) != 0 {
		t.Error("a node says that a key was delivered")
	}
	refused := c.events("node.report_refused")
	if len(refused) != 1 || refused[0]["events"] != "2" {
		t.Errorf("refused: %v", refused)
	}

	// Another node has no say.
	stranger, _ := c.sync(t, c.dialAs(t, address, other))
	stranger.send(&nodelink.Report{Events: []*nodelink.Event{event(nodelink.EventQMP, inst.ID, own)}})
	eventually(t, func() error {
		if n := len(c.events("node.report_refused")); n != 2 {
			return fmt.Errorf("%d reports were refused", n)
		}
		return nil
	})
	if len(c.events(nodelink.EventQMP)) != 0 {
		t.Error("a node told of another node's guest")
	}

	ending := journal.Begin(t.Context())
	if err := c.Terminate(ending, demo, inst.ID); err != nil {
		t.Fatal(err)
	}
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(inst.ID, "stopped")}})
	after := c.wantState(t, inst.ID, ec2.Terminated)
	if after.Trace != journal.Traceparent(ending) {
		t.Errorf("its end is a part of %s, want %s", after.Trace, journal.Traceparent(ending))
	}
}
