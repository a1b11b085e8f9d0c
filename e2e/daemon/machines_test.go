package daemon

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/libvirt"
)

// open connects a driver to the daemon.
func open(ctx context.Context, prefix string) (hypervisor.Driver, error) {
	return libvirt.Open(ctx, libvirt.Config{URI: libvirtd.uri(), CacheDir: local.Cache(), NamePrefix: prefix})
}

// folder makes one for a driver's machines.
func folder(name string) string {
	GinkgoHelper()
	dir := filepath.Join(work, name)
	Expect(os.MkdirAll(dir, 0o700)).To(Succeed())
	return dir
}

var _ = Describe("A libvirt daemon of this host", Label("vm", twin.NeedsKernel), func() {
	Context("as drivers must be", Label("slow"), func() {
		drivertest.BootSpecs(func() drivertest.Harness {
			return drivertest.Harness{
				Open:   func(ctx context.Context) (hypervisor.Driver, error) { return open(ctx, "ct-all-") },
				Kernel: guest.kernel, Initrd: guest.initrd, Dir: folder("all"), HasDisplay: true,
			}
		})
	})

	It("runs a guest, and keeps the machines of its users apart", Label("few"), func(ctx context.Context) {
		driver, err := open(ctx, "ct-mine-")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(driver.Close)
		dir := folder("mine")
		medium := filepath.Join(dir, "medium.img")
		const size = 1440 << 10
		Expect(os.WriteFile(medium, append([]byte("hello\n"), make([]byte, size-6)...), 0o600)).To(Succeed())
		spec := func(id string) hypervisor.Spec {
			return hypervisor.Spec{
				ID: id, Kernel: guest.kernel, Initrd: guest.initrd, MemoryMB: 96, Medium: medium,
				NIC:        hypervisor.NIC{MAC: "02:00:0a:40:00:05", Socket: filepath.Join(dir, id)},
				ConsoleLog: filepath.Join(dir, id+".console"),
			}
		}
		m, err := driver.Start(ctx, spec("i-daemon"))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) { Expect(m.Kill(ctx)).To(Succeed()) }, NodeTimeout(time.Minute))

		By("another user of the daemon, who sees nothing of it")
		other, err := open(ctx, "ct-other-")
		Expect(err).NotTo(HaveOccurred())
		Expect(other.List(ctx)).To(BeEmpty())
		Expect(other.Close()).To(Succeed())

		By("copies of templates, which take a libvirt in the node's process")
		forker := driver.(hypervisor.Forker)
		template := hypervisor.Template{Memory: filepath.Join(dir, "memory"), State: filepath.Join(dir, "state")}
		_, err = forker.Ground(ctx)
		Expect(err).To(MatchError(errors.ErrUnsupported))
		_, err = forker.StartTemplate(ctx, spec("i-template"), template)
		Expect(err).To(MatchError(errors.ErrUnsupported))
		_, err = forker.Fork(ctx, spec("i-fork"), template)
		Expect(err).To(MatchError(errors.ErrUnsupported))
		Expect(forker.Prepare(ctx, spec("i-shape"), template, 1, nil)).To(MatchError(errors.ErrUnsupported))
		Expect(driver.List(ctx)).To(HaveLen(1))

		By("its console, its medium and its end")
		console, err := m.Console(ctx)
		Expect(err).NotTo(HaveOccurred())
		defer func() { _ = console.Close() }()
		lines := make(chan string)
		go func() {
			defer close(lines)
			for scanner := bufio.NewScanner(console); scanner.Scan(); {
				lines <- scanner.Text()
			}
		}()
		Eventually(lines).WithTimeout(driver.Info().BootTimeout).Should(Receive(ContainSubstring("medium hello")))
		Expect(m.Stop(ctx)).To(Succeed())
		Eventually(lines).WithTimeout(time.Minute).Should(Receive(ContainSubstring("power-off")))
		Eventually(m.State).WithContext(ctx).WithTimeout(time.Minute).Should(Equal(hypervisor.Stopped))
		for range lines { // until the console ends with its machine
		}
		Expect(m.Kill(ctx)).To(Succeed())
		Expect(driver.List(ctx)).To(BeEmpty())
	}, SpecTimeout(3*time.Minute))

	It("runs the guests of the main job", Label("slow"), func(ctx context.Context) {
		const host, port = "www.example.test", 8443
		cloud := twin.Start(twin.Guests(node.GuestsCold), twin.NodeFlags("--hypervisor", libvirtd.uri()))
		running = cloud
		backend := cloud.Backends(1)
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backend, twin.HTTPS(port, cert.ARN))
		client := lb.Listener(port, cert.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.PresentCertificate(cert))
		page, err := client.Get(ctx, "/")
		Expect(err).NotTo(HaveOccurred())
		Expect(page.InstanceID).To(Equal(backend[0]))

		By("losing the node's process, which the daemon's guests do not notice")
		cloud.KillNode()
		cloud.StartNode()
		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())
		starts, err := cloud.Milestones(lb.Machine().ID, "machine-started")
		Expect(err).NotTo(HaveOccurred())
		Expect(starts).To(HaveLen(1), "it is the guest from before")
	}, SpecTimeout(10*time.Minute))
})
