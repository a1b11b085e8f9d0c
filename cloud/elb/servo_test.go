package elb

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

func TestServoDescription(t *testing.T) {
	w := newWorld(t)
	dns := w.create("web")
	must[any](w, alice, "CreateLoadBalancerListeners", join(named("web"), listener(1, "tcp", 22, "", 22, ""))...)
	backend := w.ec2.run(alice)
	must[any](w, alice, "RegisterInstancesWithLoadBalancer",
		join(named("web"), []string{"Instances.member.1.InstanceId", backend})...)
	must[any](w, alice, "ConfigureHealthCheck", join(named("web"), []string{"HealthCheck.Target", "http:80/ok",
		"HealthCheck.Interval", "6", "HealthCheck.Timeout", "3", "HealthCheck.UnhealthyThreshold", "4",
		"HealthCheck.HealthyThreshold", "5"})...)
	vm := w.lbvm()
	var got *servo.Description
	w.eventually("the view has the last change", func() bool {
		var err error
		if got, err = w.describeAs(guest(vm.ID, webRole), vm.ID, "", 0); err != nil {
			t.Fatal(err)
		}
		return len(got.LoadBalancers) == 1 && got.LoadBalancers[0].HealthCheck.Interval == 6
	})
	lb := got.LoadBalancers[0]
	lb.CreatedTime = ""
	want := servo.LoadBalancer{
		Name: "web", DNSName: dns, AvailabilityZones: []string{"us-east-1a"}, Scheme: "internet-facing",
		Listeners: []servo.Listener{
			{Protocol: "TCP", LoadBalancerPort: 22, InstanceProtocol: "TCP", InstancePort: 22},
			{Protocol: "HTTPS", LoadBalancerPort: 443, InstanceProtocol: "HTTP", InstancePort: 80,
				SSLCertificateID: certA, CertificateRevision: "1"},
		},
		Backends: []servo.Backend{{InstanceID: backend, IPAddress: "10.64.1.1", ReportHealthCheck: true}},
		HealthCheck: servo.HealthCheck{
			Target: "HTTP:80/ok", Interval: 6, Timeout: 3, UnhealthyThreshold: 4, HealthyThreshold: 5,
		},
		Attributes: servo.LoadBalancerParams{DrainingTimeout: 300, IdleTimeout: 60},
	}
	inst, _ := w.ec2.Instance(t.Context(), backend)
	want.Backends[0].IPAddress = inst.PrivateIP
	if diff := cmp.Diff(want, lb); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	again, err := w.describeAs(guest(vm.ID, webRole), vm.ID, "", 0)
	if err != nil || again.Revision != got.Revision || got.Revision == "" {
		t.Errorf("revision of the same description: %q, then %q (%v)", got.Revision, again.Revision, err)
	}
}

func TestServoRefuses(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	vm := w.lbvm()
	other := w.ec2.add(ec2.Instance{AccountID: system, System: true, State: ec2.Running})
	caller := func(alter func(*authn.Caller)) context.Context {
		c := authn.CallerFrom(guest(vm.ID, webRole))
		alter(&c)
		return authn.WithCaller(context.Background(), c)
	}
	tests := []struct {
		name string
		ctx  context.Context
		id   string
		want string
	}{
		{"the LBVM itself", guest(vm.ID, webRole), vm.ID, ""},
		{"nobody", context.Background(), vm.ID, "AccessDenied"},
		{"a user", as(alice), vm.ID, "AccessDenied"},
		{"the system account's root", caller(func(c *authn.Caller) { c.Kind = authn.KindRoot }), vm.ID, "AccessDenied"},
		{"a role session that nobody made for an instance", caller(func(c *authn.Caller) { c.InstanceID = "" }), vm.ID,
			"AccessDenied"},
		{"no instance named", guest(vm.ID, webRole), "", "ValidationError"},
		{"another instance names this one", guest(other.ID, webRole), vm.ID, "AccessDenied"},
		{"this one names another", guest(vm.ID, webRole), other.ID, "AccessDenied"},
		{"an instance that is no LBVM", guest(other.ID, webRole), other.ID, "AccessDenied"},
		{"the role of another load balancer", guest(vm.ID, webRole+"2"), vm.ID, "AccessDenied"},
		{"a user account's role", caller(func(c *authn.Caller) { c.AccountID, c.System = alice, false }), vm.ID,
			"AccessDenied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.describeAs(tt.ctx, tt.id, "", 0)
			if code(err) != tt.want {
				t.Errorf("describe: %v, want code %q", err, tt.want)
			}
			_, _, err = w.PutServoStates(tt.ctx, (&servo.States{}).Form(tt.id))
			if code(err) != tt.want {
				t.Errorf("put states: %v, want code %q", err, tt.want)
			}
		})
	}
}

func TestLongPoll(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	vm := w.lbvm()
	backend := w.ec2.run(alice)
	me := guest(vm.ID, webRole)
	changes := []struct {
		name   string
		change func()
	}{
		{"a listener", func() {
			must[any](w, alice, "CreateLoadBalancerListeners", join(named("web"), listener(1, "TCP", 22, "", 22, ""))...)
		}},
		{"the certificate", func() {
			must[any](w, alice, "SetLoadBalancerListenerSSLCertificate",
				join(named("web"), []string{"LoadBalancerPort", "443", "SSLCertificateId", certB})...)
		}},
		{"the key behind the certificate", func() { w.iam.setRevision(certB, "2") }},
		{"a back-end instance", func() {
			must[any](w, alice, "RegisterInstancesWithLoadBalancer",
				join(named("web"), []string{"Instances.member.1.InstanceId", backend})...)
		}},
		{"the instance's address", func() { w.ec2.change(backend, func(i *ec2.Instance) { i.PrivateIP = "10.64.9.9" }) }},
		{"the instance's end", func() { w.ec2.end(backend) }},
		{"the health check", func() {
			must[any](w, alice, "ConfigureHealthCheck", join(named("web"), []string{"HealthCheck.Target", "TCP:81",
				"HealthCheck.Interval", "6", "HealthCheck.Timeout", "3", "HealthCheck.UnhealthyThreshold", "4",
				"HealthCheck.HealthyThreshold", "5"})...)
		}},
		{"the idle timeout", func() {
			must[any](w, alice, "ModifyLoadBalancerAttributes",
				join(named("web"), []string{"LoadBalancerAttributes.ConnectionSettings.IdleTimeout", "7"})...)
		}},
	}
	for _, tt := range changes {
		t.Run(tt.name, func(t *testing.T) {
			// Nothing of the change before may be what wakes the guest.
			w.eventually("the view has come to rest", func() bool {
				seen, _ := w.view.get(recordKey(alice, "web"))
				stored, err := w.records.Get(t.Context(), recordKey(alice, "web"))
				return err == nil && cmp.Equal(stored, *seen)
			})
			now, err := w.describeAs(me, vm.ID, "", 0)
			if err != nil {
				t.Fatal(err)
			}
			type answer struct {
				d   *servo.Description
				err error
			}
			answered := make(chan answer, 1)
			waits := spy{Context: me, begun: make(chan struct{}, 1)}
			go func() {
				d, err := w.describeAs(waits, vm.ID, now.Revision, servo.MaxWait)
				answered <- answer{d, err}
			}()
			<-waits.begun
			began := time.Now()
			tt.change()
			select {
			case a := <-answered:
				if a.err != nil || a.d.Revision == now.Revision {
					t.Fatalf("answer with revision %q after %q, %v", a.d.Revision, now.Revision, a.err)
				}
				if took := time.Since(began); took >= servo.MaxWait {
					t.Errorf("the guest learned of it after %s", took)
				}
				for _, l := range a.d.LoadBalancers[0].Listeners {
					policy := webPolicy + certificateName(l.SSLCertificateID)
					if l.SSLCertificateID != "" && w.iam.grant(webRole, policy) == "" {
						t.Errorf("the guest sees %s, which is not granted", l.SSLCertificateID)
					}
				}
			case <-time.After(soon):
				t.Fatal("the guest was not told")
			}
		})
	}
}

// spy is a context that tells when somebody begins to wait for its end.
type spy struct {
	context.Context
	begun chan struct{}
}

func (w spy) Done() <-chan struct{} {
	select {
	case w.begun <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

func TestLongPollEnds(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	vm := w.lbvm()
	now, err := w.describeAs(guest(vm.ID, webRole), vm.ID, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	same, err := w.describeAs(guest(vm.ID, webRole), vm.ID, now.Revision, time.Second)
	if err != nil || same.Revision != now.Revision {
		t.Errorf("after the wait: %v, %v; want the same revision", same, err)
	}
	ctx, cancel := context.WithCancel(guest(vm.ID, webRole))
	ended := make(chan error, 1)
	go func() {
		_, err := w.describeAs(ctx, vm.ID, now.Revision, servo.MaxWait)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a client that hangs up: %v", err)
	}
	go func() {
		_, err := w.describeAs(guest(vm.ID, webRole), vm.ID, now.Revision, servo.MaxWait)
		ended <- err
	}()
	must[any](w, alice, "DeleteLoadBalancer", named("web")...)
	if err := <-ended; code(err) != "AccessDenied" {
		t.Errorf("the load balancer's end: %v, want AccessDenied", err)
	}
}

func TestInstanceHealth(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	vm := w.lbvm()
	good, bad, silent, stranger := w.ec2.run(alice), w.ec2.run(alice), w.ec2.run(alice), w.ec2.run(alice)
	must[any](w, alice, "RegisterInstancesWithLoadBalancer", join(named("web"), []string{
		"Instances.member.1.InstanceId", good, "Instances.member.2.InstanceId", bad, "Instances.member.3.InstanceId", silent,
	})...)
	w.eventually("the view knows the instances", func() bool { return len(w.view.using(silent)) == 1 })
	states := servo.States{
		Instances: map[string]string{good: servo.InService, bad: servo.OutOfService, stranger: servo.InService},
		Metrics:   []servo.Metric{{Name: "RequestCount", Unit: "Count", Value: 3}},
	}
	contentType, body, err := w.PutServoStates(guest(vm.ID, webRole), states.Form(vm.ID))
	if err != nil || contentType != "text/xml" || !strings.Contains(string(body), "<RequestId>request</RequestId>") {
		t.Fatalf("put states: %s, %s, %v", contentType, body, err)
	}
	out := must[*elbmodel.DescribeInstanceHealthOutput](w, alice, "DescribeInstanceHealth", named("web")...)
	want := []elbmodel.InstanceState{
		state(good, "InService", "N/A", "N/A"),
		state(bad, "OutOfService", "Instance",
			"Instance has failed at least the UnhealthyThreshold number of health checks consecutively."),
		state(silent, "OutOfService", "ELB", "Instance registration is still in progress."),
	}
	if diff := cmp.Diff(want, out.InstanceStates); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
	out = must[*elbmodel.DescribeInstanceHealthOutput](w, alice, "DescribeInstanceHealth",
		join(named("web"), []string{"Instances.member.1.InstanceId", stranger})...)
	want = []elbmodel.InstanceState{
		state(stranger, "OutOfService", "Instance", "Instance is not currently registered with the LoadBalancer."),
	}
	if diff := cmp.Diff(want, out.InstanceStates); diff != "" {
		t.Errorf("health of one that is not registered (-want +got):\n%s", diff)
	}

	// What was said of an instance before it was registered does not count.
	late := join(named("web"), []string{"Instances.member.1.InstanceId", stranger})
	must[any](w, alice, "RegisterInstancesWithLoadBalancer", late...)
	out = must[*elbmodel.DescribeInstanceHealthOutput](w, alice, "DescribeInstanceHealth", late...)
	want = []elbmodel.InstanceState{state(stranger, "OutOfService", "ELB", "Instance registration is still in progress.")}
	if diff := cmp.Diff(want, out.InstanceStates); diff != "" {
		t.Errorf("health of one that was just registered (-want +got):\n%s", diff)
	}
	must[any](w, alice, "DeregisterInstancesFromLoadBalancer", late...)

	// Out and in again: what was said before no longer counts.
	one := join(named("web"), []string{"Instances.member.1.InstanceId", good})
	must[any](w, alice, "DeregisterInstancesFromLoadBalancer", one...)
	w.eventually("the view knows", func() bool { return len(w.view.using(good)) == 0 })
	must[any](w, alice, "RegisterInstancesWithLoadBalancer", one...)
	w.eventually("it is in registration again", func() bool {
		out := must[*elbmodel.DescribeInstanceHealthOutput](w, alice, "DescribeInstanceHealth", one...)
		return model.Val(out.InstanceStates[0].ReasonCode) == "ELB"
	})
	w.ec2.end(bad)
	w.eventually("an instance that ended leaves", func() bool {
		out := must[*elbmodel.DescribeInstanceHealthOutput](w, alice, "DescribeInstanceHealth", named("web")...)
		return len(out.InstanceStates) == 2
	})
}

func state(id, state, code, description string) elbmodel.InstanceState {
	return elbmodel.InstanceState{InstanceId: &id, State: &state, ReasonCode: &code, Description: &description}
}
