package replay

import (
	"context"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

var _ = Describe("A recording of real guests without a floppy to read", Label(twin.NeedsKernel), Ordered, func() {
	var (
		cloud  *twin.Twin
		file   string
		reason string
	)
	BeforeAll(func(ctx context.Context) {
		cloud = twin.Start()
		file = filepath.Join(GinkgoT().TempDir(), "issue.zip")
		code, _, stderr := cloud.Command(ctx, "fault", "add", "medium.read-error", "--id", "floppy", "--target", "lb:*",
			"sector="+thirdSector)
		Expect(code).To(BeZero(), stderr)
		cert := cloud.Upload(pki.P256, host)
		cloud.CreateLoadBalancer(nil, twin.HTTPS(securePort, cert.ARN))
		Eventually(givenUp).WithArguments(cloud).WithTimeout(cloud.BootTimeout()).ShouldNot(BeEmpty())
		var err error
		reason, err = givenUp(cloud)
		Expect(err).NotTo(HaveOccurred())
		_, err = cloud.Bundle(ctx, file)
		Expect(err).NotTo(HaveOccurred())
	})
	BeforeEach(func() { cloud.Allow("bad medium: ") })
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("tells the reason, and comes out the same on simulated guests", func(ctx context.Context) {
		r := run(ctx, "inspect", file)
		Expect(r.Stdout).To(ContainSubstring(reason), r.Stderr)
		got := play(ctx, 0, file)
		Expect(got.Replayed.Guests).To(Equal(string(node.GuestsSim)))
		Expect(got.Replayed.Faults).To(Equal(1))
	})

	It("comes out the same on guests of its own kind", Label(twin.Slow), func(ctx context.Context) {
		Expect(playOn(ctx, cloud.Mode, 0, file).Replayed.Faults).To(Equal(1))
	})

	It("comes out the same on guests that boot", Label(twin.Slow, twin.NeedsFork), func(ctx context.Context) {
		Expect(playOn(ctx, node.GuestsCold, 0, file).Replayed.Guests).To(Equal(string(node.GuestsCold)))
	})

	It("leaves the recording at the failure, on guests of its own kind, once the fault is cleared", Label(twin.Slow),
		func(ctx context.Context) {
			got := playOn(ctx, cloud.Mode, 1, "--no-faults", "--patience", "20s", file)
			Expect(got.FirstDifference).NotTo(BeNil())
			Expect(got.FirstDifference.Recorded).To(HaveField("Text", HavePrefix(failedStage)))
			Expect(got.FirstDifference.Replayed).To(HaveField("Text", HavePrefix("medium-read")))
		})
})

var _ = Describe("A recording of real guests that serve", Label(twin.NeedsKernel, twin.Slow), Ordered, func() {
	var (
		cloud *twin.Twin
		file  string
	)
	BeforeAll(func(ctx context.Context) {
		cloud = twin.Start()
		file = filepath.Join(GinkgoT().TempDir(), "bundle.zip")
		backend := startBackend(ctx, cloud)
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer([]string{backend}, twin.HTTPS(securePort, cert.ARN))
		Eventually(lb.Listener(securePort, cert.CA, host)).WithTimeout(cloud.BootTimeout()).
			Should(twin.PresentCertificate(cert))
		Eventually(toldServing).WithArguments(cloud, securePort).WithTimeout(twin.ChangeTimeout).Should(BeTrue())
		_, err := cloud.Bundle(ctx, file)
		Expect(err).NotTo(HaveOccurred())
	})
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	DescribeTable("comes out the same", func(ctx context.Context, guests node.GuestMode) {
		got := playOn(ctx, guests, 0, file)
		Expect(got.NotPlayed).To(BeEmpty())
		Expect(got.Replayed.Calls).To(Equal(got.Recorded.Calls))
	},
		Entry("on simulated guests", node.GuestsSim),
		Entry("on copies of a template", node.GuestsFork),
		Entry("on guests that boot", node.GuestsCold),
	)
})

// givenUp is why a guest gave up; empty while none has.
func givenUp(cloud *twin.Twin) (reason string, err error) {
	events, err := cloud.Events()
	for _, ev := range events {
		if ev.Kind == "guest.milestone" && ev.Attributes["stage"] == failedStage {
			reason = ev.Attributes["reason"]
		}
	}
	return reason, err
}
