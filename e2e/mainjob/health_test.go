package mainjob

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("Backends", Label("vm"), func() {
	It("fail and recover", Label("patient"), func(ctx context.Context) {
		own := cloud.Backends(2)
		lb := cloud.CreateLoadBalancer(own, twin.HTTP(8080))
		balanced := lb.Plain(8080)
		Eventually(
			lb.Health,
		).WithContext(ctx).
			WithTimeout(cloud.BootTimeout()).
			Should(Equal(states(own, "InService", "InService")))

		By("failing one, through a load balancer that has it alone and checks no page")
		alone := cloud.CreateLoadBalancer(own[:1], twin.TCP(8081))
		alone.CheckHealth("TCP:80")
		direct := alone.Plain(8081)
		Eventually(direct).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		Expect(direct.Post(ctx, "/control/fail")).To(Succeed())
		Eventually(
			lb.Health,
		).WithContext(ctx).
			WithTimeout(2 * twin.ChangeTimeout).
			Should(Equal(states(own, "OutOfService", "InService")))
		for range 6 {
			page, err := balanced.Get(ctx, "/")
			Expect(err).NotTo(HaveOccurred())
			Expect(page.InstanceID).To(Equal(own[1]))
		}

		By("recovering it")
		Expect(direct.Post(ctx, "/control/recover")).To(Succeed())
		Eventually(
			lb.Health,
		).WithContext(ctx).
			WithTimeout(2 * twin.ChangeTimeout).
			Should(Equal(states(own, "InService", "InService")))

		By("losing one for good")
		cloud.Terminate(own[0])
		Eventually(
			lb.Health,
		).WithContext(ctx).
			WithTimeout(2 * twin.ChangeTimeout).
			ShouldNot(HaveKeyWithValue(own[0], "InService"))
		Eventually(balanced).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())
	})
})

func states(ids []string, values ...string) map[string]string {
	m := map[string]string{}
	for i, id := range ids {
		m[id] = values[i]
	}
	return m
}
