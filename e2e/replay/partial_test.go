package replay

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

// bundleOf writes a bundle into the spec's folder and returns its path.
func bundleOf(ctx context.Context, cloud *twin.Twin, args ...string) string {
	GinkgoHelper()
	file := filepath.Join(GinkgoT().TempDir(), "part.zip")
	code, _, stderr := cloud.Command(ctx, append([]string{"bundle", "-o", file}, args...)...)
	Expect(code).To(BeZero(), stderr)
	return file
}

// serve waits until a load balancer presents a certificate.
func serve(lb *twin.LoadBalancer, cert *twin.Certificate) {
	GinkgoHelper()
	Eventually(lb.Listener(securePort, cert.CA, host)).WithTimeout(twin.BootTimeout(node.GuestsSim)).
		Should(twin.PresentCertificate(cert))
}

var _ = Describe("A part of a recording", Label(twin.NeedsSim), Ordered, func() {
	var (
		cloud  *twin.Twin
		lb     *twin.LoadBalancer
		middle time.Time
	)
	BeforeAll(func(ctx context.Context) {
		cloud = twin.Start(twin.Guests(node.GuestsSim), twin.Store(twin.StartRecords().URL))
		backend := startBackend(ctx, cloud)
		cert, other := cloud.Upload(pki.P256, host), cloud.Upload(pki.P384, host)
		lb = cloud.CreateLoadBalancer([]string{backend}, twin.HTTPS(securePort, cert.ARN))
		serve(lb, cert)
		name := aws.String("bob")
		_, err := cloud.IAM.CreateUser(ctx, &iam.CreateUserInput{UserName: name})
		Expect(err).NotTo(HaveOccurred())
		made, err := cloud.IAM.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: name})
		Expect(err).NotTo(HaveOccurred())

		middle = time.Now()
		own := iam.NewFromConfig(cloud.As(aws.ToString(made.AccessKey.AccessKeyId),
			aws.ToString(made.AccessKey.SecretAccessKey), ""))
		_, err = own.ListUsers(ctx, &iam.ListUsersInput{})
		Expect(err).To(MatchError(ContainSubstring("AccessDenied")))
		lb.SetCertificate(securePort, other.ARN)
		Eventually(lb.Listener(securePort, other.CA, host)).WithTimeout(twin.ChangeTimeout).
			Should(twin.PresentCertificate(other))
		second := cloud.CreateLoadBalancer([]string{backend}, twin.HTTPS(securePort, cert.ARN))
		serve(second, cert)
		cloud.Terminate(backend)
		_, err = cloud.ELB.DeleteLoadBalancer(ctx,
			&elasticloadbalancing.DeleteLoadBalancerInput{LoadBalancerName: aws.String(second.Name)})
		Expect(err).NotTo(HaveOccurred())
		_, err = cloud.IAM.DeleteUser(ctx, &iam.DeleteUserInput{UserName: name})
		Expect(err).To(MatchError(ContainSubstring("DeleteConflict")))
	})
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("since a time is played on what was there then", func(ctx context.Context) {
		got := play(ctx, 0, bundleOf(ctx, cloud, "--since", middle.UTC().Format(time.RFC3339Nano)))
		Expect(got.NotPlayed).To(BeEmpty())
		Expect(got.Replayed.Calls).To(And(Equal(got.Recorded.Calls), BeNumerically(">=", 6)))
		Expect(got.Tracks).To(BeNumerically(">", 5))
	})

	It("of a load balancer is played with what it is made of", func(ctx context.Context) {
		got := play(ctx, 0, bundleOf(ctx, cloud, "--lb", lb.Name))
		Expect(got.NotPlayed).To(BeEmpty())
		Expect(got.Replayed.Calls).To(And(Equal(got.Recorded.Calls), BeNumerically(">=", 2)))
	})

	It("of a guest is played with its load balancer", func(ctx context.Context) {
		status, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		got := play(ctx, 0, bundleOf(ctx, cloud, "--vm", status.Instances[0]))
		Expect(got.NotPlayed).To(BeEmpty())
		Expect(got.Tracks).To(BeNumerically(">", 3))
	})
})

var _ = Describe("A part of a recording of a fault", Label(twin.NeedsSim), Ordered, func() {
	var (
		cloud *twin.Twin
		file  string
	)
	BeforeAll(func(ctx context.Context) {
		cloud = twin.Start(twin.Guests(node.GuestsSim))
		cert := cloud.Upload(pki.P256, host)
		code, _, stderr := cloud.Command(ctx, "fault", "add", "medium.read-error", "--id", "floppy", "--target", "lb:*",
			"sector="+thirdSector)
		Expect(code).To(BeZero(), stderr)
		begun := time.Now()
		cloud.CreateLoadBalancer(nil, twin.HTTPS(securePort, cert.ARN))
		Eventually(givenUp).WithArguments(cloud).WithTimeout(cloud.BootTimeout()).ShouldNot(BeEmpty(), "a guest gives up")
		file = bundleOf(ctx, cloud, "--since", begun.UTC().Format(time.RFC3339Nano))
	})
	BeforeEach(func() { cloud.Allow("bad medium: ") })
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("has the fault that began before it", func(ctx context.Context) {
		play(ctx, 0, file)
	})
})

// By night: on a busy machine the cloud can hear of a replacement's start before it has told of its launch when it is
// killed between the two, and the order of a VM's states then differs.
var _ = Describe("A recording in which processes were killed", Label(twin.NeedsSim, "slow"), Ordered, func() {
	var cloud *twin.Twin
	BeforeAll(func(ctx context.Context) {
		cloud = twin.Start(twin.Guests(node.GuestsSim), twin.CloudFlags("--node-api", freeAddress()))
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(securePort, cert.ARN))
		serve(lb, cert)
		// What a client sees, the record tells a moment later; what the cloud does not hear before it is killed, it hears
		// after, and so it would be played.
		Eventually(toldServing).WithArguments(cloud, securePort).WithTimeout(twin.ChangeTimeout).Should(BeTrue())
		cloud.KillCloud()
		cloud.RestartCloud()
		_, err := cloud.ELB.CreateLoadBalancerListeners(ctx, &elasticloadbalancing.CreateLoadBalancerListenersInput{
			LoadBalancerName: aws.String(lb.Name), Listeners: []types.Listener{twin.HTTPS(securePort+1, cert.ARN)}})
		Expect(err).NotTo(HaveOccurred())
		Eventually(lb.Listener(securePort+1, cert.CA, host)).WithTimeout(twin.BootTimeout(node.GuestsSim)).
			Should(twin.PresentCertificate(cert))
		Eventually(toldServing).WithArguments(cloud, securePort+1).WithTimeout(twin.ChangeTimeout).Should(BeTrue())
		cloud.KillNode()
		cloud.StartNode()
		serve(lb, cert)
	})
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("is played with its cloud and its node killed in the same places", func(ctx context.Context) {
		got := play(ctx, 0, bundleOf(ctx, cloud))
		Expect(got.NotPlayed).To(BeEmpty())
		Expect(got.Replayed.Calls).To(Equal(got.Recorded.Calls))
	})
})

// toldServing says whether the record tells that a guest serves on a port.
func toldServing(cloud *twin.Twin, port int) (bool, error) {
	events, err := cloud.Events()
	return slices.ContainsFunc(events, func(ev journal.Event) bool {
		return ev.Kind == "guest.milestone" && ev.Attributes["stage"] == "serving" &&
			ev.Attributes["listener"] == strconv.Itoa(port)
	}), err
}

// freeAddress is one that nobody listens at.
func freeAddress() string {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
