package replay

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

var _ = Describe("A recording of what an operator did", Label(twin.NeedsSim), func() {
	var cloud *twin.Twin
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("comes out the same, with accounts, faults and guests of the new cloud", func(ctx context.Context) {
		cloud = twin.Start(twin.Guests(node.GuestsSim))
		account, err := cloud.Operator.CreateAccount(ctx, "research", "")
		Expect(err).NotTo(HaveOccurred())
		keys, err := cloud.Operator.AccountKeys(ctx, account.ID)
		Expect(err).NotTo(HaveOccurred())
		root := iam.NewFromConfig(cloud.As(keys.AccessKeyID, keys.SecretAccessKey, ""))
		_, err = root.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("ann")})
		Expect(err).NotTo(HaveOccurred())

		backend := startBackend(ctx, cloud)
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer([]string{backend}, twin.HTTPS(securePort, cert.ARN))
		serve(lb, cert)
		vm := cloud.Machine(vmOf(ctx, lb))
		vm.Reboot()
		vm.WaitForMilestone("serving")
		_, err = cloud.Operator.RevokeLBVM(ctx, vm.ID, "a drill")
		Expect(err).NotTo(HaveOccurred())
		Eventually(vmOf).WithArguments(ctx, lb).WithTimeout(cloud.BootTimeout()).ShouldNot(BeElementOf("", vm.ID))
		next := cloud.Machine(vmOf(ctx, lb))
		next.WaitForMilestone("serving")
		next.Suffer(fault.GuestKill, nil)
		Eventually(vmOf).WithArguments(ctx, lb).WithTimeout(cloud.BootTimeout()).
			ShouldNot(BeElementOf("", vm.ID, next.ID))
		cloud.Machine(vmOf(ctx, lb)).WaitForMilestone("serving")
		Expect(cloud.Operator.RebootGuest(ctx, "i-0000000000000000f")).NotTo(Succeed())

		got := play(ctx, 0, bundleOf(ctx, cloud))
		Expect(got.NotPlayed).To(BeEmpty())
		Expect(got.Same).To(BeTrue())
		Expect(got.Replayed.Calls).To(And(Equal(got.Recorded.Calls), BeNumerically(">", 4)))
	})
})

// vmOf is the first VM of a load balancer; empty while it has none.
func vmOf(ctx context.Context, lb *twin.LoadBalancer) string {
	status, err := lb.Status(ctx)
	if err != nil || len(status.Instances) == 0 {
		return ""
	}
	return status.Instances[0]
}
