package twin_test

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

// A suite starts one twin and shares it between its specs.
func Example() {
	var cloud *twin.Twin
	_ = BeforeSuite(func() { cloud = twin.Start() })
	_ = twin.KeepEvidence(func() *twin.Twin { return cloud })
	_ = twin.CheckMode()

	_ = It("serves a page over TLS", func() {
		certificate := cloud.Upload(pki.P256, "shop.example.test")
		lb := cloud.CreateLoadBalancer(cloud.Backends(1), twin.HTTPS(8443, certificate.ARN))
		client := lb.Listener(8443, certificate.CA, "shop.example.test")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
	})
}

// Two clouds of three nodes each, which know nothing of each other.
func ExampleTopology() {
	_ = It("keeps accounts apart", func() {
		system := twin.Topology{Clouds: 2, Nodes: 3, Options: []twin.Option{twin.Guests(node.GuestsSim)}}.Build()
		Expect(system.Clouds[0].StateDir).NotTo(Equal(system.Clouds[1].StateDir))
		Expect(system.Nodes[1]).To(HaveLen(2))
	})
	fmt.Println(twin.Topology{Clouds: 17}.Validate())
	// Output: topology: 17 clouds of 0 nodes: expected at most 16 of 64
}

// What a spec can do to a guest, and wait for.
func ExampleMachine() {
	var cloud *twin.Twin
	_ = It("comes back from a lost network", func() {
		guest := cloud.Launch("web", "hello")
		guest.WaitForMilestone("serving")
		guest.BlockNetwork()
		guest.UnblockNetwork()
		guest.Pause()
		guest.Resume()
		guest.Suffer(fault.WireDelay, map[string]string{"delay": "50ms"})
		guest.Recover(fault.WireDelay)
		guest.Crash()
		guest.WaitForState("terminated")
	})
}

// An invariant is checked beside the spec, and what breaks it is told as the failure's first cause.
func ExampleAlways() {
	var cloud *twin.Twin
	var lb *twin.LoadBalancer
	_ = It("serves through a renewal", func() {
		client := lb.Listener(8080, nil, "")
		twin.Always("the page is served", func(ctx context.Context) error {
			_, err := client.Get(ctx, "/")
			return err
		})
		_, err := cloud.Operator.RenewLBVM(context.Background(), "i-0123456789abcdef0")
		Expect(err).NotTo(HaveOccurred())
	})
}

// Labels say what a spec needs; it is skipped, and says so, where that is not to be had.
func ExampleMinutes() {
	_ = It("survives a night", Label(twin.NeedsKVM), twin.Minutes(90), func(SpecContext) {})
	fmt.Println(twin.MinutesOf([]string{"minutes:90", twin.Slow}), twin.MinutesOf(nil))
	// Output: 90 0
}

// A spec that makes its guests fail says so; every other finding on a console fails the spec.
func ExampleTwin_Allow() {
	var cloud *twin.Twin
	_ = It("notices a kernel's end", func() {
		cloud.Allow(`Kernel panic - not syncing`)
		cloud.Launch("web", "").Panic()
	})
}
