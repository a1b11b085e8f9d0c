package identity

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("An identity", Label("vm"), func() {
	It("is renewed in the running guest, without a dropped connection", func(ctx context.Context) {
		before, after := cloud.Upload(pki.P256, host), cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, before.ARN))
		client := lb.Listener(8443, before.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		vm := lb.Machine().ID
		first, err := deliveredTo(cloud, vm, before.ARN)()
		Expect(err).NotTo(HaveOccurred())
		connection := hold(ctx, client, before.CA, after.CA)

		Expect(run(ctx, cloud, "lbvm", "renew", vm)).To(ContainSubstring(vm))
		renewed := happened(cloud, "ec2.identity_renewed", vm)
		Expect(renewed.Attributes).To(HaveKeyWithValue("replaced", first))
		instance, err := cloud.Instance(ctx, vm)
		Expect(err).NotTo(HaveOccurred())
		Expect(instance.Identity).To(And(HaveField("Serial", renewed.Attributes["serial"]),
			HaveField("Renewals", 1), HaveField("Renewing", false)))
		Expect(client).To(twin.PresentCertificate(before), "what was served before is served on")

		By("fetching the next key with the new identity")
		lb.SetCertificate(8443, after.ARN)
		Eventually(lb.Listener(8443, after.CA, host)).WithTimeout(twin.ChangeTimeout).Should(twin.PresentCertificate(after))
		Expect(deliveredTo(cloud, vm, after.ARN)()).To(And(Equal(renewed.Attributes["serial"]), Not(Equal(first))))
		connection.expectUnbroken()
		Expect(lb.Machine().ID).To(Equal(vm), "the same guest")

		By("reading two media, and leaving none")
		console, err := cloud.Console(ctx, vm)
		Expect(err).NotTo(HaveOccurred())
		Expect(twin.Stages(console, "medium-read")).To(HaveLen(2))
		Expect(twin.Stages(console, "medium-refused")).To(BeEmpty())
	})

	It("of before is refused once the guest has read the new one, and not earlier", Serial, func(context.Context) {
		impostor, cert := cloud.Impostor(), cloud.Upload(pki.P256, host)
		old := impostor.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN)))
		impostor.SayRead(old)
		Expect(old.Download(cert.ARN).Key).NotTo(BeNil())
		run(context.Background(), cloud, "lbvm", "renew", old.InstanceID)
		renewed := impostor.Renewed(old)

		By("taking either while nobody knows which of them the guest has")
		Expect(old.Download(cert.ARN).Key).NotTo(BeNil())
		Expect(renewed.Download(cert.ARN).Key).NotTo(BeNil())

		impostor.SayRead(renewed)
		happened(cloud, "ec2.identity_renewed", old.InstanceID)
		attempt := old.Download(cert.ARN)
		Expect(attempt).To(twin.BeDeniedBecause(keydelivery.ReasonRevoked))
		Expect(attempt.Detail).To(And(ContainSubstring("serial "+old.Serial()),
			ContainSubstring("that has serial "+renewed.Serial())))
		Expect(renewed.Download(cert.ARN).Key).NotTo(BeNil())
	})

	It("that nobody read is refused, and renewed again", Serial, func(ctx context.Context) {
		impostor, cert := cloud.Impostor(), cloud.Upload(pki.P256, host)
		old := impostor.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN)))
		impostor.SayRead(old)
		run(ctx, cloud, "lbvm", "renew", old.InstanceID)
		unread := impostor.Renewed(old)
		impostor.SayUnread(unread)
		failed := happened(cloud, "ec2.identity_renewal_failed", old.InstanceID)
		Expect(failed.Attributes).To(HaveKeyWithValue("serial", unread.Serial()))
		Expect(unread.Download(cert.ARN)).To(twin.BeDeniedBecause(keydelivery.ReasonRevoked))
		Expect(old.Download(cert.ARN).Key).NotTo(BeNil())
		instance, err := cloud.Instance(ctx, old.InstanceID)
		Expect(err).NotTo(HaveOccurred())
		Expect(instance.Identity).To(HaveField("Failures", 1))
	})
})

var _ = Describe("A new key under the same ARN", Label("vm", twin.NeedsSim), func() {
	It("is served within a second", func(ctx context.Context) {
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, cert.ARN))
		Eventually(lb.Listener(8443, cert.CA, host)).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		// The promise is the product's, not a busy machine's: one of ten is enough.
		fastest := twin.ChangeTimeout
		for n := 0; n < 10 && fastest >= time.Second; n++ {
			cloud.RenameCertificate(cert.Name, fmt.Sprintf("%s-%d", cert.Name, n)) // which the listener follows
			after := cloud.UploadAs(cert.Name, pki.P256, host)
			Expect(after.ARN).To(Equal(cert.ARN))
			begun := time.Now()
			lb.SetCertificate(8443, after.ARN)
			Eventually(lb.Listener(8443, after.CA, host)).WithTimeout(twin.ChangeTimeout).WithPolling(10 * time.Millisecond).
				Should(twin.PresentCertificate(after))
			fastest = min(fastest, time.Since(begun))
		}
		Expect(fastest).To(BeNumerically("<", time.Second))
	})
})

// identityOf returns what the cloud says of an LBVM's identity.
func identityOf(ctx context.Context, of *twin.Twin, instance string) func() (operator.Identity, error) {
	return func() (operator.Identity, error) {
		i, err := of.Instance(ctx, instance)
		if err != nil || i.Identity == nil {
			return operator.Identity{}, err
		}
		return *i.Identity, nil
	}
}
