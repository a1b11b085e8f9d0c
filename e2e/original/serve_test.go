package original

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// event finds what the journal tells of an instance.
func event(kind, instance string) (journal.Event, error) {
	events, err := cloud.Events()
	for _, ev := range events {
		if ev.Kind == kind && (ev.Subject == instance || ev.Attributes["instance"] == instance) {
			return ev, nil
		}
	}
	return journal.Event{}, err
}

// calls counts an instance's requests to the API by action and status.
func calls(instance string) (map[string]int, error) {
	events, err := cloud.Events()
	counts := map[string]int{}
	for _, ev := range events {
		if ev.Kind == "api.request" && ev.Attributes["instance"] == instance {
			counts[ev.Attributes["action"]+" "+ev.Attributes["status"]]++
		}
	}
	return counts, err
}

var _ = Describe("A stock guest", Label("vm", twin.NeedsKernel), func() {
	It("serves HTTPS with keys that it fetched in profile 1", func(ctx context.Context) {
		first, second := cloud.Upload(pki.RSA2048, host), cloud.Upload(pki.P256, host)
		backends := cloud.Backends(1)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(port, first.ARN))
		client := lb.Listener(port, first.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.PresentCertificate(first))
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		page, err := client.Get(ctx, "/a/page")
		Expect(err).NotTo(HaveOccurred())
		Expect(page.InstanceID).To(Equal(backends[0]))

		guest := lb.Machine().ID
		Expect(cloud.Origin(ctx, guest)).To(Equal("cold"), "a guest that knows nothing of templates")
		By("telling the operator at launch what profile 1 means, and of the delivery")
		Expect(event("instance.credential", guest)).To(HaveField("Attributes", And(
			HaveKeyWithValue("profile", "1"), HaveKeyWithValue("medium", ContainSubstring("kept for the instance's life")))))
		Expect(event("delivery.granted", guest)).To(HaveField("Attributes", HaveKeyWithValue("profile", "1")))

		By("reporting the health of its backends")
		Eventually(lb.Health).WithContext(ctx).WithTimeout(twin.ChangeTimeout).
			Should(Equal(map[string]string{backends[0]: "InService"}))
		Eventually(event).WithArguments("elb.backend_health", backends[0]).WithTimeout(twin.ChangeTimeout).
			Should(HaveField("Attributes", HaveKeyWithValue("reporter", guest)))

		By("reading its medium anew for another certificate")
		media := filepath.Join(local.Layout(cloud.NodeDir()).Media(), "media")
		Expect(os.ReadDir(media)).To(ContainElement(WithTransform(os.DirEntry.Name, ContainSubstring(guest))))
		_, err = cloud.ELB.CreateLoadBalancerListeners(ctx, &elasticloadbalancing.CreateLoadBalancerListenersInput{
			LoadBalancerName: aws.String(lb.Name), Listeners: []types.Listener{twin.HTTPS(port+1, second.ARN)}})
		Expect(err).NotTo(HaveOccurred())
		Eventually(lb.Listener(port+1, second.CA, host)).WithTimeout(twin.ChangeTimeout).
			Should(twin.PresentCertificate(second))
		Expect(client).To(twin.PresentCertificate(first))

		By("being refused nothing in all that")
		Expect(calls(guest)).To(And(HaveLen(3), HaveKeyWithValue("iam:DownloadServerCertificate 200", 2),
			HaveKey("elasticloadbalancing:DescribeLoadBalancersByServo 200"),
			HaveKey("elasticloadbalancing:PutServoStates 200")))
	})

	It("is refused with its image where profile 2 is the least that is answered", func(ctx context.Context) {
		state := filepath.Join(GinkgoT().TempDir(), "s")
		out, err := exec.CommandContext(ctx, cloud.Binary, "up", "--no-node", "--api", "127.0.0.1:0", "--images", images,
			"--guests", "cold", "--min-delivery-profile", "2", "--state", state).CombinedOutput()
		Expect(err).To(HaveOccurred())
		text := string(out)
		Expect(text).To(ContainSubstring("image lbvm is registered as delivery profile 1"))
		Expect(text).To(ContainSubstring("the least profile answered is 2"))
		Expect(strings.Count(text, "\n")).To(BeNumerically("<=", 3), "lines for a person to read: %s", text)
	})
})
