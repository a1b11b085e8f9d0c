package mainjob

import (
	"context"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("A serving load balancer", Label("vm"), func() {
	const host = "www.example.test"

	It("takes another certificate while requests go on, and none fails", func(ctx context.Context) {
		before, after := cloud.Upload(pki.P256, host), cloud.Upload(pki.RSA2048, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, before.ARN))
		client := lb.Listener(8443, before.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())

		loads := startLoad(ctx, lb, before, after)
		Eventually(loads.answered).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", 3), "before the change")
		lb.SetCertificate(8443, after.ARN)
		Eventually(lb.Listener(8443, after.CA, host)).WithTimeout(twin.ChangeTimeout).Should(twin.PresentCertificate(after))
		changed := loads.answered()
		Eventually(loads.answered).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", changed+3), "after the change")
		Expect(loads.stop()).To(BeEmpty(), "requests that failed")
	})

	It("takes a new key under the same ARN", Label("few"), func(ctx context.Context) {
		before := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, before.ARN))
		Eventually(lb.Listener(8443, before.CA, host)).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())

		// What a listener names cannot be deleted, so that it names another one in between.
		Expect(cloud.DeleteCertificate(before.Name)).To(MatchError(ContainSubstring("DeleteConflict")))
		between := cloud.Upload(pki.P256, host)
		lb.SetCertificate(8443, between.ARN)
		Expect(cloud.DeleteCertificate(before.Name)).To(Succeed())
		after := cloud.UploadAs(before.Name, pki.P256, host)
		Expect(after.ARN).To(Equal(before.ARN))
		lb.SetCertificate(8443, after.ARN)
		client := lb.Listener(8443, after.CA, host)
		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.PresentCertificate(after))
		Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())
	})

	It("follows its certificate to another name while requests go on, and none fails", func(ctx context.Context) {
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		instance := lb.Machine().ID

		loads := startLoad(ctx, lb, cert, cert)
		Eventually(loads.answered).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", 3), "before the change")
		to := cert.Name + "-renamed"
		arn := strings.TrimSuffix(cert.ARN, cert.Name) + to
		cloud.RenameCertificate(cert.Name, to)
		Eventually(lb.Status).WithContext(ctx).WithTimeout(twin.ChangeTimeout).
			Should(HaveField("Listeners", ConsistOf(HaveField("Certificate", arn))))
		Eventually(func() ([]journal.Event, error) { return cloud.EventsOf("delivery.granted", instance) }).
			WithTimeout(twin.ChangeTimeout).Should(ContainElement(HaveField("Attributes", HaveKeyWithValue("arn", arn))),
			"the guest fetches it by its new name")
		changed := loads.answered()
		Eventually(loads.answered).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", changed+3), "after the change")
		Expect(loads.stop()).To(BeEmpty(), "requests that failed")
		Expect(client).To(twin.PresentCertificate(cert))
		Expect(cloud.DeleteCertificate(to)).To(MatchError(ContainSubstring("DeleteConflict")))

		By("getting nothing by the name that it had")
		other := cloud.UploadAs(cert.Name, pki.P256, host)
		Expect(other.ARN).To(Equal(cert.ARN))
		Consistently(client).WithTimeout(twin.ChangeTimeout / 20).Should(twin.PresentCertificate(cert))
	})
})

// load asks for pages without a pause, on new and on kept connections.
type load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	good   int
	bad    []error
}

// startLoad trusts both certificates, since either may be served.
func startLoad(ctx context.Context, lb *twin.LoadBalancer, before, after *twin.Certificate) *load {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	for _, keepAlive := range []bool{true, false} {
		client := lb.Listener(8443, before.CA, before.Leaf.DNSNames[0])
		http, err := client.HTTPClientTrusting(ctx, keepAlive, before.CA, after.CA)
		Expect(err).NotTo(HaveOccurred())
		l.done.Go(func() {
			defer GinkgoRecover()
			for ctx.Err() == nil {
				_, err := client.GetWith(context.WithoutCancel(ctx), http, "/")
				l.mu.Lock()
				if err != nil {
					l.bad = append(l.bad, err)
				} else {
					l.good++
				}
				l.mu.Unlock()
			}
			http.CloseIdleConnections()
		})
	}
	return l
}

func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good
}

// stop ends the load and returns the requests that failed.
func (l *load) stop() []error {
	l.cancel()
	l.done.Wait()
	return l.bad
}
