// Package harness uses the harness itself: what its verbs do to guests of every kind, and what it makes of specs whose
// guests misbehave. The specs that have to fail are in another module, fixtures/outside/misbehaving, and are run
// through 'cloudtwin test'.
package harness

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

func TestHarness(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "harness")
}

var cloud *twin.Twin

var _ = BeforeSuite(func() { cloud = twin.Start(twin.Displays()) })

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = twin.CheckMode()

var _ = Describe("A guest's verbs", func() {
	It("start it, wait for what it says and is, and stop it", func() {
		m := cloud.Launch("web", "hello")
		m.WaitForMilestone("serving")
		m.WaitForConsole(`"stage":"serving"`)
		m.WaitForState("running")
		m.Stop()
		m.WaitForState("terminated")
	})

	It("crash it, which its cloud notices, and leave evidence of its life and its end", func(ctx context.Context) {
		m := cloud.Launch("web", "")
		m.WaitForState("running")
		m.WaitForMilestone("serving")
		expectEvidence(ctx, m.ID, false)
		m.Crash()
		m.WaitForState("terminated")
		expectEvidence(ctx, m.ID, true)
	})

	DescribeTable("hold it up and let it go on", func(ctx context.Context, hold, release func(*twin.Machine)) {
		certificate := cloud.Upload(pki.P256, "verbs.example.test")
		lb := cloud.CreateLoadBalancer(cloud.Backends(1), twin.HTTPS(8443, certificate.ARN))
		client := lb.Listener(8443, certificate.CA, "verbs.example.test")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		m := lb.Machine()
		hold(m)
		Eventually(func() error {
			brief, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := client.Get(brief, "/")
			return err
		}).WithTimeout(twin.ChangeTimeout).ShouldNot(Succeed())
		release(m)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
	},
		Entry("its network", (*twin.Machine).BlockNetwork, (*twin.Machine).UnblockNetwork),
		Entry("its processors", (*twin.Machine).Pause, (*twin.Machine).Resume),
	)
})

var _ = It("builds clouds of several nodes that know nothing of each other", Label(twin.NeedsSim), func(
	ctx context.Context,
) {
	system := twin.Topology{Clouds: 2, Nodes: 2, Options: []twin.Option{twin.Guests(node.GuestsSim)}}.Build()
	Expect(system.Clouds).To(HaveLen(2))
	names := map[string]bool{}
	for i, c := range system.Clouds {
		status, err := c.Operator.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Nodes).To(HaveLen(2))
		Expect(system.Nodes[i]).To(HaveLen(1))
		names[status.Endpoint] = true
	}
	Expect(names).To(HaveLen(2))
})
