package badinput

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
)

// createBalancer asks for a load balancer with one plain listener.
func createBalancer(name string) call {
	return ask(elbService, "CreateLoadBalancer", "LoadBalancerName", name, "AvailabilityZones.member.1", "us-east-1a",
		"Listeners.member.1.Protocol", "HTTP", "Listeners.member.1.LoadBalancerPort", "80",
		"Listeners.member.1.InstancePort", "80")
}

// secured makes the listener HTTPS with a certificate, or without one when arn is empty.
func secured(c call, arn string) call {
	c = c.with("Listeners.member.1.Protocol", "HTTPS", "Listeners.member.1.LoadBalancerPort", "8443")
	if arn != "" {
		c = c.with("Listeners.member.1.SSLCertificateId", arn)
	}
	return c
}

// onBalancer asks for something about the load balancer that is there.
func onBalancer(action string, pairs ...string) call {
	return ask(elbService, action, append([]string{"LoadBalancerName", aBalancer}, pairs...)...)
}

// addListener asks for one more listener.
func addListener(pairs ...string) call {
	return onBalancer("CreateLoadBalancerListeners", "Listeners.member.1.Protocol", "HTTP",
		"Listeners.member.1.LoadBalancerPort", "8080", "Listeners.member.1.InstancePort", "80").with(pairs...)
}

// setCertificate asks for another certificate on a port.
func setCertificate(port, arn string) call {
	return onBalancer("SetLoadBalancerListenerSSLCertificate", "LoadBalancerPort", port, "SSLCertificateId", arn)
}

const noARN = accountARN + "server-certificate/nowhere"

var _ = Describe("A load balancer", func() {
	DescribeTable(
		"with a bad certificate is refused",
		expectRefused,
		Entry("no ARN on HTTPS", secured(createBalancer("new"), ""), 400, "CertificateNotFound", "SSLCertificateId"),
		Entry("no ARN on SSL", secured(createBalancer("new"), "").with("Listeners.member.1.Protocol", "SSL"), 400,
			"CertificateNotFound", "SSLCertificateId"),
		Entry("ARN of nothing", secured(createBalancer("new"), noARN), 400, "CertificateNotFound", noARN),
		Entry("text that is no ARN", secured(createBalancer("new"), "free"), 400, "CertificateNotFound", "free"),
		Entry("ARN in another account", secured(createBalancer("new"), strings.Replace(freeARN, "123456789012",
			"000000000001", 1)), 400, "CertificateNotFound", "000000000001"),
		Entry("ARN under another path", secured(createBalancer("new"), accountARN+"server-certificate/path/free"), 400,
			"CertificateNotFound", "/path/free"),
		Entry("ARN of a user", secured(createBalancer("new"), accountARN+"user/"+aUser), 400, "CertificateNotFound", "user/"),
		Entry("ARN on HTTP", createBalancer("new").with("Listeners.member.1.SSLCertificateId", freeARN), 409,
			"InvalidConfigurationRequest", "SSLCertificateId"),
		Entry("ARN of nothing on a further listener", secured(addListener(), noARN), 400, "CertificateNotFound", noARN),
		Entry("no ARN on a further listener", secured(addListener(), ""), 400, "CertificateNotFound", "SSLCertificateId"),
		Entry("ARN of nothing set", setCertificate("443", noARN), 400, "CertificateNotFound", noARN),
		Entry("set on a port without listener", setCertificate("444", freeARN), 400, "ListenerNotFound", "444"),
		Entry("set on a plain listener", setCertificate("80", freeARN), 409, "InvalidConfigurationRequest", "80"),
	)

	DescribeTable(
		"with a bad name is refused",
		expectRefused,
		Entry("in use", createBalancer(aBalancer), 400, "DuplicateLoadBalancerName", aBalancer),
		Entry("in use, in another case", createBalancer(strings.ToUpper(aBalancer)), 400, "DuplicateLoadBalancerName",
			aBalancer),
		Entry("empty", createBalancer(""), 400, "ValidationError", "ame"),
		Entry("too long", createBalancer(strings.Repeat("n", 33)), 400, "ValidationError", "name"),
		Entry("underscore", createBalancer("a_b"), 400, "ValidationError", "a_b"),
		Entry("hyphen in front", createBalancer("-a"), 400, "ValidationError", "-a"),
		Entry("slash", createBalancer("a/b"), 400, "ValidationError", "a/b"),
		Entry("not there", ask(elbService, "DescribeLoadBalancers", "LoadBalancerNames.member.1", "nowhere"), 400,
			"LoadBalancerNotFound", "nowhere"),
		Entry("not there, for listeners", addListener("LoadBalancerName", "nowhere"), 400, "LoadBalancerNotFound", "nowhere"),
		Entry("not there, for instances", ask(elbService, "RegisterInstancesWithLoadBalancer", "LoadBalancerName", "nowhere",
			"Instances.member.1.InstanceId", anInstance), 400, "LoadBalancerNotFound", "nowhere"),
	)

	DescribeTable(
		"with a bad listener is refused",
		expectRefused,
		Entry("protocol", createBalancer("new").with("Listeners.member.1.Protocol", "GOPHER"), 400, "UnsupportedProtocol",
			"GOPHER"),
		Entry("protocols of two layers", createBalancer("new").with("Listeners.member.1.InstanceProtocol", "TCP"), 409,
			"InvalidConfigurationRequest", "InstanceProtocol"),
		Entry("port 0", createBalancer("new").with("Listeners.member.1.LoadBalancerPort", "0"), 400, "ValidationError",
			"LoadBalancerPort"),
		Entry("port 65536", addListener("Listeners.member.1.LoadBalancerPort", "65536"), 400, "ValidationError",
			"LoadBalancerPort"),
		Entry("instance port -1", addListener("Listeners.member.1.InstancePort", "-1"), 400, "ValidationError",
			"nstancePort"),
		Entry("port in use", addListener("Listeners.member.1.LoadBalancerPort", "80", "Listeners.member.1.InstancePort",
			"81"), 400, "DuplicateListener", "80"),
		Entry("zone", createBalancer("new").with("AvailabilityZones.member.1", "mars-1a"), 400, "ValidationError", "mars-1a"),
		Entry("health check's target", onBalancer("ConfigureHealthCheck", "HealthCheck.Target", "ICMP:8",
			"HealthCheck.Interval", "30", "HealthCheck.Timeout", "5", "HealthCheck.UnhealthyThreshold", "2",
			"HealthCheck.HealthyThreshold", "2"), 400, "ValidationError", "Target"),
		Entry("health check's interval", onBalancer("ConfigureHealthCheck", "HealthCheck.Target", "TCP:80",
			"HealthCheck.Interval", "1", "HealthCheck.Timeout", "5", "HealthCheck.UnhealthyThreshold", "2",
			"HealthCheck.HealthyThreshold", "2"), 400, "ValidationError", "nterval"),
	)

	DescribeTable(
		"refuses an instance that is gone or never was",
		expectRefused,
		Entry("registered", onBalancer("RegisterInstancesWithLoadBalancer", "Instances.member.1.InstanceId", anInstance),
			400, "InvalidInstance", anInstance),
		Entry("registered, malformed", onBalancer("RegisterInstancesWithLoadBalancer", "Instances.member.1.InstanceId",
			"web-1"), 400, "InvalidInstance", "web-1"),
		Entry("deregistered", onBalancer("DeregisterInstancesFromLoadBalancer", "Instances.member.1.InstanceId", anInstance),
			400, "InvalidInstance", anInstance),
		Entry("asked for its health", onBalancer("DescribeInstanceHealth", "Instances.member.1.InstanceId", anInstance), 400,
			"InvalidInstance", anInstance),
	)
})
