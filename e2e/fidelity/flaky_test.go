package fidelity

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/sim"
)

// lifecycle is where guests fail in every way, one in four.
const lifecycle = "../../fixtures/guests/flaky.json"

// seed decides how they fail. With this one several of the first twenty do.
const seed = 7

// startFlaky starts a cloud and a node with such guests in this process.
func startFlaky(ctx context.Context, seed uint64) *cloud.Cloud {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	flaky, err := sim.LoadLifecycle(lifecycle)
	Expect(err).NotTo(HaveOccurred())
	images := filepath.Join(dir, "images")
	Expect(sim.WriteImages(images)).To(Succeed())
	c, err := cloud.Start(ctx, cloud.Config{Dir: filepath.Join(dir, "cloud"), Journal: filepath.Join(dir, "journal.jsonl"),
		Images: []ec2.ImageInfo{{Name: sim.LBVM}, {Name: sim.Web, Public: true}}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(c.Close)
	token, err := c.NewNodeToken(ctx)
	Expect(err).NotTo(HaveOccurred())
	driver, err := sim.New(sim.Config{Dir: filepath.Join(dir, "machines"), Lifecycle: flaky, Seed: seed})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(driver.Close)
	n, err := node.Start(ctx, node.Config{ID: "flaky", Dir: filepath.Join(dir, "node"), CloudAddress: c.NodeLink(),
		Token: token, Images: images, Driver: driver, Guests: node.GuestsSim})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(n.Close)
	return c
}

var _ = Describe("Guests that fail", func() {
	It("are replaced until every load balancer serves", func(ctx context.Context) {
		c := startFlaky(ctx, seed)
		keys, err := c.Credentials(ctx)
		Expect(err).NotTo(HaveOccurred())
		client := elasticloadbalancing.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(c.Endpoint()),
			Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")})
		const balancers = 20
		for i := range balancers {
			_, err := client.CreateLoadBalancer(ctx, &elasticloadbalancing.CreateLoadBalancerInput{
				LoadBalancerName: aws.String(fmt.Sprintf("lb-%d", i)), Listeners: []types.Listener{twin.HTTP(plain)},
				AvailabilityZones: []string{"us-east-1a"}})
			Expect(err).NotTo(HaveOccurred())
		}
		var status operator.Status
		Eventually(func(g Gomega) {
			status, err = c.Status(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(serving(status)).To(Equal(balancers))
		}).WithTimeout(twin.BootTimeout(node.GuestsCold)).Should(Succeed(), "every load balancer serves")
		var failed []string
		for _, i := range status.Instances {
			if i.State == "terminated" || i.State == "failed" {
				failed = append(failed, i.Reason)
			}
		}
		Expect(len(status.Instances)).To(Equal(balancers+len(failed)), "as many guests more as failed")
		Expect(failed).NotTo(BeEmpty(), "some guests failed: one in four does")
		Expect(failed).To(HaveEach(Or(ContainSubstring("Kernel panic"), ContainSubstring("no sign of life"),
			ContainSubstring("powered off"), ContainSubstring("Out of memory"), ContainSubstring("BUG: "))))
	})
})

// serving counts the load balancers whose guest serves.
func serving(status operator.Status) int {
	stages := map[string]string{}
	for _, i := range status.Instances {
		stages[i.ID] = i.Stage
	}
	n := 0
	for _, lb := range status.LoadBalancers {
		if len(lb.Instances) == 1 && stages[lb.Instances[0]] == "serving" {
			n++
		}
	}
	return n
}
