package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("A bundle", Label("vm"), Ordered, func() {
	var (
		cloud  *twin.Twin
		lb     *twin.LoadBalancer
		guests []string
		dir    string
	)
	BeforeAll(func(ctx context.Context) {
		dir = GinkgoT().TempDir()
		cloud = twin.Start()
		cert := cloud.Upload(pki.P256, "www.example.test")
		lb = cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN))
		Eventually(lb.Listener(8443, cert.CA, "www.example.test")).WithTimeout(cloud.BootTimeout()).Should(
			twin.PresentCertificate(cert))
		status, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		guests = status.Instances
	})
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("of a load balancer tells its guests' lives, without the cloud", func(ctx context.Context) {
		file := filepath.Join(dir, "lb.zip")
		code, _, stderr := cloud.Command(ctx, "bundle", "-o", file, "--lb", lb.Name)
		Expect(code).To(BeZero(), stderr)

		r := invoke(ctx, "inspect", "--json", file)
		Expect(r.Code).To(BeZero(), r.Stderr)
		var report struct {
			Guests []struct {
				ID     string
				Stages []struct{ Name string }
			}
			Kinds map[string]int
		}
		Expect(json.Unmarshal([]byte(r.Stdout), &report)).To(Succeed())
		Expect(report.Guests).To(ConsistOf(And(HaveField("ID", guests[0]),
			HaveField("Stages", ContainElement(HaveField("Name", "serving"))))))
		Expect(report.Kinds).To(HaveKeyWithValue("delivery.granted", 1))

		r = invoke(ctx, "inspect", file)
		Expect(r.Stdout).To(And(ContainSubstring("only --lb "+lb.Name), ContainSubstring(guests[0])), r.Stderr)

		page := filepath.Join(dir, "lb.html")
		Expect(invoke(ctx, "inspect", "--html", page, file).Code).To(BeZero())
		text, err := os.ReadFile(page)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(text)).To(ContainSubstring(guests[0]))
	})

	DescribeTable("is refused", func(ctx context.Context, code int, says string, args ...string) {
		r := invoke(ctx, args...)
		Expect(r.Code).To(Equal(code), r.Stderr)
		Expect(r.Stderr).To(ContainSubstring(says))
	},
		Entry("of a folder where nothing has run", 3, "no cloud or node has run there", "bundle", "-o", "/dev/null",
			"--state", "/nonexistent"),
		Entry("without a file", 2, "-o is required", "bundle"),
		Entry("that is none", 2, "not a bundle", "inspect", "/etc/hostname"),
	)
})
