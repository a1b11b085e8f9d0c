package soak

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/node"
)

const (
	hostname = "www.example.test"
	lbPort   = 8443
	// retention is short, so that the records of ended instances expire while the spec looks on.
	retention = time.Second
	// settleTimeout bounds the wait for all that ends by itself after the last cycle.
	settleTimeout = 90 * time.Second
)

var _ = DescribeTable("Creating and deleting load balancers leaves nothing behind",
	func(ctx context.Context, guests node.GuestMode, warmUp, cycles int) {
		s := start(ctx, guests)
		s.cycle(ctx, 0, warmUp)
		before := s.settled(ctx)
		AddReportEntry(fmt.Sprintf("after %d cycles", warmUp), before)
		s.cycle(ctx, warmUp, cycles/2)
		half := s.settled(ctx)
		AddReportEntry(fmt.Sprintf("after %d more", cycles/2), half)
		s.cycle(ctx, warmUp+cycles/2, cycles-cycles/2)
		s.settled(ctx)
		var after census
		Eventually(func() (census, error) {
			var err error
			after, err = s.census(ctx)
			return after, err
		}).WithTimeout(settleTimeout).WithPolling(time.Second).Should(And(notGrownSince(before, 1), notGrownSince(half, 0.5)),
			"%d cycles later; before them it was %+v, and after half of them %+v", cycles, before, half)
		AddReportEntry(fmt.Sprintf("after %d more", cycles), after)
	},
	Entry("30 times on simulated guests", node.GuestsSim, 10, 30),
	Entry("1,000 times on simulated guests", Label("slow"), node.GuestsSim, 100, 1000),
	Entry("100 times on forked guests", Label("slow", "vm", twin.NeedsFork), node.GuestsFork, 10, 100),
)

// site is a twin in this process with a certificate.
type site struct {
	machine *local.Twin
	folders []string
	events  <-chan journal.Event
	elb     *elasticloadbalancing.Client
	ca      *pki.Authority
	arn     string
	boot    time.Duration
}

func start(ctx context.Context, guests node.GuestMode) *site {
	GinkgoHelper()
	dir, err := os.MkdirTemp("", "soak")
	Expect(err).NotTo(HaveOccurred())
	// Temporary files are counted: this process's own, and those of all that it starts.
	temporary := filepath.Join(dir, "t")
	Expect(os.Mkdir(temporary, 0o700)).To(Succeed())
	GinkgoT().Setenv("TMPDIR", temporary)
	layout := local.Layout(filepath.Join(dir, "s"))
	images := os.Getenv("CLOUDTWIN_IMAGES")
	if images == "" {
		images = local.DefaultImages()
	}
	machine, err := local.Start(ctx, local.Config{
		Layout: layout, Images: images, Fresh: true, TerminatedRetention: retention,
		Guests: local.Guests{Mode: guests, Templates: filepath.Join(dir, "templates")},
	})
	Expect(err).NotTo(HaveOccurred(), "start the twin")
	DeferCleanup(func() {
		Expect(machine.Close()).To(Succeed())
		Expect(os.RemoveAll(dir)).To(Succeed())
	})
	following, stop := context.WithCancel(context.Background())
	DeferCleanup(stop)
	s := &site{
		machine: machine, folders: []string{dir, layout.Media()}, events: machine.Follow(following),
		boot: twin.BootTimeout(guests),
	}
	keys, err := machine.Credentials(ctx)
	Expect(err).NotTo(HaveOccurred())
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(machine.Endpoint()), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")}
	s.elb = elasticloadbalancing.NewFromConfig(cfg)
	s.ca, err = pki.NewAuthority("soak CA")
	Expect(err).NotTo(HaveOccurred())
	pair, err := s.ca.Server(pki.P256, hostname)
	Expect(err).NotTo(HaveOccurred())
	uploaded, err := iam.NewFromConfig(cfg).UploadServerCertificate(ctx, &iam.UploadServerCertificateInput{
		ServerCertificateName: aws.String(hostname), CertificateBody: aws.String(string(pair.CertPEM)),
		PrivateKey: aws.String(string(pair.KeyPEM)), CertificateChain: aws.String(string(s.ca.PEM))})
	Expect(err).NotTo(HaveOccurred())
	s.arn = aws.ToString(uploaded.ServerCertificateMetadata.Arn)
	return s
}

// cycle creates a load balancer, has it serve a verified handshake, deletes it and waits for its guest's end; so many
// times, with names from number first on.
func (s *site) cycle(ctx context.Context, first, times int) {
	GinkgoHelper()
	for n := first; n < first+times; n++ {
		name := fmt.Sprintf("soak-%d", n)
		out, err := s.elb.CreateLoadBalancer(ctx, &elasticloadbalancing.CreateLoadBalancerInput{
			LoadBalancerName: aws.String(name), AvailabilityZones: []string{"us-east-1a"},
			Listeners: []types.Listener{{Protocol: aws.String("HTTPS"), LoadBalancerPort: lbPort,
				InstanceProtocol: aws.String("HTTP"), InstancePort: aws.Int32(80), SSLCertificateId: aws.String(s.arn)}}})
		Expect(err).NotTo(HaveOccurred(), "create %s", name)
		guest := s.await(name+" serves", func(ev journal.Event) bool {
			return ev.Kind == "guest.milestone" && ev.Attributes["stage"] == agent.StageServing
		}).Subject
		s.handshake(ctx, net.JoinHostPort(aws.ToString(out.DNSName), fmt.Sprint(lbPort)))
		_, err = s.elb.DeleteLoadBalancer(ctx,
			&elasticloadbalancing.DeleteLoadBalancerInput{LoadBalancerName: aws.String(name)})
		Expect(err).NotTo(HaveOccurred(), "delete %s", name)
		s.await(name+"'s guest ends", func(ev journal.Event) bool {
			return ev.Kind == "instance.state" && ev.Subject == guest && ev.Attributes["state"] == "terminated"
		})
	}
}

// await returns the next event that matches; those before it are over.
func (s *site) await(what string, match func(journal.Event) bool) journal.Event {
	GinkgoHelper()
	limit := time.NewTimer(s.boot)
	defer limit.Stop()
	for {
		select {
		case ev, open := <-s.events:
			Expect(open).To(BeTrue(), "the journal ended while waiting: %s", what)
			if match(ev) {
				return ev
			}
		case <-limit.C:
			Fail("waited " + s.boot.String() + ": " + what)
		}
	}
}

// handshake makes one verified handshake.
func (s *site) handshake(ctx context.Context, address string) {
	GinkgoHelper()
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Minute},
		Config: &tls.Config{RootCAs: s.ca.Pool(), ServerName: hostname, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	Expect(err).NotTo(HaveOccurred(), "handshake with %s", address)
	Expect(conn.Close()).To(Succeed())
}

// settled counts when the records of all ended instances have expired.
func (s *site) settled(ctx context.Context) census {
	GinkgoHelper()
	Eventually(func() (int, error) {
		status, err := s.machine.Status(ctx)
		return len(status.Instances), err
	}).WithTimeout(settleTimeout).WithPolling(100*time.Millisecond).Should(BeZero(), "records of instances")
	c, err := s.census(ctx)
	Expect(err).NotTo(HaveOccurred())
	return c
}

func (s *site) census(ctx context.Context) (census, error) { return take(ctx, s.machine, s.folders...) }
