package replay

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/bundle"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/elb"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

// Before is what there was before the first event of a recording: what its replay begins on.
type Before struct {
	// Records are those that a cloud can start on: accounts, users, roles, certificates.
	Records *bundle.Records
	Nodes   []Node
	// Instances are the users', in the order of their launch, and LoadBalancers those with all that they have.
	Instances     []ec2.Instance
	LoadBalancers []elb.LoadBalancer
	// Faults are those that were active.
	Faults []Step

	events  []journal.Event
	booting map[string]bool // guests that did not serve yet
}

// The tables of what a replay builds by itself rather than finds.
const (
	instanceTable = "ec2-instances/"
	balancerTable = "elb-load-balancers/"
	nodeTable     = "placement-nodes/"
)

// built are the tables that a replay's cloud does not begin with.
var built = []string{instanceTable, balancerTable, nodeTable, "ec2-addresses/", "ec2-client-tokens/", "elb-addresses/",
	"placement-removed/"}

// readBefore reads a bundle's start; nil for nil.
func readBefore(start *bundle.Start) (*Before, error) {
	if start == nil {
		return nil, nil //nolint:nilnil // a recording from the beginning needs none, which is no error
	}
	b := &Before{Records: &start.Records, events: start.Events, booting: map[string]bool{}}
	for i := range start.Events {
		ev := &start.Events[i]
		switch {
		case ev.Kind == "fault.began":
			f, err := faultOf(ev)
			if err != nil {
				return nil, err
			}
			b.Faults = append(b.Faults, Step{Seq: ev.Seq, Begin: ev.Time, End: ev.Time, Began: f})
		case ev.Kind == "instance.state" && ev.Attributes["state"] == string(ec2.Pending):
			b.booting[ev.Subject] = true
		}
	}
	system := map[string]bool{}
	for _, record := range start.Records.Records {
		if err := b.learn(record, system); err != nil {
			return nil, fmt.Errorf("%w: its record %s: %w", ErrRecording, record.Key, err)
		}
	}
	b.Records.Records = slices.DeleteFunc(slices.Clone(b.Records.Records), func(r bundle.Record) bool {
		return slices.ContainsFunc(built, func(table string) bool { return strings.HasPrefix(r.Key, table) })
	})
	slices.SortStableFunc(b.Instances, func(a, b ec2.Instance) int { return a.LaunchTime.Compare(b.LaunchTime) })
	return b, nil
}

// learn takes a record of what the replay builds. system notes the cloud's own instances.
func (b *Before) learn(record bundle.Record, system map[string]bool) error {
	switch {
	case strings.HasPrefix(record.Key, instanceTable):
		var inst ec2.Instance
		if err := json.Unmarshal(record.Value, &inst); err != nil {
			return err
		}
		if system[inst.ID] = inst.System; !inst.System {
			b.Instances = append(b.Instances, inst)
		}
	case strings.HasPrefix(record.Key, balancerTable):
		var lb elb.LoadBalancer
		if err := json.Unmarshal(record.Value, &lb); err != nil {
			return err
		}
		if !lb.Deleting {
			b.LoadBalancers = append(b.LoadBalancers, lb)
		}
	case strings.HasPrefix(record.Key, nodeTable):
		var n placement.Node
		if err := json.Unmarshal(record.Value, &n); err != nil {
			return err
		}
		b.Nodes = append(b.Nodes, Node{ID: n.ID, MemoryMB: n.Status.MemoryMBTotal, Cores: n.Status.Cores})
	}
	return nil
}

// lives says whether an instance is to run in the replay.
func lives(inst *ec2.Instance) bool { return inst.State == ec2.Pending || inst.State == ec2.Running }

// settled says whether a load balancer had a VM that served already.
func (b *Before) settled(lb *elb.LoadBalancer) bool {
	return slices.ContainsFunc(lb.LBVMs, func(vm elb.LBVM) bool { return !b.booting[vm.InstanceID] })
}

// balancerKey names a load balancer as events do.
func balancerKey(lb *elb.LoadBalancer) string { return lb.AccountID + "/" + strings.ToLower(lb.Name) }

// learnBefore names what there was, and tells what guests had gone through that did not serve yet. What others had is
// over: they are compared from the first event on.
func (r *Recording) learnBefore(b *Before) {
	r.Before, r.Nodes = b, b.Nodes
	for i := range b.Instances {
		id := b.Instances[i].ID
		r.trace.names.of[id] = "instance " + id
	}
	for i := range b.LoadBalancers {
		lb := &b.LoadBalancers[i]
		for _, vm := range lb.LBVMs {
			if !b.booting[vm.InstanceID] {
				r.trace.names.learnVM(balancerKey(lb), vm.InstanceID)
			}
		}
	}
	for i := range b.events {
		ev := &b.events[i]
		if ev.Kind == cloud.EventStarted {
			r.Setup = ev.Attributes
		}
		if strings.HasPrefix(ev.Kind, "fault.") || strings.HasPrefix(ev.Kind, "node.") {
			continue
		}
		r.trace.add(ev)
	}
	r.trace.events = 0
}
