package nodes

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("Removing a node", Serial, func() {
	It("moves its load balancers to the others and leaves it nothing", func(ctx context.Context) {
		removal(ctx, cloud)
	})

	It("does not wait for one that is away, which hears of it when it comes back", func(ctx context.Context) {
		n := cloud.AddNode("node")
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.PresentCertificate(cert))
		n.Kill()
		other := cloud.AddNode("node")
		code, stdout, stderr := cloud.Command(ctx, "node", "remove", n.ID)
		Expect(code).To(BeZero(), stderr)
		Expect(stdout).To(ContainSubstring("ended 1 of its guests; nodes left: 1"))
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.PresentCertificate(cert))
		Expect(vm(ctx, cloud, lb).NodeID).To(Equal(other.ID))

		status, err := cloud.Operator.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		n.Launch(status.NodeLink)
		Eventually(n.ExitCode).WithTimeout(twin.ChangeTimeout).Should(Equal(3), n.Log)
		Expect(n.Log()).To(ContainSubstring("was removed on"))
		n.Start()
	})

	It("says when it was the last", func(ctx context.Context) {
		n := cloud.AddNode("node")
		code, _, stderr := cloud.Command(ctx, "node", "remove", n.ID)
		Expect(code).To(BeZero(), stderr)
		Expect(stderr).To(ContainSubstring("no node is up"))
	})

	It("ends real guests there", Label("vm", twin.NeedsKernel), func(ctx context.Context) {
		removal(ctx, twin.StartCloud())
	})

	DescribeTable("refuses what makes no sense",
		func(ctx context.Context, says string, args ...string) {
			n := cloud.AddNode("bystander")
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "NODE", n.ID)
			}
			code, _, stderr := cloud.Command(ctx, append([]string{"node", "remove"}, args...)...)
			Expect(code).To(Equal(2), stderr)
			Expect(stderr).To(ContainSubstring(says))
			Expect(n.Status(ctx)).To(HaveField("State", "up"))
		},
		Entry("a node that is not there", "no such node: ghost", "ghost"),
		Entry("a name that is none", "node id", "a/b"),
		Entry("no name", "takes one node id"),
		Entry("a reason that is none", "--reason", "NODE", "--reason", "a\nb"),
	)

	It("refuses the node of 'cloudtwin up' itself", func(ctx context.Context) {
		state, err := os.MkdirTemp("", "ct")
		Expect(err).NotTo(HaveOccurred())
		up := func(args ...string) (int, string) {
			code, out, stderr := cloud.CommandAt(context.WithoutCancel(ctx), state, args...)
			return code, out + stderr
		}
		DeferCleanup(func() {
			code, said := up("down")
			Expect(code).To(BeZero(), said)
			Expect(os.RemoveAll(state)).To(Succeed())
		})
		code, said := up("up", "-d", "--guests", "sim", "--api", "127.0.0.1:0")
		Expect(code).To(BeZero(), said)
		code, said = up("node", "remove", "node-1")
		Expect(code).To(Equal(2), said)
		Expect(said).To(ContainSubstring("--no-node"))
		Eventually(func() string {
			_, said := up("ps")
			return said
		}).WithTimeout(twin.ChangeTimeout).Should(MatchRegexp(`node-1\s+up`))
	})
})

// removal removes the node on which a load balancer's VM is.
func removal(ctx context.Context, of *twin.Twin) {
	GinkgoHelper()
	nodes := map[string]*twin.Node{}
	for range 2 {
		n := of.AddNode("node")
		nodes[n.ID] = n
	}
	backends := of.Backends(4) // guests reach those on their own node
	cert := of.Upload(pki.P256, host)
	lb := of.CreateLoadBalancer(backends, twin.HTTPS(8443, cert.ARN))
	client := lb.Listener(8443, cert.CA, host)
	Eventually(client).WithTimeout(of.BootTimeout()).Should(twin.BeServing())
	address, err := client.Address(ctx)
	Expect(err).NotTo(HaveOccurred())
	old := vm(ctx, of, lb)
	before, on := old.ID, old.NodeID
	gone := nodes[on]
	Expect(gone).NotTo(BeNil(), "the VM is on %s", on)
	thief := gone.Steal()
	Expect(thief.Call(ctx, "RoleCredentials", before)).To(BeEmpty(), "its NODECERT before")

	By("removing it")
	code, stdout, stderr := of.Command(ctx, "node", "remove", on, "--reason", "its disk fails")
	Expect(code).To(BeZero(), stderr)
	Expect(stdout).To(ContainSubstring("nodes left: 1"))
	for _, call := range []string{"Sync", "RoleCredentials", "RenewCertificate"} {
		Expect(thief.Call(ctx, call, before)).To(Equal("node-removed"), call)
	}
	Expect(events(of, "node.removed", on)).To(ConsistOf(HaveField("Attributes", And(
		HaveKeyWithValue("reason", "its disk fails"), HaveKeyWithValue("by", Not(BeEmpty()))))))
	Expect(events(of, "node.denied", on)).To(ContainElement(HaveField("Attributes", And(
		HaveKeyWithValue("call", "RoleCredentials"), HaveKeyWithValue("reason", "node-removed"),
		HaveKeyWithValue("serial", thief.Serial())))))

	By("serving from the other, at the same address")
	Eventually(client).WithTimeout(of.BootTimeout()).Should(twin.BeServing())
	Expect(client).To(twin.PresentCertificate(cert))
	Expect(client.Address(ctx)).To(Equal(address))
	Expect(vm(ctx, of, lb)).To(And(HaveField("ID", Not(Equal(before))), HaveField("NodeID", Not(Equal(on)))))
	Expect(events(of, "instance.state", before)).To(ContainElement(HaveField("Attributes", And(
		HaveKeyWithValue("state", "terminated"),
		HaveKeyWithValue("reason", ContainSubstring("was removed: its disk fails"))))))

	By("ending its process, its guests and its keys")
	Eventually(gone.ExitCode).WithTimeout(twin.ChangeTimeout).Should(Equal(3), gone.Log)
	Expect(gone.Log()).To(And(ContainSubstring("its disk fails"), ContainSubstring("take a new token")))
	Expect(of.GuestProcesses(gone.Dir())).To(BeEmpty())
	Expect(filepath.Glob(filepath.Join(gone.Media(), "*"))).To(BeEmpty(), "media")
	Expect(filepath.Glob(filepath.Join(gone.Files(), "*.key"))).To(BeEmpty(), "keys")
	Expect(gone.Status(ctx)).To(BeNil())

	By("taking it in again as a new node of that name")
	gone.Start()
	Expect(thief.Call(ctx, "RoleCredentials", before)).To(Equal("node-removed"), "the old NODECERT")
	Expect(gone.Steal().Call(ctx, "RoleCredentials", before)).To(Equal("PermissionDenied"), "an instance that it has not")
	fresh := of.Backends(2)
	for _, id := range fresh {
		Eventually(of.Stage).WithContext(ctx).WithArguments(id).WithTimeout(of.BootTimeout()).Should(Equal("serving"))
	}
}
