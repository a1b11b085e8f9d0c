package elb

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

const (
	webRole   = "loadbalancer-vm-" + alice + "-web"
	webPolicy = "loadbalancer-iam-policy-" + alice + "-web-"
)

func TestCreateMakesRoleGrantAndLBVM(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.UnprivilegedPorts = true })
	dns := w.create("web")
	if ip, err := netip.ParseAddr(dns); err != nil || !netip.MustParsePrefix("127.64.0.0/10").Contains(ip) {
		t.Errorf("DNSName %q is no address of 127.64.0.0/10", dns)
	}
	// These are there when the call answers.
	wantRole := iam.ServiceRole{
		AccountID: system, Name: webRole, Path: "/internal/loadbalancer/", TrustService: "ec2.amazonaws.com",
	}
	if diff := cmp.Diff(wantRole, w.iam.made[webRole]); diff != "" {
		t.Errorf("role (-want +got):\n%s", diff)
	}
	var document struct {
		Version   string
		Statement []struct{ Effect, Action, Resource string }
	}
	if err := json.Unmarshal([]byte(w.iam.grant(webRole, webPolicy+"a")), &document); err != nil {
		t.Fatalf("grant: %v", err)
	}
	if len(document.Statement) != 1 || document.Version != "2012-10-17" ||
		document.Statement[0] != struct{ Effect, Action, Resource string }{"Allow", "iam:DownloadServerCertificate", certA} {
		t.Errorf("grant %+v", document)
	}
	// These follow.
	vm := w.lbvm()
	if want := []ec2.Exposure{{HostAddress: dns + ":8443", GuestPort: 443}}; !slices.Equal(vm.Exposures, want) {
		t.Errorf("exposures %v, want %v", vm.Exposures, want)
	}
	launch := w.ec2.launched()[0]
	text, days, wanted, err := keydelivery.ParseUserData(launch.UserData)
	if err != nil || !wanted || days != 365 {
		t.Errorf("user data asks for a credential: %v, %d days, %v", wanted, days, err)
	}
	if want := `{"loadBalancer":"web","account":"` + alice + `"}`; string(text) != want {
		t.Errorf("payload %s, want %s", text, want)
	}
	if launch.AccountID != system || !launch.System || launch.ImageName != "lbvm" ||
		launch.InstanceProfileName != webRole {
		t.Errorf("launch %+v", launch)
	}
	https := Listener{Protocol: "HTTPS", Port: 443, InstanceProtocol: "HTTP", InstancePort: 80, CertificateARN: certA}
	want := []Summary{{
		AccountID: alice, Name: "web", DNSName: dns, LBVMs: []string{vm.ID},
		Listeners: []ListenerSummary{{Listener: https, HostAddress: dns + ":8443"}},
	}}
	if diff := cmp.Diff(want, w.Summaries()); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
}

func TestGrantsFollowListeners(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	step := func(what string, want []string, operation string, fields ...string) {
		t.Helper()
		if _, err := w.do(alice, operation, join(named("web"), fields)...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got, _ := w.iam.policies(webRole)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", what, diff)
		}
	}
	a, b := webPolicy+"a", webPolicy+"b"
	step("a second listener with the same certificate", []string{a}, "CreateLoadBalancerListeners",
		listener(1, "SSL", 8443, "TCP", 81, certA)...)
	step("the same listener again", []string{a}, "CreateLoadBalancerListeners",
		listener(1, "SSL", 8443, "TCP", 81, certA)...)
	step("removal of one of two listeners", []string{a}, "DeleteLoadBalancerListeners",
		"LoadBalancerPorts.member.1", "8443")
	step("a second certificate", []string{a, b}, "CreateLoadBalancerListeners",
		listener(1, "SSL", 8443, "TCP", 81, certB)...)
	step("change of certificate", []string{b}, "SetLoadBalancerListenerSSLCertificate",
		"LoadBalancerPort", "443", "SSLCertificateId", certB)
	step("removal of a port that has no listener", []string{b}, "DeleteLoadBalancerListeners",
		"LoadBalancerPorts.member.1", "99")
	step("removal of both", nil, "DeleteLoadBalancerListeners",
		"LoadBalancerPorts.member.1", "443", "LoadBalancerPorts.member.2", "8443")
	if lb, err := w.records.Get(t.Context(), recordKey(alice, "web")); err != nil || len(lb.Granted) != 0 {
		t.Errorf("record still notes grants: %v, %v", lb.Granted, err)
	}
}

func TestNoGrantNoChange(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	w.iam.setFailPut(errStore)
	if _, err := w.do(alice, "SetLoadBalancerListenerSSLCertificate", join(named("web"),
		[]string{"LoadBalancerPort", "443", "SSLCertificateId", certB})...); err == nil {
		t.Fatal("certificate was set without a grant")
	}
	lb, err := w.get(as(alice), "web")
	if err != nil || lb.Listeners[0].CertificateARN != certA {
		t.Errorf("listener %+v, %v; want certificate a", lb.Listeners, err)
	}
	if _, err := w.do(alice, "CreateLoadBalancer", join(named("other"), zone,
		listener(1, "HTTPS", 443, "", 80, certA))...); err == nil {
		t.Fatal("load balancer was made without a grant")
	}
	if _, err := w.get(as(alice), "other"); code(err) != "LoadBalancerNotFound" {
		t.Errorf("half a load balancer is left: %v", err)
	}
	if _, ok := w.iam.policies("loadbalancer-vm-" + alice + "-other"); ok {
		t.Error("its role is left")
	}
	if keys, _ := w.addresses.Keys(t.Context(), ""); len(keys) != 1 {
		t.Errorf("its address is left: %v", keys)
	}
	w.eventually("the loop withdraws the grant that no listener needs", func() bool {
		lb, err := w.get(as(alice), "web")
		return err == nil && cmp.Equal(lb.Granted, lb.grants())
	})
}

func TestEndedLBVMIsReplaced(t *testing.T) {
	w := newWorld(t)
	dns := w.create("web")
	first := w.lbvm()
	w.ec2.end(first.ID)
	var second ec2.Instance
	w.eventually("another LBVM has the address", func() bool {
		list := w.ec2.lbvms()
		if len(list) == 1 && list[0].ID != first.ID && len(list[0].Exposures) == 1 {
			second = list[0]
			return true
		}
		return false
	})
	if second.Exposures[0].HostAddress != dns+":443" {
		t.Errorf("exposures %v, want %s:443", second.Exposures, dns)
	}
	w.eventually("the ended LBVM is refused", func() bool {
		_, err := w.describeAs(guest(first.ID, webRole), first.ID, "", 0)
		return code(err) == "AccessDenied"
	})
}

func TestReplicas(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Replicas = 2 })
	w.create("web")
	exposed := func() (live, exposed int) {
		for _, vm := range w.ec2.lbvms() {
			live++
			if len(vm.Exposures) > 0 {
				exposed++
			}
		}
		return live, exposed
	}
	w.eventually("two LBVMs, one exposed", func() bool { n, e := exposed(); return n == 2 && e == 1 })
	w.ec2.end(w.ec2.lbvms()[0].ID)
	w.eventually("its sibling takes over and a third joins", func() bool {
		n, e := exposed()
		return n == 2 && e == 1 && len(w.ec2.launched()) == 3
	})
	w.Close()
	w.cfg.Replicas = 1
	w.start()
	w.eventually("the one too many ends", func() bool { n, e := exposed(); return n == 1 && e == 1 })
}

func TestLaunchIsRetried(t *testing.T) {
	w := newWorld(t)
	w.ec2.setFailLaunch(errNoRoom)
	w.create("web")
	w.ec2.setFailLaunch(nil)
	w.lbvm()
}

func TestDelete(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	vm := w.lbvm()
	must[any](w, bob, "DeleteLoadBalancer", named("web")...)
	must[any](w, alice, "DeleteLoadBalancer", named("WEB")...)
	if _, err := w.get(as(alice), "web"); err != nil {
		t.Fatalf("another account or another name deleted it: %v", err)
	}
	must[any](w, alice, "DeleteLoadBalancer", named("web")...)
	must[any](w, alice, "DeleteLoadBalancer", named("web")...)
	if _, ok := w.iam.policies(webRole); ok {
		t.Error("the role is left")
	}
	if keys, _ := w.addresses.Keys(t.Context(), ""); len(keys) != 0 {
		t.Errorf("the address is left: %v", keys)
	}
	w.eventually("the guest is refused", func() bool {
		_, err := w.describeAs(guest(vm.ID, webRole), vm.ID, "", 0)
		return code(err) == "AccessDenied"
	})
	w.eventually("the LBVM ends", func() bool { return len(w.ec2.lbvms()) == 0 })
	w.create("web")
	if again := w.lbvm(); again.ID == vm.ID {
		t.Errorf("the new load balancer has the old LBVM %s", vm.ID)
	}
}

func TestCertificateInUse(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	tests := []struct {
		name string
		arn  string
		want bool
	}{
		{"named by a listener", certA, true},
		{"named by none", certB, false},
		{"another account's", certX, false},
		{"no certificate at all", "x", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			user, got, err := w.iam.check(t.Context(), tt.arn)
			if err != nil || got != tt.want {
				t.Fatalf("in use %v, %v; want %v", got, err, tt.want)
			}
			if want := "arn:aws:elasticloadbalancing:us-east-1:" + alice + ":loadbalancer/web"; got && user != want {
				t.Errorf("user %s, want %s", user, want)
			}
		})
	}
}

func TestDescribePages(t *testing.T) {
	w := newWorld(t)
	w.ec2.setFailLaunch(errNoRoom)
	for _, name := range []string{"b", "A", "d", "c", "a-1"} {
		must[any](w, alice, "CreateLoadBalancer", join(named(name), zone, listener(1, "TCP", 80, "", 80, ""))...)
	}
	var got []string
	for marker := ""; ; {
		fields := []string{"PageSize", "2"}
		if marker != "" {
			fields = append(fields, "Marker", marker)
		}
		out := must[*elbmodel.DescribeLoadBalancersOutput](w, alice, "DescribeLoadBalancers", fields...)
		if len(out.LoadBalancerDescriptions) > 2 {
			t.Fatalf("a page of %d", len(out.LoadBalancerDescriptions))
		}
		for _, d := range out.LoadBalancerDescriptions {
			got = append(got, *d.LoadBalancerName)
		}
		if out.NextMarker == nil {
			break
		}
		marker = *out.NextMarker
	}
	if diff := cmp.Diff([]string{"A", "a-1", "b", "c", "d"}, got); diff != "" {
		t.Errorf("all pages (-want +got):\n%s", diff)
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	names := []string{"LoadBalancerNames.member.1", "web"}
	must[any](w, alice, "AddTags", join(names, []string{"Tags.member.1.Key", "b", "Tags.member.1.Value", "2",
		"Tags.member.2.Key", "a", "Tags.member.2.Value", "1"})...)
	must[any](w, alice, "AddTags", join(names, []string{"Tags.member.1.Key", "b", "Tags.member.1.Value", "3"})...)
	must[any](w, alice, "RemoveTags", join(names, []string{"Tags.member.1.Key", "a", "Tags.member.2.Key", "none"})...)
	out := must[*elbmodel.DescribeTagsOutput](w, alice, "DescribeTags", names...)
	if tags := out.TagDescriptions[0].Tags; len(tags) != 1 || *tags[0].Key != "b" || *tags[0].Value != "3" {
		t.Errorf("tags %+v", tags)
	}
}

func TestExposures(t *testing.T) {
	tests := []struct {
		name         string
		unprivileged bool
		ports        []int
		want         []int
	}{
		{"as they are", false, []int{80, 443, 8443}, []int{80, 443, 8443}},
		{"moved", true, []int{80, 443, 1024}, []int{8080, 8443, 1024}},
		{"a moved port gives way", true, []int{443, 8443}, []int{9443, 8443}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lb := LoadBalancer{Address: "127.64.1.1"}
			for _, p := range tt.ports {
				lb.Listeners = append(lb.Listeners, Listener{Port: p})
			}
			for i, e := range exposures(&lb, tt.unprivileged) {
				if want := "127.64.1.1:" + strconv.Itoa(tt.want[i]); e.HostAddress != want || e.GuestPort != tt.ports[i] {
					t.Errorf("port %d is at %+v, want %s", tt.ports[i], e, want)
				}
			}
		})
	}
}

func TestResources(t *testing.T) {
	w := newWorld(t)
	web := "arn:aws:elasticloadbalancing:us-east-1:" + alice + ":loadbalancer/web"
	name := "web"
	tests := []struct {
		name  string
		input any
		want  []string
	}{
		{"create", &elbmodel.CreateLoadBalancerInput{LoadBalancerName: &name}, []string{web}},
		{"delete", &elbmodel.DeleteLoadBalancerInput{LoadBalancerName: &name}, []string{web}},
		{"tags", &elbmodel.AddTagsInput{LoadBalancerNames: []string{"web", "b"}}, []string{web, web[:len(web)-3] + "b"}},
		{"list", &elbmodel.DescribeLoadBalancersInput{LoadBalancerNames: []string{"web"}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := w.Resources(t.Context(), "", authn.CallerFrom(as(alice)), tt.input)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("resources %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}
