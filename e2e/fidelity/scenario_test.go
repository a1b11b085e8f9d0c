package fidelity

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

const (
	host              = "www.example.test"
	securePort, plain = 8443, 8080
)

// run starts a twin with guests of a kind, has a load balancer live its life, and returns what the guests said.
func run(ctx context.Context, mode node.GuestMode) transcript {
	GinkgoHelper()
	cloud := twin.Start(twin.Guests(mode))
	running = cloud
	r := &recording{twin: cloud, roles: map[string]string{}}
	r.begin("backend")
	backend := cloud.Backends(1)
	r.roles[backend[0]] = "web"
	Eventually(cloud.Stage).WithContext(ctx).WithArguments(backend[0]).WithTimeout(cloud.BootTimeout()).
		Should(Equal("serving"))
	// It asks who may log in while it serves already.
	Eventually(asked).WithArguments(cloud, backend[0], "/public-keys/").WithTimeout(twin.ChangeTimeout).Should(BeTrue())

	r.begin("create")
	first, second := cloud.Upload(pki.P256, host), cloud.Upload(pki.P256, host)
	lb := cloud.CreateLoadBalancer(backend, twin.HTTPS(securePort, first.ARN), twin.HTTP(plain))
	r.names = strings.NewReplacer(first.ARN, "first", second.ARN, "second", backend[0], "web")
	client := lb.Listener(securePort, first.CA, host)
	Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
	Eventually(lb.Plain(plain)).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())
	guest := lb.Machine().ID
	r.roles[guest] = "lbvm"
	Expect(startedAs(cloud, guest)).To(BeElementOf(waysOf(mode)), "how the guest was started")
	// What a client sees, the guest tells a moment later: the next phase waits for its word.
	Eventually(timesServing).WithArguments(cloud, guest, securePort).WithTimeout(twin.ChangeTimeout).Should(Equal(1))
	Eventually(timesServing).WithArguments(cloud, guest, plain).WithTimeout(twin.ChangeTimeout).Should(Equal(1))

	r.begin("change")
	lb.SetCertificate(securePort, second.ARN)
	Eventually(lb.Listener(securePort, second.CA, host)).WithTimeout(twin.ChangeTimeout).
		Should(twin.PresentCertificate(second))
	Eventually(timesServing).WithArguments(cloud, guest, securePort).WithTimeout(twin.ChangeTimeout).Should(Equal(2))

	r.begin("delete")
	lb.DeleteListener(plain)
	Eventually(cloud.Stage).WithContext(ctx).WithArguments(guest).WithTimeout(twin.ChangeTimeout).
		Should(Equal("listener-closed"))
	r.begin(afterEnd)
	_, err := cloud.ELB.DeleteLoadBalancer(ctx,
		&elasticloadbalancing.DeleteLoadBalancerInput{LoadBalancerName: aws.String(lb.Name)})
	Expect(err).NotTo(HaveOccurred())
	// What the API shows, the record tells a moment later.
	Eventually(ended).WithArguments(cloud, guest).WithTimeout(twin.ChangeTimeout).Should(BeTrue(), "the guest's end")
	return r.transcripts()
}

// startedAs is what the node says of an instance's start.
func startedAs(cloud *twin.Twin, id string) (string, error) {
	starts, err := cloud.Milestones(id, "machine-started")
	if err != nil || len(starts) == 0 {
		return "", err
	}
	return starts[0].Attributes["guests"], nil
}

// timesServing is how often an LBVM has said that it serves on a port.
func timesServing(cloud *twin.Twin, id string, port int) (n int, err error) {
	served, err := cloud.Milestones(id, "serving")
	for _, ev := range served {
		if ev.Attributes["listener"] == strconv.Itoa(port) {
			n++
		}
	}
	return n, err
}

// asked says whether the record tells that a guest asked its metadata service for a part.
func asked(cloud *twin.Twin, id, part string) (bool, error) {
	requests, err := cloud.EventsOf("metadata.request", id)
	return slices.ContainsFunc(requests, func(ev journal.Event) bool {
		return strings.HasSuffix(ev.Attributes["path"], part)
	}), err
}

// ended says whether the record tells of an instance's end.
func ended(cloud *twin.Twin, id string) (bool, error) {
	states, err := cloud.EventsOf("instance.state", id)
	return slices.ContainsFunc(states, func(ev journal.Event) bool { return ev.Attributes["state"] == "terminated" }), err
}

// waysOf are the words for starts that are a mode's own.
func waysOf(mode node.GuestMode) []string {
	if mode == node.GuestsFork {
		return []string{"fork", "pooled"}
	}
	return []string{string(mode)}
}

var _ = Describe("Guests of every kind", Ordered, func() {
	var simulated transcript

	It("speak the protocol when they are simulated", func(ctx context.Context) {
		simulated = run(ctx, node.GuestsSim)
		AddReportEntry("transcript", simulated.String(), ReportEntryVisibilityFailureOrVerbose)
		Expect(simulated["backend / web / "+trackMetadata]).To(HaveExactElements(
			"PUT /latest/api/token 200", "GET /latest/meta-data/instance-id 200", "GET /latest/user-data 200",
			"GET /latest/meta-data/public-keys/ 404"))
		Expect(simulated["create / lbvm / "+trackAPI]).To(HaveExactElements(
			"elasticloadbalancing:DescribeLoadBalancersByServo 200", "iam:DownloadServerCertificate 200"))
		Expect(simulated[wholeLife+" / lbvm / "+trackHealth]).To(HaveExactElements("elasticloadbalancing:PutServoStates 200"))
		for _, phase := range []string{"create", "change"} {
			Expect(simulated[phase+" / lbvm / "+trackKey]).To(HaveExactElements("delivery.granted", "key-received", "serving"))
		}
		Expect(simulated["create / lbvm / "+trackDeliveries]).To(HaveExactElements("delivery.granted first "))
		Expect(simulated["change / lbvm / "+trackDeliveries]).To(HaveExactElements("delivery.granted second "))
		Expect(simulated["delete / lbvm / listener 8080"]).To(HaveExactElements("listener-closed  "))
	})

	DescribeTable("say the same as simulated ones", Label("vm", twin.NeedsKernel),
		func(ctx context.Context, mode node.GuestMode) {
			real := run(ctx, mode)
			AddReportEntry("transcript", real.String(), ReportEntryVisibilityFailureOrVerbose)
			Expect(cmp.Diff(simulated, real)).To(BeEmpty(), "simulated (-) and real (+) guests differ")
		},
		Entry("when they are forked", node.GuestsFork),
		Entry("when they boot cold", node.GuestsCold),
	)
})
