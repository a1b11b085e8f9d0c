package identity

import (
	"context"
	"encoding/json"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// iamCerts returns the IAMCERTs by their state.
func iamCerts(ctx context.Context) map[string][]operator.IAMCert {
	GinkgoHelper()
	var list []operator.IAMCert
	Expect(json.Unmarshal([]byte(run(ctx, cloud, "iamcert", "list", "--json")), &list)).To(Succeed())
	states := map[string][]operator.IAMCert{}
	for _, c := range list {
		states[c.State] = append(states[c.State], c)
	}
	return states
}

// refused expects a command to be a usage error and returns what it said.
func refused(ctx context.Context, args ...string) string {
	GinkgoHelper()
	code, _, stderr := cloud.Command(ctx, args...)
	Expect(code).To(Equal(2), "%v: %s", args, stderr)
	return stderr
}

// A rotation renews the identity of every LBVM of the suite's cloud, so that these specs run alone.
var _ = Describe("The cloud's own identity", Label("vm"), Serial, func() {
	It("is replaced without a dropped connection, and goes when no guest needs it", func(ctx context.Context) {
		before, after := cloud.Upload(pki.P256, host), cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, before.ARN))
		client := lb.Listener(8443, before.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		vm := lb.Machine().ID
		old := iamCerts(ctx)["current"][0]
		Expect(old.Users).To(BeNumerically(">=", 1))
		Expect(old.SealedKeys).To(BeNumerically(">=", 2))
		first, err := deliveredTo(cloud, vm, before.ARN)()
		Expect(err).NotTo(HaveOccurred())
		connection := hold(ctx, client, before.CA, after.CA)

		Expect(run(ctx, cloud, "iamcert", "rotate")).To(ContainSubstring("signs from now on"))
		fresh := iamCerts(ctx)["current"][0]
		Expect(fresh.Serial).NotTo(Equal(old.Serial))
		Expect(happened(cloud, "iam.iamcert_rotated", fresh.Serial).Attributes).To(And(
			HaveKeyWithValue("replaced", old.Serial), HaveKeyWithValue("by", ContainSubstring("uid"))))
		renewed := happened(cloud, "ec2.identity_renewed", vm)
		Expect(renewed.Attributes).To(HaveKeyWithValue("replaced", first))
		Eventually(func(g Gomega) {
			states := iamCerts(ctx)
			g.Expect(states["former"]).To(ContainElement(And(HaveField("Serial", old.Serial), HaveField("Users", 0),
				HaveField("SealedKeys", 0))))
			g.Expect(states["current"][0].SealedKeys).To(BeNumerically(">=", 2))
		}).WithTimeout(twin.ChangeTimeout).Should(Succeed(), "guests and keys at rest follow")

		By("retiring the one before")
		Expect(run(ctx, cloud, "iamcert", "retire", "--old")).To(ContainSubstring(old.Serial))
		Expect(iamCerts(ctx)["former"]).To(BeEmpty())
		Expect(run(ctx, cloud, "iamcert", "retire", "--old")).To(ContainSubstring("no former"))

		By("fetching the next key, in the running guest and in a new one")
		lb.SetCertificate(8443, after.ARN)
		Eventually(lb.Listener(8443, after.CA, host)).WithTimeout(twin.ChangeTimeout).Should(twin.PresentCertificate(after))
		Expect(deliveredTo(cloud, vm, after.ARN)()).To(Equal(renewed.Attributes["serial"]))
		connection.expectUnbroken()
		Expect(lb.Machine().ID).To(Equal(vm), "the same guest")
		other := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, after.ARN))
		Eventually(other.Listener(8443, after.CA, host)).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
	})

	It("is believed by guests of before and after a rotation, until it is retired", func(ctx context.Context) {
		impostor, cert := cloud.Impostor(), cloud.Upload(pki.P256, host)
		guest := impostor.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN)))
		impostor.SayRead(guest)
		Expect(guest.Download(cert.ARN).Key).NotTo(BeNil())
		old := iamCerts(ctx)["current"][0]

		run(ctx, cloud, "iamcert", "rotate")
		renewed := impostor.Renewed(guest)
		Expect(renewed.IAMCert).NotTo(Equal(guest.IAMCert), "a renewed guest knows the new one")
		By("answering each by the identity that it knows")
		Expect(guest.Download(cert.ARN).Key).NotTo(BeNil())
		Expect(renewed.Download(cert.ARN).Key).NotTo(BeNil())

		By("refusing to retire what is in use")
		Expect(refused(ctx, "iamcert", "retire", old.Serial)).To(And(ContainSubstring("in use"),
			ContainSubstring(old.Serial)))
		Expect(guest.Download(cert.ARN).Key).NotTo(BeNil())

		By("retiring it by force")
		run(ctx, cloud, "iamcert", "retire", old.Serial, "--force")
		attempt := guest.Download(cert.ARN)
		Expect(attempt).To(twin.BeDeniedBecause(keydelivery.ReasonIssuer))
		Expect(attempt.Detail).To(ContainSubstring(old.Serial + ", which was retired"))
		Expect(renewed.Download(cert.ARN).Key).NotTo(BeNil())
	})

	DescribeTable("is not changed by what makes no sense", func(ctx context.Context, says string, args ...string) {
		before := iamCerts(ctx)
		if len(args) == 2 && args[1] == "CURRENT" {
			args[1] = before["current"][0].Serial
		}
		Expect(refused(ctx, append([]string{"iamcert"}, args...)...)).To(ContainSubstring(says))
		Expect(iamCerts(ctx)["current"]).To(HaveLen(1))
		Expect(iamCerts(ctx)["current"][0].Serial).To(Equal(before["current"][0].Serial))
	},
		Entry("a profile that there is not", "want 1 or 2", "rotate", "--profile", "3"),
		Entry("a profile that is refused", "profile 1 is refused", "rotate", "--profile", "1"),
		Entry("no serial number", "takes one serial number", "retire"),
		Entry("a serial number that is none's", "no such IAMCERT", "retire", "123abc"),
		Entry("the one that signs", "signs now; rotate first", "retire", "CURRENT"),
		Entry("nothing to do", "list, rotate or retire"),
	)
})
