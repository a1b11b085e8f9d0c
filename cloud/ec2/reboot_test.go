package ec2_test

import (
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func TestRebootInstances(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	ids := c.run(t, demo, "MinCount=2", "MaxCount=2")
	l, _ := c.sync(t, c.dialAs(t, c.serve(t), n))
	_, err := c.call(t, root(demo), "RebootInstances", "InstanceId.1="+ids[0])
	wantCode(t, err, "IncorrectInstanceState", "pending")
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(ids[0], "running"), says(ids[1], "running")}})
	before := c.wantState(t, ids[0], ec2.Running)
	c.wantState(t, ids[1], ec2.Running)

	for _, tt := range []struct {
		name  string
		pairs []string
		code  string
	}{
		{"an id that is not known", []string{"InstanceId.1=" + ids[0], "InstanceId.2=i-00000000000000000"},
			"InvalidInstanceID.NotFound"},
		{"an id that is none", []string{"InstanceId.1=x"}, "InvalidInstanceID.Malformed"},
		{"none", nil, "MissingParameter"},
		{"a dry run", []string{"InstanceId.1=" + ids[0], "DryRun=true"}, "DryRunOperation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.call(t, root(demo), "RebootInstances", tt.pairs...)
			wantCode(t, err, tt.code, "")
		})
	}
	_, err = c.call(t, root("210987654321"), "RebootInstances", "InstanceId.1="+ids[0])
	wantCode(t, err, "InvalidInstanceID.NotFound", ids[0])
	if inst := c.wantState(t, ids[0], ec2.Running); inst.Reboots != 0 {
		t.Fatalf("what was refused rebooted the instance %d times", inst.Reboots)
	}

	if _, err := c.call(t, root(demo), "RebootInstances", "InstanceId.1="+ids[0]); err != nil {
		t.Fatal(err)
	}
	d := l.recv()
	if len(d.GetRun()) != 1 || d.GetRun()[0].GetId() != ids[0] || d.GetRun()[0].GetReboots() != 1 {
		t.Errorf("the node was told %v, want one reboot of %s", d, ids[0])
	}
	after := c.wantState(t, ids[0], ec2.Running)
	if after.PrivateIP != before.PrivateIP || after.MAC != before.MAC || !after.LaunchTime.Equal(before.LaunchTime) {
		t.Errorf("the instance is %+v after the reboot, was %+v", after, before)
	}
	if err := c.wantEvent("ec2.instance_reboot", "reboots", "1"); err != nil {
		t.Error(err)
	}

	c.call(t, root(demo), "TerminateInstances", "InstanceId.1="+ids[1])
	if _, err := c.call(t, root(demo), "RebootInstances", "InstanceId.1="+ids[1]); err != nil {
		t.Errorf("the reboot of an instance that ends: %v, want it passed over", err)
	}
}

// TestRebootOfAnLBVM: its LBPK was in its memory alone.
func TestRebootOfAnLBVM(t *testing.T) {
	b := bear(t, start(t), 0)
	first := b.cert()
	if _, err := b.call(t, root(demo), "RebootInstances", "InstanceId.1="+b.id); err == nil {
		t.Error("a user rebooted a load balancer's VM of another account")
	}
	if err := b.Reboot(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	b.renewed()
	second := b.cert()
	b.wantGood(t, first, "that has serial "+serial(second))
	b.wantGood(t, second, "")
	b.happens("ec2.instance_reboot", "replaced", serial(first))
	b.says("running", b.wiped("read"))
	inst := b.wait(func(i *ec2.Instance) bool { return i.Credential == nil })
	if inst.Reboots != 1 || inst.Identity.Renewals != 0 || inst.Identity.Current.Serial != serial(second) {
		t.Errorf("after the reboot the instance has %d reboots and identity %+v", inst.Reboots, inst.Identity)
	}
}

// TestRebootDuringARenewal: neither the LBCERT that the guest had nor the one that was on its way is good after it.
func TestRebootDuringARenewal(t *testing.T) {
	b := bear(t, start(t), 0)
	first := b.cert()
	if _, err := b.Renew(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	b.renewed()
	next := b.cert()
	if err := b.Reboot(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	b.renewed()
	last := b.cert()
	b.wantGood(t, first, "that has serial "+serial(last))
	b.wantGood(t, next, "that has serial "+serial(last))
	b.wantGood(t, last, "")
}
