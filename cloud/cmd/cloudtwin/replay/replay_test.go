package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

var begin = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

// tape makes events, a second apart.
type tape []journal.Event

func newTape() *tape {
	t := &tape{}
	return t.add(cloud.EventStarted, "us-east-1", "replicas", "2", "lbcertLife", "30s")
}

func (t *tape) add(kind, subject string, attributes ...string) *tape {
	ev := journal.Event{Seq: uint64(len(*t) + 1), Time: begin.Add(time.Duration(len(*t)) * time.Second), Kind: kind,
		Subject: subject, Attributes: map[string]string{}}
	for i := 0; i < len(attributes); i += 2 {
		ev.Attributes[attributes[i]] = attributes[i+1]
	}
	*t = append(*t, ev)
	return t
}

// call adds one of the root user's calls.
func (t *tape) call(action, params, made string, more ...string) *tape {
	return t.add("api.request", action, append([]string{"status", "200", "caller", rootARN, "accessKeyId", "AKIAROOT",
		"durationMs", "100", "params", params, "made", made}, more...)...)
}

// life adds a load balancer's: its VM has an id, and serves or fails.
func (t *tape) life(vm string, stages ...string) *tape {
	t.call("elasticloadbalancing:CreateLoadBalancer", "LoadBalancerName=web", "127.1.2.3")
	t.add("instance.state", vm, "state", "pending")
	t.add("elb.lbvm_launched", "123456789012/web", "instance", vm)
	for _, s := range stages {
		t.add("guest.milestone", vm, strings.Split(s, ",")...)
	}
	return t
}

func (t *tape) recording(tt *testing.T) *Recording {
	tt.Helper()
	r, err := newRecording(*t, nil, nil)
	if err != nil {
		tt.Fatal(err)
	}
	return r
}

// against compares a recording with a tape of a replay whose steps began when those of the tape did.
func (t *tape) against(tt *testing.T, r *Recording) []Difference {
	tt.Helper()
	c := &comparison{recording: r, replay: newTrace(), began: begin, patience: 10 * time.Second}
	step := 0
	for i := range *t {
		ev := &(*t)[i]
		if s, err := stepOf(ev, nil); err != nil {
			tt.Fatal(err)
		} else if s != nil && step < len(r.Steps) {
			if s.Call != nil {
				c.replay.names.learnCall(r.Steps[step].Call.Number, s.Call.Made)
			}
			c.marks = append(c.marks, mark{step: &r.Steps[step], begun: s.Begin})
			step++
		}
		c.replay.add(ev)
	}
	return c.differences()
}

const (
	vm1 = "i-00000000000000001"
	vm2 = "i-00000000000000002"
)

func TestDifferences(t *testing.T) {
	serving := []string{"stage,medium-read,credential,abc", "stage,key-received,listener,443,arn,arn:x",
		"stage,serving,listener,443,protocol,HTTPS"}
	failing := []string{serving[0], "stage,listener-failed,listener,443,reason,no key from 10.0.0.1:443 after 3s"}
	waits := func(tp *tape, n int) *tape {
		for range n {
			tp.call("elasticloadbalancing:DescribeLoadBalancers", "", "")
		}
		return tp
	}
	poll := func(tp *tape, status string) *tape {
		return tp.add("api.request", "elasticloadbalancing:PutServoStates", "instance", (*tp)[2].Subject, "status", status)
	}
	asks := func(tp *tape, path string) *tape {
		return tp.add("metadata.request", (*tp)[2].Subject, "method", "GET", "path", path, "status", "404")
	}
	tests := []struct {
		name               string
		recorded, replayed *tape
		track, left, right string // of the first difference; none when track is empty
	}{
		{"the same with other ids", newTape().life(vm1, serving...), newTape().life(vm2, serving...), "", "", ""},
		{"a reason's addresses and times", newTape().life(vm1, failing...), newTape().life(vm2, failing[0],
			strings.NewReplacer("10.0.0.1:443", "10.0.0.7:8443", "3s", "250ms").Replace(failing[1])), "", "", ""},
		{"another outcome", newTape().life(vm1, failing...), newTape().life(vm2, serving...),
			"VM 1 of load balancer 123456789012/web: listener 443", "listener-failed no key from ADDRESS after DURATION",
			"key-received arn:x"},
		{"what did not happen", newTape().life(vm1, serving...), newTape().life(vm2, serving[:1]...),
			"VM 1 of load balancer 123456789012/web: listener 443", "key-received arn:x", ""},
		{"the recording ended there", waits(newTape().life(vm1, serving[:1]...), 5), newTape().life(vm2, serving...),
			"", "", ""},
		{"the recording hung there", waits(newTape().life(vm1, serving[:1]...), 15), newTape().life(vm2, serving...),
			"VM 1 of load balancer 123456789012/web: listener 443", "", "key-received arn:x"},
		{"polls as often as they like", poll(poll(newTape().life(vm1), "200"), "200"), newTape().life(vm2), "", "", ""},
		{"a poll that is refused", newTape().life(vm1), poll(newTape().life(vm2), "403"),
			"VM 1 of load balancer 123456789012/web: elasticloadbalancing:PutServoStates", "", "403"},
		{"a poll that is not refused", poll(newTape().life(vm1), "403"), poll(newTape().life(vm2), "200"),
			"VM 1 of load balancer 123456789012/web: elasticloadbalancing:PutServoStates", "403", ""},
		{"a last poll that is refused", poll(newTape().life(vm1), "400").add("instance.state", vm1, "state", "shutting-down"),
			poll(newTape().life(vm2), "200").add("instance.state", vm2, "state", "shutting-down"), "", "", ""},
		{"metadata that need not be there", newTape().life(vm1), asks(newTape().life(vm2), "/latest/user-data"), "", "", ""},
		{"a role that is not there", newTape().life(vm1), asks(newTape().life(vm2), "/latest/meta-data/iam/info"),
			"VM 1 of load balancer 123456789012/web: metadata", "", "GET /latest/meta-data/iam/info 404"},
		{"what copies do not tell", newTape().life(vm1, append([]string{"stage,booted", "stage,rehearsed"}, serving...)...),
			newTape().life(vm2, serving...), "", "", ""},
		{"a replay whose guest is faster than the next call",
			newTape().life(vm1).call("elasticloadbalancing:Set", "", "").add("guest.milestone", vm1, "stage", "key-received",
				"listener", "443", "arn", "b"),
			newTape().life(vm2, "stage,key-received,listener,443,arn,a").call("elasticloadbalancing:Set", "", "").
				add("guest.milestone", vm2, "stage", "key-received", "listener", "443", "arn", "b"), "", "", ""},
		{"another outcome of a replay whose guest is faster than the next call",
			newTape().life(vm1, serving[0]).call("elasticloadbalancing:Set", "", "").add("guest.milestone", vm1,
				strings.Split(failing[1], ",")...),
			newTape().life(vm2, serving...).call("elasticloadbalancing:Set", "", ""),
			"VM 1 of load balancer 123456789012/web: listener 443", "listener-failed no key from ADDRESS after DURATION",
			"key-received arn:x"},
		{"another VM", newTape().life(vm1, serving...), newTape().life(vm1, serving...).add("elb.lbvm_launched",
			"123456789012/web", "instance", vm2).add("instance.state", vm2, "state", "pending"), "", "", ""},
		{"another VM in place of a long life", waits(newTape().life(vm1, serving...), 15), newTape().life(vm1, serving...).
			add("elb.lbvm_launched", "123456789012/web", "instance", vm2).add("instance.state", vm2, "state", "pending"),
			"VM 2 of load balancer 123456789012/web: state", "", "pending"},
		{"an instance of a call", newTape().call("ec2:RunInstances", "", "r-1 "+vm1).add("instance.state", vm1, "state",
			"failed", "reason", "Kernel panic"), newTape().call("ec2:RunInstances", "", "r-2 "+vm2).add("instance.state", vm2,
			"state", "running"), "instance 2 of call 1: state", "failed Kernel panic", "running"},
		{"an event before its guest has a name", newTape().add("instance.state", vm1, "state", "pending").
			call("ec2:RunInstances", "", vm1), newTape().call("ec2:RunInstances", "", vm2).add("instance.state", vm2, "state",
			"pending"), "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := tt.replayed.against(t, tt.recorded.recording(t))
			text := func(s *Side) string {
				if s == nil {
					return ""
				}
				return s.Text
			}
			switch {
			case tt.track == "" && len(found) > 0:
				t.Fatalf("differences %+v", found)
			case tt.track == "":
			case len(found) == 0:
				t.Fatal("no difference")
			case found[0].Track != tt.track || text(found[0].Recorded) != tt.left || text(found[0].Replayed) != tt.right:
				t.Errorf("%s: recorded %q, replayed %q", found[0].Track, text(found[0].Recorded), text(found[0].Replayed))
			}
		})
	}
}

func TestFirstDifferenceIsTheFirstOfTheRecording(t *testing.T) {
	recorded := newTape().life(vm1, "stage,failed,reason,one", "stage,listener-failed,listener,80,reason,two")
	found := newTape().life(vm2).against(t, recorded.recording(t))
	if len(found) != 2 || found[0].Recorded.Text != "failed one" || found[0].Recorded.Event != 5 ||
		found[0].Recorded.At != 4 || found[0].Recorded.About != vm1 {
		t.Errorf("differences %+v", found)
	}
}

func TestRecording(t *testing.T) {
	tp := newTape().add("node.enrolled", "node-1").add("node.up", "node-1", "memoryMB", "4096", "cores", "3").
		call("iam:CreateUser", "UserName=ann", "AIDA0000000000000001").
		add("fault.began", "f1", "fault", "f1", "kind", "wire.loss", "target", "lb:web", "rate", "0.5", "seed", "7",
			"for", "1m0s", "with.direction", "in").
		add("node.enrolled", "node-2").
		add("api.request", "iam:DownloadServerCertificate", "instance", vm1, "status", "200").
		add("fault.ended", "f1", "fault", "f1", "kind", "wire.loss").
		add("node.removed", "node-2", "by", "operator", "reason", "gone").
		add("guest.milestone", vm1, "stage", "machine-started", "guests", "pooled")
	r := tp.recording(t)
	var kinds []string
	for _, s := range r.Steps {
		switch {
		case s.Call != nil:
			kinds = append(kinds, fmt.Sprint(s.Seq, " ", s.Call.Action, " ", s.Call.Parameters.Encode(), " ",
				s.End.Sub(s.Begin)))
		case s.Began != nil:
			text, _ := json.Marshal(s.Began)
			kinds = append(kinds, string(text))
		case s.Cleared != "":
			kinds = append(kinds, "end of "+s.Cleared)
		case s.Node != nil:
			kinds = append(kinds, "join of "+s.Node.ID)
		case s.Removed != "":
			kinds = append(kinds, "removal of "+s.Removed)
		}
	}
	want := []string{
		"4 iam:CreateUser UserName=ann 100ms",
		`{"id":"f1","kind":"wire.loss","target":"lb:web","rate":0.5,"seed":7,"with":{"direction":"in"}}`,
		"join of node-2", "end of f1", "removal of node-2",
	}
	if d := cmp.Diff(want, kinds); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Node{{ID: "node-1", MemoryMB: 4096, Cores: 3}}, r.Nodes); d != "" {
		t.Error(d)
	}
	if r.Guests != "fork" || r.Setup["replicas"] != "2" {
		t.Errorf("guests %q, setup %v", r.Guests, r.Setup)
	}
	faults := r.Faults()
	r.lengths(&faults)
	if f := faults.Faults; len(f) != 1 || f[0].At.Duration != 4*time.Second || f[0].For.Duration != 3*time.Second {
		t.Errorf("faults %+v", f)
	}
}

func TestRecordingThatCannotBePlayed(t *testing.T) {
	for name, tp := range map[string]*tape{
		"no events":    {},
		"parameters":   newTape().call("iam:CreateUser", "%zz", ""),
		"status":       newTape().add("api.request", "iam:CreateUser", "status", "many"),
		"fault's kind": newTape().add("fault.began", "f1", "fault", "f1", "kind", "api.eror"),
		"fault's rate": newTape().add("fault.began", "f1", "fault", "f1", "kind", "wire.loss", "rate", "x"),
	} {
		if _, err := newRecording(*tp, nil, nil); !errors.Is(err, ErrRecording) {
			t.Errorf("%s: error %v, want ErrRecording", name, err)
		}
	}
}

func TestFindEvent(t *testing.T) {
	r := newTape().life(vm1, "stage,serving,listener,443", "stage,serving,listener,80").recording(t)
	for text, want := range map[string]uint64{
		"3": 3, "guest.milestone": 5, "guest.milestone:" + vm1 + ":listener=80": 6, "guest.milestone::listener=80": 6,
		"api.request:elasticloadbalancing:CreateLoadBalancer":            2,
		"api.request:elasticloadbalancing:CreateLoadBalancer:status=200": 2,
		"0": 0, "7": 0, "guest.milestone:x": 0, "guest.milestone::listener=81": 0, "": 0,
	} {
		got, err := r.FindEvent(text)
		if got != want || (want == 0) != errors.Is(err, ErrUntil) {
			t.Errorf("%q is event %d (%v), want %d", text, got, err, want)
		}
	}
}

func TestFailure(t *testing.T) {
	tp := newTape().call("iam:GetUser", "", "", "status", "500", "code", "InternalFailure").
		life(vm1, "stage,serving,listener,80", "stage,failed,reason,no medium")
	r := tp.recording(t)
	for seq, want := range map[uint64]Failure{
		0: {Event: 2, Track: "call 1, iam:GetUser", Text: "500 InternalFailure"},
		6: {Event: 6, Track: "VM 1 of load balancer 123456789012/web: listener 80", Text: "serving"},
		7: {Event: 7, Track: "VM 1 of load balancer 123456789012/web: stages", Text: "failed no medium"},
		5: {}, // a launch is not compared
	} {
		got, err := r.Failure(seq)
		if got != want || (want.Event == 0) != errors.Is(err, ErrNoFailure) {
			t.Errorf("failure of event %d: %+v (%v), want %+v", seq, got, err, want)
		}
	}
	if _, err := newTape().life(vm1).recording(t).Failure(0); !errors.Is(err, ErrNoFailure) {
		t.Errorf("error %v, want ErrNoFailure", err)
	}
}

func TestSubstitutes(t *testing.T) {
	s := &substitutes{ids: map[string]string{}, passwords: map[string]int{}, ports: map[string]string{vm1: "8081"}}
	s.learn([]string{vm1, "AKIA0000000000000001", "127.1.2.3", "left"}, []string{vm2, "AKIA0000000000000002", "127.4.5.6"})
	policy := `{"Resource":"arn:aws:ec2:::instance/` + vm1 + `","Ip":"127.1.2.30"}`
	tests := []struct {
		action, params string
		made           []string
		userData       int
		want           string // or what the reason says
	}{
		{"x:Put", url.Values{"Doc": {policy}, "Key": {"AKIA0000000000000001"}, "At": {"127.1.2.3"}}.Encode(), nil, 0,
			url.Values{"Doc": {strings.Replace(policy, vm1, vm2, 1)}, "Key": {"AKIA0000000000000002"},
				"At": {"127.4.5.6"}}.Encode()},
		{"ec2:RunInstances", "UserData=(secret)", []string{vm1}, 20, "UserData=cG9ydDogODA4MQojIyMjIyMjIyM%3D"},
		{"ec2:RunInstances", "UserData=(secret)", []string{vm1}, 3, "UserData=IyMj"},
		{"iam:CreateLoginProfile", "Password=(secret)&UserName=ann", nil, 0, "Password=Replayed-1-ab3%21XYZ&UserName=ann"},
		{"iam:ChangePassword", "NewPassword=(secret)&OldPassword=(secret)&UserName=ann", nil, 0,
			"NewPassword=Replayed-2-ab3%21XYZ&OldPassword=Replayed-1-ab3%21XYZ&UserName=ann"},
		{"sts:AssumeRoleWithSAML", "SAMLAssertion=(secret)", nil, 0, "SAMLAssertion is a secret"},
	}
	for _, tt := range tests {
		form, err := url.ParseQuery(tt.params)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.form(&Call{Action: tt.action, Parameters: form, Made: tt.made, UserData: tt.userData})
		if reason, not := asUnplayable(err); not && strings.Contains(reason, tt.want) {
			continue
		}
		if err != nil || got.Encode() != tt.want {
			t.Errorf("%s: %s (%v), want %s", tt.action, got.Encode(), err, tt.want)
		}
	}
	if _, err := s.form(&Call{Cut: true}); err == nil {
		t.Error("a call is played whose parameters were cut")
	}
}
