package replay

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func TestWhatOperatorsDid(t *testing.T) {
	tape := newTape().
		add(cloud.EventAccountCreated, "630156652643", "name", "research").
		add(cloud.EventKeysGiven, "630156652643", "name", "research", "accessKeyId", "AKIAOLD").
		add(cloud.EventKeysGiven, "630156652643", "name", "of a cloud that did not tell which").
		add(operator.EventChange, "guests/reboot", "params", "instance=i-1", "status", "200", "durationMs", "250",
			"instance", "i-1").
		add(operator.EventChange, "guests/reboot", "params", "instance=i-2", "status", "400", "instance", "i-2")
	r := tape.recording(t)
	var got []*Operated
	for i := range r.Steps {
		got = append(got, r.Steps[i].Operated)
	}
	want := []*Operated{
		{Account: &Account{ID: "630156652643", Name: "research"}},
		{Keys: &Account{ID: "630156652643", Name: "research", AccessKeyID: "AKIAOLD"}},
		{Change: &operator.Change{Verb: "guests/reboot", Parameters: url.Values{"instance": {"i-1"}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("steps (-want +got):\n%s", diff)
	}
	if last := r.Steps[2]; last.End.Sub(last.Begin) != 250*time.Millisecond {
		t.Errorf("the reboot took %v", last.End.Sub(last.Begin))
	}
	for i, text := range []string{"the operator's account 630156652643",
		"the operator's question for the keys of account 630156652643", "the operator's guests/reboot"} {
		if got[i].String() != text {
			t.Errorf("called %q, want %q", got[i], text)
		}
	}
	bad := *newTape().add(operator.EventChange, "guests/reboot", "params", "%", "status", "200")
	if _, err := newRecording(bad, nil, nil); !errors.Is(err, ErrRecording) {
		t.Errorf("parameters that are none: %v", err)
	}
}

// TestVMsOfTheNewCloud: what is said of a load balancer's VM is said of the one that has its place.
func TestVMsOfTheNewCloud(t *testing.T) {
	r := newTape().life(vm1, "stage,serving").recording(t)
	p := &player{recording: r, live: newLive(), replaced: &substitutes{ids: map[string]string{"i-0a": "i-0b"}}}
	if got := p.here(vm1); got != vm1 {
		t.Errorf("before there is another: %s", got)
	}
	replayed := *newTape().life(vm2, "stage,serving")
	for i := range replayed {
		p.live.take(&replayed[i])
	}
	if got := p.here("of " + vm1); got != "of "+vm2 {
		t.Errorf("%s is %q, want %s", vm1, got, vm2)
	}
}
