package events

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

var begin = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

// story is a load balancer's, with another beside it.
func story() []journal.Event {
	all := []journal.Event{
		{Kind: "api.request", Subject: "elasticloadbalancing:CreateLoadBalancer",
			Attributes: map[string]string{"requestId": "r1", "params": "LoadBalancerName=shop&Path=%2F",
				"made": "i-1 127.1.2.3"}},
		{Kind: "elb.lbvm_launched", Subject: "123456789012/shop", Attributes: map[string]string{"instance": "i-1"}},
		{Kind: "elb.lbvm_launched", Subject: "123456789012/workshop", Attributes: map[string]string{"instance": "i-2"}},
		{Kind: "guest.milestone", Subject: "i-1", Attributes: map[string]string{"stage": "serving"}},
		{Kind: "guest.milestone", Subject: "i-2", Attributes: map[string]string{"stage": "serving"}},
		{Kind: "delivery.granted", Subject: "arn:aws:iam::123456789012:server-certificate/x",
			Attributes: map[string]string{"instance": "i-1", "requestId": "r2"}},
		{Kind: "deliveryman", Subject: "i-10"},
	}
	for i := range all {
		if i%3 == 0 && i < 6 {
			all[i].Trace = "t1"
		}
		all[i].Seq, all[i].Time = uint64(i+1), begin.Add(time.Duration(i)*time.Second)
	}
	return all
}

func TestSelection(t *testing.T) {
	for name, c := range map[string]struct {
		selection Selection
		want      []uint64
	}{
		"all":                       {Selection{}, []uint64{1, 2, 3, 4, 5, 6, 7}},
		"a load balancer":           {Selection{LoadBalancer: "shop"}, []uint64{1, 2, 4, 6}},
		"a guest":                   {Selection{VM: "i-1"}, []uint64{1, 2, 4, 6}},
		"a request":                 {Selection{Request: "r2"}, []uint64{6}},
		"a trace":                   {Selection{Trace: "t1"}, []uint64{1, 4}},
		"a family of kinds":         {Selection{Kind: "delivery"}, []uint64{6}},
		"a kind":                    {Selection{Kind: "guest.milestone"}, []uint64{4, 5}},
		"what is recent":            {Selection{Since: begin.Add(5 * time.Second)}, []uint64{6, 7}},
		"a guest's recent events":   {Selection{VM: "i-1", Since: begin.Add(3 * time.Second)}, []uint64{4, 6}},
		"a load balancer's, recent": {Selection{LoadBalancer: "shop", Since: begin.Add(3 * time.Second)}, []uint64{4, 6}},
		"nothing":                   {Selection{VM: "i-3"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []uint64
			for _, ev := range story() {
				if c.selection.Wants(&ev) {
					got = append(got, ev.Seq)
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("events %v, want %v", got, c.want)
			}
		})
	}
}

// TestRecordsOfWrites has the records of one write be told in its subject and in two attributes.
func TestRecordsOfWrites(t *testing.T) {
	for name, c := range map[string]struct {
		subject, with, deleted string
		vm, lb                 bool
	}{
		"an instance":             {subject: "ec2-instances/i-1", vm: true, lb: true},
		"another's":               {subject: "ec2-instances/i-11"},
		"with others":             {subject: "ec2-addresses/10", with: "x/i-0 ec2-instances/i-1", vm: true, lb: true},
		"deleted":                 {subject: "elb-x/y", with: "elb-x/z", deleted: "ec2-instances/i-1", vm: true, lb: true},
		"a load balancer":         {subject: "elb-load-balancers/123456789012/shop", lb: true},
		"a load balancer, beside": {subject: "a/b", with: "elb-load-balancers/123456789012/shop", lb: true},
	} {
		t.Run(name, func(t *testing.T) {
			ev := journal.Event{Kind: "store.write", Subject: c.subject, Attributes: map[string]string{"revision": "5"}}
			for attribute, value := range map[string]string{"with": c.with, "deleted": c.deleted} {
				if value != "" {
					ev.Attributes[attribute] = value
				}
			}
			ofVM, ofLB := Selection{VM: "i-1"}, Selection{LoadBalancer: "shop"}
			for _, told := range story() {
				ofLB.Wants(&told)
			}
			if got := ofVM.Wants(&ev); got != c.vm {
				t.Errorf("wanted of the instance: %t, want %t", got, c.vm)
			}
			if got := ofLB.Wants(&ev); got != c.lb {
				t.Errorf("wanted of the load balancer: %t, want %t", got, c.lb)
			}
		})
	}
}

// TestWhatFollowedFromARequest has events come before the one that says which request they are of, another request of
// the same trace, and steps of steps.
func TestWhatFollowedFromARequest(t *testing.T) {
	request := func(id string) map[string]string { return map[string]string{journal.RequestID: id} }
	all := []journal.Event{
		{Kind: "store.write", Span: "a"},
		{Kind: "api.request", Span: "a", Attributes: request("r1")},
		{Kind: "placement.chosen", Span: "c", Parent: "b"},
		{Kind: "elb.lbvm_launched", Span: "b", Parent: "a"},
		{Kind: "guest.milestone", Span: "c"},
		{Kind: "store.write", Span: "d", Parent: "c"},
		{Kind: "api.request", Span: "d", Parent: "c", Attributes: request("r2")},
		{Kind: "api.request", Span: "e", Attributes: request("r3")},
		{Kind: "cloud.started"},
		{Kind: "store.write", Span: "x", Parent: "y"},
		{Kind: "store.write", Span: "y", Parent: "x"},
	}
	for id, want := range map[string][]int{"r1": {0, 1, 2, 3, 4, 5, 6}, "r2": {5, 6}, "r3": {7}, "r4": nil} {
		t.Run(id, func(t *testing.T) {
			selection := Selection{Request: id}
			if !selection.Twice() {
				t.Error("once is said to be enough")
			}
			var got []int
			for round := range 2 {
				for i := range all {
					all[i].Trace = "t"
					if selection.Wants(&all[i]) && round == 1 {
						got = append(got, i)
					}
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("events %v, want %v", got, want)
			}
		})
	}
}

func TestWriteForPeople(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, false)
	for _, ev := range []journal.Event{
		{Seq: 9, Time: begin, Kind: "guest.milestone", Subject: "i-1", Attributes: map[string]string{"b": "2 3", "a": "1"}},
		{Seq: 10, Time: begin.Add(1500 * time.Millisecond), Kind: "guest.milestone", Subject: "i-1\n\x1b[31m"},
	} {
		if err := w.Write(&ev); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		`     9 2026-11-22 06:00:00.000            guest.milestone            i-1  a=1  b="2 3"`,
		`    10 2026-11-22 06:00:01.500   +1.500s  guest.milestone            "i-1\n\x1b[31m"`,
	}
	if got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n"); !reflect.DeepEqual(got, want) {
		t.Errorf("lines\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWriteJSON(t *testing.T) {
	var out bytes.Buffer
	ev := story()[5]
	if err := NewWriter(&out, true).Write(&ev); err != nil {
		t.Fatal(err)
	}
	var got journal.Event
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || !reflect.DeepEqual(got, ev) {
		t.Errorf("event %v (%v), want %v", got, err, ev)
	}
}
