package twin

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// LoadBalancer is a load balancer of a spec.
type LoadBalancer struct {
	Name string
	twin *Twin
}

// HTTPS describes an HTTPS listener that passes requests to port 80 of the backends.
func HTTPS(port int32, arn string) types.Listener {
	return listener("HTTPS", port, "HTTP", 80, arn)
}

// SSL describes an SSL listener that passes bytes to port 80 of the backends.
func SSL(port int32, arn string) types.Listener {
	return listener("SSL", port, "TCP", 80, arn)
}

// HTTP describes a plain listener.
func HTTP(port int32) types.Listener { return listener("HTTP", port, "HTTP", 80, "") }

// TCP describes a plain byte listener.
func TCP(port int32) types.Listener { return listener("TCP", port, "TCP", 80, "") }

func listener(protocol string, port int32, to string, toPort int32, arn string) types.Listener {
	l := types.Listener{Protocol: aws.String(protocol), LoadBalancerPort: port, InstanceProtocol: aws.String(to),
		InstancePort: aws.Int32(toPort)}
	if arn != "" {
		l.SSLCertificateId = aws.String(arn)
	}
	return l
}

// CreateLoadBalancer makes a load balancer over backends, with health checks every few seconds, and deletes it
// after the spec.
func (t *Twin) CreateLoadBalancer(backends []string, listeners ...types.Listener) *LoadBalancer {
	ginkgo.GinkgoHelper()
	ctx, name := context.Background(), t.name("lb")
	_, err := t.ELB.CreateLoadBalancer(ctx, &elasticloadbalancing.CreateLoadBalancerInput{
		LoadBalancerName: aws.String(name), Listeners: listeners, AvailabilityZones: []string{"us-east-1a"}})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "create load balancer %s", name)
	t.cleanup(func() {
		t.searchGuests()
		_, err := t.ELB.DeleteLoadBalancer(context.Background(),
			&elasticloadbalancing.DeleteLoadBalancerInput{LoadBalancerName: aws.String(name)})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
	})
	lb := &LoadBalancer{Name: name, twin: t}
	lb.CheckHealth("HTTP:80/health")
	var instances []types.Instance
	for _, id := range backends {
		instances = append(instances, types.Instance{InstanceId: aws.String(id)})
	}
	if len(instances) > 0 {
		_, err = t.ELB.RegisterInstancesWithLoadBalancer(ctx, &elasticloadbalancing.RegisterInstancesWithLoadBalancerInput{
			LoadBalancerName: aws.String(name), Instances: instances})
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), "register backends with %s", name)
	}
	return lb
}

// deleteLoadBalancersNaming deletes the load balancers with a listener that names a certificate, which keep it from
// being deleted. Deleting one again, after its own spec, is no error.
func (t *Twin) deleteLoadBalancersNaming(arn string) {
	ginkgo.GinkgoHelper()
	status, err := t.Operator.Status(context.Background())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	for _, lb := range status.LoadBalancers {
		if slices.ContainsFunc(lb.Listeners, func(l operator.Listener) bool { return l.Certificate == arn }) {
			_, err := t.ELB.DeleteLoadBalancer(context.Background(),
				&elasticloadbalancing.DeleteLoadBalancerInput{LoadBalancerName: aws.String(lb.Name)})
			gomega.Expect(err).NotTo(gomega.HaveOccurred())
		}
	}
}

// CheckHealth has backends checked against target every few seconds.
func (lb *LoadBalancer) CheckHealth(target string) {
	ginkgo.GinkgoHelper()
	_, err := lb.twin.ELB.ConfigureHealthCheck(context.Background(), &elasticloadbalancing.ConfigureHealthCheckInput{
		LoadBalancerName: aws.String(lb.Name),
		HealthCheck: &types.HealthCheck{Target: aws.String(target), Interval: aws.Int32(5),
			Timeout: aws.Int32(2), HealthyThreshold: aws.Int32(2), UnhealthyThreshold: aws.Int32(2)}})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "configure the health check of %s", lb.Name)
}

// DeleteListener removes a listener.
func (lb *LoadBalancer) DeleteListener(port int32) {
	ginkgo.GinkgoHelper()
	_, err := lb.twin.ELB.DeleteLoadBalancerListeners(context.Background(),
		&elasticloadbalancing.DeleteLoadBalancerListenersInput{LoadBalancerName: aws.String(lb.Name),
			LoadBalancerPorts: []int32{port}})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "delete listener %s:%d", lb.Name, port)
}

// SetCertificate makes a listener name another certificate.
func (lb *LoadBalancer) SetCertificate(port int32, arn string) {
	ginkgo.GinkgoHelper()
	_, err := lb.twin.ELB.SetLoadBalancerListenerSSLCertificate(context.Background(),
		&elasticloadbalancing.SetLoadBalancerListenerSSLCertificateInput{LoadBalancerName: aws.String(lb.Name),
			LoadBalancerPort: port, SSLCertificateId: aws.String(arn)})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "set the certificate of %s:%d", lb.Name, port)
}

// Status returns what the cloud says of the load balancer.
func (lb *LoadBalancer) Status(ctx context.Context) (operator.LoadBalancer, error) {
	status, err := lb.twin.Operator.Status(ctx)
	if err != nil {
		return operator.LoadBalancer{}, err
	}
	at := slices.IndexFunc(status.LoadBalancers, func(o operator.LoadBalancer) bool { return o.Name == lb.Name })
	if at < 0 {
		return operator.LoadBalancer{Name: lb.Name}, nil
	}
	return status.LoadBalancers[at], nil
}

// Machine is the load balancer's one VM. It waits until there is one and no more: one that is replaced leaves before.
func (lb *LoadBalancer) Machine() *Machine {
	ginkgo.GinkgoHelper()
	var id string
	gomega.Eventually(func(g gomega.Gomega) {
		status, err := lb.Status(context.Background())
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(status.Instances).To(gomega.HaveLen(1))
		id = status.Instances[0]
	}).WithTimeout(ChangeTimeout).WithPolling(pollInterval).Should(gomega.Succeed(), "the VM of %s", lb.Name)
	return lb.twin.Machine(id)
}

// Health returns the state of each backend as DescribeInstanceHealth tells it.
func (lb *LoadBalancer) Health(ctx context.Context) (map[string]string, error) {
	out, err := lb.twin.ELB.DescribeInstanceHealth(ctx,
		&elasticloadbalancing.DescribeInstanceHealthInput{LoadBalancerName: aws.String(lb.Name)})
	if err != nil {
		return nil, err
	}
	states := map[string]string{}
	for _, s := range out.InstanceStates {
		states[aws.ToString(s.InstanceId)] = aws.ToString(s.State)
	}
	return states, nil
}
