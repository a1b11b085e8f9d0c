package replay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud"
)

// TestRestarts finds the ends and starts of processes that no event tells by itself.
func TestRestarts(t *testing.T) {
	joined := func() *tape {
		return newTape().add("node.enrolled", "a").add("node.connected", "a", "started", "1")
	}
	for name, c := range map[string]struct {
		tape *tape
		want []string
	}{
		"none":                   {joined(), nil},
		"a connection made anew": {joined().add("node.disconnected", "a").add("node.connected", "a", "started", "1"), nil},
		"a node's": {joined().add("node.disconnected", "a").add("node.connected", "a", "started", "2"),
			[]string{"4 killed a", "5 revived a"}},
		"a node's by a fault": {joined().add("fault.began", "a", "fault", "f", "kind", "node.kill").
			add("node.disconnected", "a").add("node.connected", "a", "started", "2"), nil},
		"a node's that does not tell": {newTape().add("node.connected", "a").add("node.disconnected", "a").
			add("node.connected", "a"), nil},
		"a node's that joined again": {joined().add("node.disconnected", "a").add("node.removed", "a").
			add("node.connected", "a", "started", "2"), nil},
		"the cloud's": {joined().add(cloud.EventStarted, "us-east-1").add("node.connected", "a", "started", "1"),
			[]string{"4 cloud []"}},
		"both": {joined().add("node.disconnected", "a").add(cloud.EventStarted, "us-east-1").
			add("node.connected", "a", "started", "2"), []string{"5 cloud [a]"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for seq, step := range restartsIn(nil, *c.tape) {
				switch {
				case step.Restart != nil:
					got = append(got, fmt.Sprintf("%d cloud %v", seq, step.Restart.Nodes))
				case step.Killed != "":
					got = append(got, fmt.Sprintf("%d killed %s", seq, step.Killed))
				default:
					got = append(got, fmt.Sprintf("%d revived %s", seq, step.Revived))
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestLateWords puts what a guest had done before its node was killed there, though the node told only afterwards.
func TestLateWords(t *testing.T) {
	tp := newTape().add("node.enrolled", "a").add("node.connected", "a", "started", "1")
	tp.add("elb.lbvm_launched", "1/web", "instance", vm1)
	tp.add("guest.milestone", vm1, "stage", "medium-read", "t", "0.5")
	tp.add("node.disconnected", "a").add("node.connected", "a", "started", "2")
	tp.add("guest.milestone", vm1, "stage", "listeners", "t", "1").
		add("guest.milestone", vm1, "stage", "serving", "t", "3.5")
	lines := tp.recording(t).trace.tracks["VM 1 of load balancer 1/web: stages"]
	killed := begin.Add(5 * time.Second)
	if len(lines) != 3 || !lines[1].at.Before(killed) || !lines[2].at.After(killed) {
		t.Errorf("%+v: want the second before %s, the third after it", lines, killed)
	}
}
