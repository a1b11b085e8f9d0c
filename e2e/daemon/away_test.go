package daemon

import (
	"context"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

// machines begins the names of all that a node of the product has in a daemon.
const machines = "cloudtwin-"

var _ = Describe("A libvirt daemon that ends", Label("vm", "slow", twin.NeedsKernel), func() {
	It("is connected to again, and keeps nothing of a node that was killed", func(ctx context.Context) {
		// Asked after the twin has ended: its node by 'node --remove', since it was killed.
		DeferCleanup(func() { Expect(libvirtd.definitions(machines)).To(BeEmpty(), "what is left in the daemon") })
		const host, port = "www.example.test", 8443
		cloud := twin.Start(twin.Guests(node.GuestsCold), twin.NodeFlags("--hypervisor", libvirtd.uri()))
		running = cloud
		backend := cloud.Backends(1)
		cert := cloud.Upload(pki.P256, host)
		begin := func() (*twin.LoadBalancer, *twin.Client) {
			lb := cloud.CreateLoadBalancer(backend, twin.HTTPS(port, cert.ARN))
			return lb, lb.Listener(port, cert.CA, host)
		}
		vm := func(lb *twin.LoadBalancer) func() (string, error) {
			return func() (string, error) {
				status, err := lb.Status(ctx)
				if err != nil || len(status.Instances) != 1 {
					return "", err
				}
				return status.Instances[0], nil
			}
		}
		stays, client := begin()
		dies, other := begin()
		for _, c := range []*twin.Client{client, other} {
			Eventually(c).WithTimeout(2 * cloud.BootTimeout()).Should(twin.BeServing())
		}
		kept, err := vm(stays)()
		Expect(err).NotTo(HaveOccurred())
		lost, err := vm(dies)()
		Expect(err).NotTo(HaveOccurred())

		By("its end, which guests do not notice, and that of a guest meanwhile")
		libvirtd.kill()
		Expect(syscall.Kill(cloud.GuestProcess(lost), syscall.SIGKILL)).To(Succeed())
		Eventually(other).WithTimeout(twin.ChangeTimeout).ShouldNot(twin.BeServing())
		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())

		By("its return: the guest that ended is replaced, and new ones start")
		libvirtd.start()
		Eventually(vm(dies)).WithTimeout(cloud.BootTimeout() + twin.ChangeTimeout).ShouldNot(BeElementOf(lost, ""))
		Eventually(other).WithTimeout(2 * cloud.BootTimeout()).Should(twin.BeServing())
		_, late := begin()
		Eventually(late).WithTimeout(2 * cloud.BootTimeout()).Should(twin.BeServing())
		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())
		Expect(vm(stays)()).To(Equal(kept))
		Expect(cloud.Milestones(kept, "machine-started")).To(HaveLen(1), "it is the guest from before")

		By("the node's end without a word")
		Expect(libvirtd.definitions(machines)).NotTo(BeEmpty())
		cloud.KillNode()
	}, SpecTimeout(15*time.Minute))
})
