package identity

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// The shortest that an LBCERT can live, and when of it the specs below want their second guest.
const (
	life    = 30 * time.Second
	stagger = 8 * time.Second
)

var _ = Describe("An identity of half a minute", Label("vm", "slow"), Ordered, func() {
	var own *twin.Twin
	var web []string

	BeforeAll(func() {
		own = twin.Start(twin.CloudFlags("--lbcert-life", life.String(), "--replicas", "2"))
		web = own.Backends(1)
	})

	It("is renewed again and again under a connection", func(ctx context.Context) {
		cert := own.Upload(pki.P256, host)
		lb := own.CreateLoadBalancer(web, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(own.BootTimeout()).Should(twin.BeServing())
		before, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		connection := hold(ctx, client, cert.CA)
		for _, vm := range before.Instances {
			Eventually(identityOf(ctx, own, vm)).WithTimeout(3 * life).Should(HaveField("Renewals", BeNumerically(">=", 2)))
		}
		connection.expectUnbroken()
		Expect(lb.Status(ctx)).To(HaveField("Instances", before.Instances))
	})

	It("that nothing renews ends its guest; a sibling carries on, and another guest comes", func(ctx context.Context) {
		cert := own.Upload(pki.P256, host)
		lb := own.CreateLoadBalancer(web, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(own.BootTimeout()).Should(twin.BeServing())
		status, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		doomed := status.Instances[0]
		begin := time.Now()

		By("having a sibling whose identity ends later")
		Eventually(func() time.Duration { return time.Since(begin) }).WithTimeout(life).Should(BeNumerically(">", stagger))
		run(ctx, own, "lbvm", "revoke", status.Instances[1])
		var sibling string
		Eventually(func(g Gomega) {
			status, err := lb.Status(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(status.Instances).To(HaveLen(2))
			g.Expect(status.Instances[0]).To(Equal(doomed))
			sibling = status.Instances[1]
			g.Expect(own.Stage(ctx, sibling)).To(Equal("serving"))
		}).WithTimeout(life).Should(Succeed())
		guest, err := own.Instance(ctx, doomed)
		Expect(err).NotTo(HaveOccurred())
		connection := hold(ctx, client, cert.CA)
		// The guest's end is shown by the guest alone: a cloud that sleeps renews nothing and ends nothing.
		resume := own.PauseCloud()

		By("serving until the identity ends, and then no more")
		Eventually(twin.ReadConsole).WithArguments(guest.ConsolePath).WithTimeout(2 * life).
			Should(ContainSubstring(`"stage":"power-off"`))
		Expect(time.Now()).To(BeTemporally(">=", guest.Identity.NotAfter))
		console, err := twin.ReadConsole(guest.ConsolePath)
		Expect(err).NotTo(HaveOccurred())
		Expect(twin.Stages(console, "failed")).To(ConsistOf(HaveKeyWithValue("reason", "identity expired")))
		Eventually(connection.ended).WithTimeout(twin.ChangeTimeout).Should(BeClosed(), "the connection's end")
		Expect(connection.bad).To(HaveOccurred())
		resume()

		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())
		happened(own, "ec2.identity_expired", doomed)
		Eventually(own.Instance).WithContext(ctx).WithArguments(doomed).WithTimeout(twin.ChangeTimeout).
			Should(And(HaveField("State", "terminated"), HaveField("Reason", HavePrefix("identity expired"))))
		Eventually(func(g Gomega) {
			status, err := lb.Status(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(status.Instances).To(And(HaveLen(2), HaveExactElements(sibling, Not(Equal(doomed)))))
		}).WithTimeout(own.BootTimeout()).Should(Succeed())
	})
})
