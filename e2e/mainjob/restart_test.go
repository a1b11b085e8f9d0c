package mainjob

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("A node", Label("vm"), Serial, func() {
	const host = "www.example.test"

	It("finds its guests when its process was killed", Label(twin.NeedsKernel, "few"), func(ctx context.Context) {
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		before, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())

		cloud.KillNode()
		Expect(client).NotTo(twin.BeServing())
		cloud.StartNode()
		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())
		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.PresentCertificate(cert))

		after, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(after.Instances).To(Equal(before.Instances), "the same guests as before")
		console, err := cloud.Console(ctx, before.Instances[0])
		Expect(err).NotTo(HaveOccurred())
		Expect(twin.Stages(console, "medium-read")).To(HaveLen(1), "lives of the guest")
	})

	It("removes the guests that ended while it was away", Label(twin.NeedsKernel), func(ctx context.Context) {
		doomed := cloud.Backends(1)[0]
		Eventually(cloud.Stage).WithContext(ctx).WithArguments(doomed).WithTimeout(cloud.BootTimeout()).
			Should(Equal("serving"))
		cloud.KillNode()
		cloud.Terminate(doomed)
		cloud.StartNode()
		Eventually(
			cloud.State,
		).WithContext(ctx).
			WithArguments(doomed).
			WithTimeout(twin.ChangeTimeout).
			Should(Equal("terminated"))
		Expect(cloud.GuestProcesses(doomed)).To(BeEmpty())
	})

	It("takes simulated guests with it, which are replaced", Label(twin.NeedsSim), func(ctx context.Context) {
		own := twin.Start() // the suite's backends would end too
		cert := own.Upload(pki.P256, host)
		lb := own.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(own.BootTimeout()).Should(twin.PresentCertificate(cert))
		before, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())

		own.KillNode()
		Expect(client).NotTo(twin.PresentCertificate(cert))
		own.StartNode()
		Eventually(client).WithTimeout(own.BootTimeout()).Should(twin.PresentCertificate(cert))
		after, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(after.Instances).NotTo(ContainElements(before.Instances))
		Eventually(own.State).WithContext(ctx).WithArguments(before.Instances[0]).WithTimeout(twin.ChangeTimeout).
			Should(Equal("terminated"))
	})
})
