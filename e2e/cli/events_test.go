package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("cloudtwin events", Label("vm"), func() {
	It("tells a load balancer's story in order, and follows it", func(ctx context.Context) {
		cloud := twin.Start()
		cert := cloud.Upload(pki.P256, "www.example.test")
		following := command(ctx, "events", "--state", cloud.StateDir, "--follow", "--json", "--kind", "delivery")
		pipe, err := following.StdoutPipe()
		Expect(err).NotTo(HaveOccurred())
		Expect(following.Start()).To(Succeed())
		DeferCleanup(func() {
			Expect(following.Process.Kill()).To(Succeed())
			_ = following.Wait() // it says that the process was killed
		})

		other := cloud.CreateLoadBalancer(nil, twin.HTTPS(8444, cert.ARN))
		lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, "www.example.test")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.PresentCertificate(cert))
		Eventually(other.Listener(8444, cert.CA, "www.example.test")).WithTimeout(cloud.BootTimeout()).Should(
			twin.PresentCertificate(cert))
		status, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())

		story := func(args ...string) (events []journal.Event) {
			code, stdout, stderr := cloud.Command(ctx, append([]string{"events", "--json"}, args...)...)
			Expect(code).To(BeZero(), stderr)
			return decode(stdout)
		}
		ours := story("--lb", lb.Name)
		Expect(ours).To(ContainElements(HaveField("Kind", "elb.lbvm_launched"),
			And(HaveField("Kind", "delivery.granted"),
				HaveField("Attributes", HaveKeyWithValue("instance", status.Instances[0])))))
		for i, ev := range ours {
			Expect(ev.Seq).NotTo(BeZero())
			if i > 0 {
				Expect(ev.Seq).To(BeNumerically(">", ours[i-1].Seq))
			}
			Expect(strings.Split(ev.Attributes["params"], "&")).NotTo(ContainElement("LoadBalancerName=" + other.Name))
		}
		Expect(story("--vm", status.Instances[0], "--kind", "delivery")).To(HaveLen(1))
		Expect(story("--since", time.Now().Add(time.Hour).Format(time.RFC3339))).To(BeEmpty())

		By("those that follow")
		line, err := bufio.NewReader(pipe).ReadString('\n')
		Expect(err).NotTo(HaveOccurred())
		Expect(decode(line)).To(ConsistOf(HaveField("Kind", "delivery.granted")))

		By("the lines for people")
		code, stdout, stderr := cloud.Command(ctx, "events", "--vm", status.Instances[0])
		Expect(code).To(BeZero(), stderr)
		Expect(stdout).To(MatchRegexp(`(?m)^ *\d+ \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} .* delivery\.granted .*` +
			status.Instances[0]))
		Expect(stdout).NotTo(ContainSubstring("PRIVATE KEY"))
	})

	DescribeTable("refuses", func(ctx context.Context, code int, says string, args ...string) {
		r := invoke(ctx, append([]string{"events"}, args...)...)
		Expect(r.Code).To(Equal(code))
		Expect(r.Stderr).To(ContainSubstring(says))
	},
		Entry("a folder where no cloud has run", 3, "none has run in /nonexistent", "--state", "/nonexistent"),
		Entry("a time that is none", 2, `--since "yesterday": want a time such as`, "--since", "yesterday"),
		Entry("a time in the future's words", 2, `--since "-5m"`, "--since=-5m"),
	)
})

func decode(lines string) (events []journal.Event) {
	GinkgoHelper()
	for line := range strings.Lines(lines) {
		var ev journal.Event
		Expect(json.Unmarshal([]byte(line), &ev)).To(Succeed(), line)
		events = append(events, ev)
	}
	return events
}
