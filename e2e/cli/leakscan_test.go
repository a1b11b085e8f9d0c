package cli

import (
	"context"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("cloudtwin leakscan", Label(twin.NeedsSim), func() {
	It("looks at files, media and memory of cloud and nodes, and tells places, never keys", func(ctx context.Context) {
		cloud := twin.Start()
		cert := cloud.Upload(pki.P256, "www.example.test")
		lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN))
		Eventually(lb.Listener(8443, cert.CA, "www.example.test")).WithTimeout(cloud.BootTimeout()).Should(
			twin.PresentCertificate(cert))

		By("finding nothing, in two processes")
		code, stdout, stderr := cloud.Command(ctx, "leakscan", "--node", cloud.NodeDir())
		Expect(code).To(BeZero(), stdout+stderr)
		Expect(stdout).To(BeEmpty())
		Expect(stderr).To(And(ContainSubstring("2 processes"), ContainSubstring("0 leaks")))

		By("leaving memory out")
		code, _, stderr = cloud.Command(ctx, "leakscan", "--node", cloud.NodeDir(), "--memory=false")
		Expect(code).To(BeZero(), stderr)
		Expect(stderr).To(ContainSubstring("0 processes"))

		By("finding a user's key in a file")
		stray := filepath.Join(cloud.NodeDir(), "notes.txt")
		Expect(os.WriteFile(stray, cert.KeyPEM, 0o600)).To(Succeed())
		code, stdout, stderr = cloud.Command(ctx, "leakscan", "--node", cloud.NodeDir(), "--memory=false")
		Expect(code).To(Equal(1), stderr)
		Expect(stdout).To(And(ContainSubstring(stray), ContainSubstring("USERPK of "+cert.ARN),
			Not(ContainSubstring("-----BEGIN"))))
		Expect(os.Remove(stray)).To(Succeed())

		By("refusing a folder that is no node's")
		code, _, stderr = cloud.Command(ctx, "leakscan", "--node", GinkgoT().TempDir())
		Expect(code).To(Equal(2), stderr)
		Expect(stderr).To(ContainSubstring("no node's identity"))
	})
})
