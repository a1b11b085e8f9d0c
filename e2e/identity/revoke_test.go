package identity

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

const why = "its key was seen elsewhere"

var _ = Describe("A revocation", Label("vm"), func() {
	It("ends the guest, which is replaced", func(ctx context.Context) {
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		revoked := lb.Machine().ID
		serial, err := identityOf(ctx, cloud, revoked)()
		Expect(err).NotTo(HaveOccurred())

		Expect(run(ctx, cloud, "lbvm", "revoke", revoked, "--reason", why)).To(ContainSubstring(revoked))
		Expect(happened(cloud, "ec2.identity_revoked", revoked).Attributes).To(And(HaveKeyWithValue("reason", why),
			HaveKeyWithValue("by", HavePrefix("uid ")), HaveKeyWithValue("serials", serial.Serial)))
		Eventually(cloud.State).WithContext(ctx).WithArguments(revoked).WithTimeout(twin.ChangeTimeout).
			Should(Equal("terminated"))
		Eventually(func(g Gomega) {
			status, err := lb.Status(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(status.Instances).To(And(HaveLen(1), Not(ContainElement(revoked))))
		}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		Expect(client).To(twin.PresentCertificate(cert))
		Expect(cloud.GuestProcesses(revoked)).To(BeEmpty())
	})
})

var _ = Describe("A revoked identity", Serial, func() {
	It("opens nothing any more, and the operator is told which, when and why", func(ctx context.Context) {
		impostor, cert := cloud.Impostor(), cloud.Upload(pki.P256, host)
		guest := impostor.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN)))
		Expect(guest.Download(cert.ARN).Key).NotTo(BeNil())
		Expect(guest.Describe().Status).To(Equal(http.StatusOK))

		run(ctx, cloud, "lbvm", "revoke", guest.InstanceID, "--reason", why)
		attempt := guest.Download(cert.ARN)
		Expect(attempt).To(twin.BeDeniedBecause(keydelivery.ReasonRevoked))
		Expect(attempt.Status).To(Equal(http.StatusForbidden))
		Expect(guest.Describe().Status).To(Equal(http.StatusForbidden), "what it is to serve")
		_, err := impostor.AskRoleCredentials(guest.InstanceID)
		Expect(err).To(MatchError(ContainSubstring("PermissionDenied")))

		var told struct{ Check, Reason, Found string }
		Expect(json.Unmarshal([]byte(run(ctx, cloud, "explain", attempt.RequestID, "--json")), &told)).To(Succeed())
		Expect(told.Check).To(Equal("check 3 of 9"))
		Expect(told.Reason).To(Equal("lbcert-revoked"))
		Expect(told.Found).To(And(ContainSubstring("serial "+guest.Serial()), ContainSubstring("revoked at 20"),
			ContainSubstring("by uid "), HaveSuffix(": "+why)))

		By("giving the replacement its own")
		Eventually(func() []string {
			return slices.DeleteFunc(ids(impostor), func(id string) bool { return id == guest.InstanceID })
		}).WithTimeout(twin.ChangeTimeout).Should(HaveLen(1))
	})
})

func ids(i *twin.Impostor) []string {
	var list []string
	for id := range i.Instances() {
		list = append(list, id)
	}
	return list
}

var _ = Describe("The command lbvm", func() {
	DescribeTable("refuses", func(ctx context.Context, says string, args ...string) {
		for n, arg := range args {
			if arg == "WEB" {
				args[n] = backends[0]
			}
		}
		before, err := cloud.Events()
		Expect(err).NotTo(HaveOccurred())
		code, stdout, stderr := cloud.Command(ctx, append([]string{"lbvm"}, args...)...)
		Expect(code).To(Equal(2), "%s%s", stdout, stderr)
		Expect(stderr).To(ContainSubstring(says))
		after, err := cloud.Events()
		Expect(err).NotTo(HaveOccurred())
		for _, ev := range after[len(before):] {
			Expect(ev.Kind).NotTo(HavePrefix("ec2.identity_re"), "%v", ev)
		}
	},
		Entry("no verb", "renew or revoke"),
		Entry("no instance", "one instance id", "revoke"),
		Entry("two instances", "one instance id", "renew", "i-1", "i-2"),
		Entry("an instance that is not there", "no such instance", "revoke", "i-0123456789abcdef0"),
		Entry("renewing one that is not there", "no such instance", "renew", "i-0123456789abcdef0"),
		Entry("a web guest", "it is no load balancer's VM", "revoke", "WEB"),
		Entry("renewing a web guest", "it is no load balancer's VM", "renew", "WEB"),
		Entry("a reason of two lines", "--reason: want 1 to 256 printable", "revoke", "WEB", "--reason", "a\nb"),
		Entry("no reason", "--reason: want 1 to 256 printable", "revoke", "WEB", "--reason", ""),
	)

	It("refuses an instance that has ended", func(ctx context.Context) {
		lb := cloud.CreateLoadBalancer(nil, twin.TCP(8080))
		vm := lb.Machine().ID
		run(ctx, cloud, "lbvm", "revoke", vm)
		code, _, stderr := cloud.Command(ctx, "lbvm", "revoke", vm)
		Expect(code).To(Equal(2))
		Expect(stderr).To(ContainSubstring("has ended"))
	})

	DescribeTable("up refuses a life of LBCERTs", func(ctx context.Context, life string) {
		code, _, stderr := cloud.Command(ctx, "up", "--lbcert-life", life)
		Expect(code).To(Equal(2), stderr)
		Expect(stderr).To(ContainSubstring("--lbcert-life"))
	},
		Entry("too short", "29s"), Entry("too long", "87601h"), Entry("none", "0s"), Entry("no duration", "a year"))
})
