package elb

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

func TestBadInputChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	w.lbvm()
	mine, foreign, ended := w.ec2.run(alice), w.ec2.run(bob), w.ec2.run(alice)
	w.ec2.end(ended)
	must[any](w, alice, "RegisterInstancesWithLoadBalancer",
		join(named("web"), []string{"Instances.member.1.InstanceId", mine})...)

	check := func(target, interval, timeout string) []string {
		return []string{
			"LoadBalancerName", "web", "HealthCheck.Target", target, "HealthCheck.Interval", interval,
			"HealthCheck.Timeout", timeout, "HealthCheck.UnhealthyThreshold", "2", "HealthCheck.HealthyThreshold", "2",
		}
	}
	var manyTags []string
	for i := range 51 {
		prefix := "Tags.member." + strconv.Itoa(i+1) + "."
		manyTags = append(manyTags, prefix+"Key", "k"+strconv.Itoa(i), prefix+"Value", "v")
	}
	http80 := listener(1, "HTTP", 80, "", 8080, "")
	instance := func(id string) []string { return []string{"Instances.member.1.InstanceId", id} }
	setCert := func(name, port, arn string) []string {
		return []string{"LoadBalancerName", name, "LoadBalancerPort", port, "SSLCertificateId", arn}
	}
	tests := []struct {
		name      string
		operation string
		fields    []string
		want      string // code
		mentions  string
	}{
		{"no name", "CreateLoadBalancer", join(zone, http80), "ValidationError", "loadBalancerName"},
		{"name with a dash first", "CreateLoadBalancer", join(named("-x"), zone, http80), "ValidationError", "-x"},
		{"name with a dash last", "CreateLoadBalancer", join(named("x-"), zone, http80), "ValidationError", "x-"},
		{"name too long", "CreateLoadBalancer", join(named(strings.Repeat("x", 33)), zone, http80), "ValidationError", "32"},
		{"name with a slash", "CreateLoadBalancer", join(named("a/b"), zone, http80), "ValidationError", "a/b"},
		{"name in use", "CreateLoadBalancer", join(named("web"), zone, http80), "DuplicateLoadBalancerName", "web"},
		{"name in use, other case", "CreateLoadBalancer", join(named("WEB"), zone, http80),
			"DuplicateLoadBalancerName", "web"},
		{"no listener", "CreateLoadBalancer", join(named("n"), zone), "ValidationError", "istener"},
		{"neither zone nor subnet", "CreateLoadBalancer", join(named("n"), http80), "ValidationError", "AvailabilityZones"},
		{"zone and subnet", "CreateLoadBalancer",
			join(named("n"), zone, []string{"Subnets.member.1", "subnet-01234567"}, http80),
			"InvalidConfigurationRequest", "Subnets"},
		{"zone of another region", "CreateLoadBalancer",
			join(named("n"), []string{"AvailabilityZones.member.1", "eu-west-1a"}, http80),
			"ValidationError", "eu-west-1a"},
		{"no such subnet", "CreateLoadBalancer", join(named("n"), []string{"Subnets.member.1", "x"}, http80),
			"SubnetNotFound", "x"},
		{"scheme", "CreateLoadBalancer",
			join(named("n"), zone, http80, []string{"Scheme", "public"}), "InvalidScheme", "public"},
		{"tag of AWS", "CreateLoadBalancer", join(named("n"), zone, http80, []string{"Tags.member.1.Key", "aws:x"}),
			"ValidationError", "aws:x"},
		{"tag twice", "CreateLoadBalancer", join(named("n"), zone, http80,
			[]string{"Tags.member.1.Key", "k", "Tags.member.2.Key", "k"}), "DuplicateTagKeys", "k"},
		{"too many tags", "CreateLoadBalancer", join(named("n"), zone, http80, manyTags), "TooManyTags", "50"},
		{"HTTPS without a certificate", "CreateLoadBalancer", join(named("n"), zone, listener(1, "HTTPS", 443, "", 80, "")),
			"CertificateNotFound", "443"},
		{"certificate that does not exist", "CreateLoadBalancer",
			join(named("n"), zone, listener(1, "SSL", 443, "", 80, certA+"x")), "CertificateNotFound", certA + "x"},
		{"certificate that is no ARN", "CreateLoadBalancer", join(named("n"), zone, listener(1, "SSL", 443, "", 80, "a")),
			"CertificateNotFound", "a"},
		{"certificate of another account", "CreateLoadBalancer",
			join(named("n"), zone, listener(1, "SSL", 443, "", 80, certX)),
			"CertificateNotFound", certX},
		{"certificate on plain HTTP", "CreateLoadBalancer", join(named("n"), zone, listener(1, "HTTP", 80, "", 80, certA)),
			"InvalidConfigurationRequest", "80"},
		{"unknown protocol", "CreateLoadBalancer", join(named("n"), zone, listener(1, "FTP", 21, "", 80, "")),
			"UnsupportedProtocol", "FTP"},
		{"unknown instance protocol", "CreateLoadBalancer", join(named("n"), zone, listener(1, "TCP", 21, "UDP", 80, "")),
			"UnsupportedProtocol", "UDP"},
		{"HTTP to TCP", "CreateLoadBalancer", join(named("n"), zone, listener(1, "HTTP", 80, "TCP", 80, "")),
			"InvalidConfigurationRequest", "TCP"},
		{"SSL to HTTP", "CreateLoadBalancer", join(named("n"), zone, listener(1, "SSL", 443, "HTTP", 80, certA)),
			"InvalidConfigurationRequest", "HTTP"},
		{"port 0", "CreateLoadBalancer", join(named("n"), zone, listener(1, "TCP", 0, "", 80, "")),
			"ValidationError", "LoadBalancerPort"},
		{"port 65536", "CreateLoadBalancer", join(named("n"), zone, listener(1, "TCP", 65536, "", 80, "")),
			"ValidationError", "LoadBalancerPort"},
		{"instance port 0", "CreateLoadBalancer", join(named("n"), zone, listener(1, "TCP", 80, "", 0, "")),
			"ValidationError", "nstancePort"},
		{"one port twice", "CreateLoadBalancer", join(named("n"), zone, http80, listener(2, "HTTP", 80, "", 81, "")),
			"DuplicateListener", "80"},
		{"instance port plain and secure", "CreateLoadBalancer",
			join(named("n"), zone, http80, listener(2, "HTTP", 81, "HTTPS", 8080, "")), "InvalidConfigurationRequest", "8080"},

		{"listener for nobody", "CreateLoadBalancerListeners", join(named("nobody"), http80),
			"LoadBalancerNotFound", "nobody"},
		{"listener for a name in other case", "CreateLoadBalancerListeners", join(named("WEB"), http80),
			"LoadBalancerNotFound", "WEB"},
		{"port in use", "CreateLoadBalancerListeners", join(named("web"), listener(1, "TCP", 443, "", 80, "")),
			"DuplicateListener", "443"},
		{"new listener without its certificate", "CreateLoadBalancerListeners",
			join(named("web"), listener(1, "HTTPS", 444, "", 80, certB+"x")), "CertificateNotFound", certB},
		{"delete a listener of nobody", "DeleteLoadBalancerListeners",
			join(named("nobody"), []string{"LoadBalancerPorts.member.1", "80"}), "LoadBalancerNotFound", "nobody"},
		{"certificate for nobody", "SetLoadBalancerListenerSSLCertificate", setCert("nobody", "443", certB),
			"LoadBalancerNotFound", "nobody"},
		{"certificate for no listener", "SetLoadBalancerListenerSSLCertificate", setCert("web", "444", certB),
			"ListenerNotFound", "444"},
		{"certificate that is missing", "SetLoadBalancerListenerSSLCertificate", setCert("web", "443", certB+"x"),
			"CertificateNotFound", certB},
		{"certificate for a bad port", "SetLoadBalancerListenerSSLCertificate", setCert("web", "0", certB),
			"ValidationError", "LoadBalancerPort"},

		{"register with nobody", "RegisterInstancesWithLoadBalancer", join(named("nobody"), instance(mine)),
			"LoadBalancerNotFound", "nobody"},
		{"register what is not there", "RegisterInstancesWithLoadBalancer", join(named("web"), instance("i-0")),
			"InvalidInstance", "i-0"},
		{"register another account's", "RegisterInstancesWithLoadBalancer", join(named("web"), instance(foreign)),
			"InvalidInstance", foreign},
		{"register what ended", "RegisterInstancesWithLoadBalancer",
			join(named("web"), instance(ended)), "InvalidInstance", ended},
		{"register none", "RegisterInstancesWithLoadBalancer", named("web"), "ValidationError", "nstances"},
		{"deregister what is not registered", "DeregisterInstancesFromLoadBalancer", join(named("web"), instance(foreign)),
			"InvalidInstance", foreign},
		{"health of another account's", "DescribeInstanceHealth",
			join(named("web"), instance(foreign)), "InvalidInstance", foreign},

		{"target without a protocol", "ConfigureHealthCheck", check("80/", "5", "2"), "ValidationError", "Target"},
		{"target without a port", "ConfigureHealthCheck", check("TCP:", "5", "2"), "ValidationError", "port"},
		{"target's port too large", "ConfigureHealthCheck", check("TCP:65536", "5", "2"), "ValidationError", "65535"},
		{"HTTP target without a path", "ConfigureHealthCheck", check("HTTP:80", "5", "2"), "ValidationError", "path"},
		{"TCP target with a path", "ConfigureHealthCheck", check("TCP:80/x", "5", "2"), "ValidationError", "alone"},
		{"target with a line break", "ConfigureHealthCheck", check("HTTP:80/\r\nx", "5", "2"), "ValidationError", "path"},
		{"timeout not below interval", "ConfigureHealthCheck", check("TCP:80", "5", "5"), "ValidationError", "timeout"},
		{"interval too small", "ConfigureHealthCheck", check("TCP:80", "4", "2"), "ValidationError", "nterval"},

		{"idle timeout 0", "ModifyLoadBalancerAttributes", join(named("web"),
			[]string{"LoadBalancerAttributes.ConnectionSettings.IdleTimeout", "0"}), "ValidationError", "dleTimeout"},
		{"unknown attribute", "ModifyLoadBalancerAttributes", join(named("web"),
			[]string{"LoadBalancerAttributes.AdditionalAttributes.member.1.Key", "x"}), "LoadBalancerAttributeNotFound", "x"},
		{"access log", "ModifyLoadBalancerAttributes", join(named("web"),
			[]string{"LoadBalancerAttributes.AccessLog.Enabled", "true"}), "InvalidConfigurationRequest", "AccessLog"},
		{"describe nobody", "DescribeLoadBalancers", []string{"LoadBalancerNames.member.1", "nobody"},
			"LoadBalancerNotFound", "nobody"},
		{"marker of nobody", "DescribeLoadBalancers", []string{"Marker", "%%%"}, "ValidationError", "Marker"},
		{"page of 0", "DescribeLoadBalancers", []string{"PageSize", "0"}, "ValidationError", "ageSize"},
		{"tags for nobody", "AddTags", []string{"LoadBalancerNames.member.1", "web", "LoadBalancerNames.member.2", "nobody",
			"Tags.member.1.Key", "k"}, "LoadBalancerNotFound", "nobody"},
	}
	before, err := w.records.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.do(alice, tt.operation, tt.fields...)
			if code(err) != tt.want {
				t.Fatalf("got %v, want code %s", err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.mentions) {
				t.Errorf("message %q does not mention %q", err, tt.mentions)
			}
			after, err := w.records.List(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("records changed (-before +after):\n%s", diff)
			}
		})
	}
	if policies, _ := w.iam.policies("loadbalancer-vm-" + alice + "-web"); len(policies) != 1 {
		t.Errorf("the role has policies %v, want the one of before", policies)
	}
	if len(w.iam.roles) != 1 {
		t.Errorf("%d roles, want 1", len(w.iam.roles))
	}
	if keys, err := w.addresses.Keys(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("addresses %v, %v; want one", keys, err)
	}
	_, err = w.do(bob, "DescribeLoadBalancers", "LoadBalancerNames.member.1", "web")
	if code(err) != "LoadBalancerNotFound" {
		t.Errorf("another account: %v, want LoadBalancerNotFound", err)
	}
	out := must[*elbmodel.DescribeLoadBalancersOutput](w, bob, "DescribeLoadBalancers")
	if len(out.LoadBalancerDescriptions) != 0 {
		t.Errorf("another account sees %v", out.LoadBalancerDescriptions)
	}
}
