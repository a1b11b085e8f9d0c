package mainjob

import (
	"context"
	"net/http"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("A key", Serial, func() {
	const host = "www.example.test"

	It("is refused to the LBVM of another load balancer", func(context.Context) {
		impostor := cloud.Impostor()
		mine, theirs := cloud.Upload(pki.P256, host), cloud.Upload(pki.P256, host)
		guest := impostor.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, mine.ARN)))
		other := impostor.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, theirs.ARN)))

		By("granting each its own")
		Expect(guest.Download(mine.ARN).Key).NotTo(BeNil())
		Expect(other.Download(theirs.ARN).Key).NotTo(BeNil())

		attempt := guest.Download(theirs.ARN)
		Expect(attempt).To(twin.BeDeniedBecause(keydelivery.ReasonPolicy))
		Expect(attempt.Status).To(Equal(http.StatusForbidden))

		By("refusing a role of one with the identity of the other")
		mixed := *guest
		mixed.Identity = other.Identity
		Expect(mixed.Download(mine.ARN)).To(twin.BeDeniedBecause(keydelivery.ReasonInstanceMismatch))
	})

	It("is refused once the listener names another certificate or is gone", func(ctx context.Context) {
		impostor := cloud.Impostor()
		before, after := cloud.Upload(pki.P256, host), cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, before.ARN))
		guest := impostor.LBVM(lb)
		Expect(guest.Download(before.ARN).Key).NotTo(BeNil())

		lb.SetCertificate(8443, after.ARN)
		Expect(guest.Download(before.ARN)).To(twin.BeDeniedBecause(keydelivery.ReasonPolicy))
		Expect(guest.Download(after.ARN).Key).NotTo(BeNil())
		lb.DeleteListener(8443)
		Expect(guest.Download(after.ARN)).To(twin.BeDeniedBecause(keydelivery.ReasonPolicy))
	})

	It("cannot be had with the credentials of another node's instance", func(context.Context) {
		first, cert := cloud.Impostor(), cloud.Upload(pki.P256, host)
		guest := first.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN)))
		second := cloud.Impostor()
		_, err := second.AskRoleCredentials(guest.InstanceID)
		Expect(err).To(MatchError(ContainSubstring("PermissionDenied")))
		_, err = first.AskRoleCredentials(guest.InstanceID)
		Expect(err).NotTo(HaveOccurred())
	})
})
