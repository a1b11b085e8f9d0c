package mainjob

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("A load balancer", Label("vm"), func() {
	It("serves uploaded RSA and ECDSA certificates on HTTPS and SSL listeners", Label("few"), func(ctx context.Context) {
		rsa, ecdsa := cloud.Upload(pki.RSA2048, "rsa.example.test"), cloud.Upload(pki.P256, "ecdsa.example.test")
		lb := cloud.CreateLoadBalancer(backends,
			twin.HTTPS(8443, rsa.ARN), twin.HTTPS(8444, ecdsa.ARN), twin.SSL(8445, rsa.ARN), twin.SSL(8446, ecdsa.ARN))
		for port, cert := range map[int]*twin.Certificate{8443: rsa, 8444: ecdsa, 8445: rsa, 8446: ecdsa} {
			client := lb.Listener(port, cert.CA, cert.Leaf.DNSNames[0])
			Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.PresentCertificate(cert))
			Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())
		}

		By("being what was asked for: a fork that failed would serve as well, booted cold")
		Expect(cloud.Origin(ctx, lb.Machine().ID)).To(BeEquivalentTo(cloud.Mode))
	})

	It("passes requests of plain listeners and says whom they came from", func(ctx context.Context) {
		lb := cloud.CreateLoadBalancer(backends, twin.HTTP(8080), twin.TCP(8081))
		client := lb.Plain(8080)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		Eventually(lb.Plain(8081)).WithTimeout(twin.ChangeTimeout).Should(twin.BeServing())

		page, err := client.Get(ctx, "/some/path?with=query")
		Expect(err).NotTo(HaveOccurred())
		Expect(page.Path).To(HavePrefix("/some/path"))
		Expect(page.Headers).To(HaveKeyWithValue("X-Forwarded-Port", ConsistOf("8080")))
		Expect(page.Headers).To(HaveKeyWithValue("X-Forwarded-Proto", ConsistOf("http")))
		Expect(page.Headers).To(HaveKey("X-Forwarded-For"))
	})

	It("spreads requests over its backends", func(ctx context.Context) {
		lb := cloud.CreateLoadBalancer(backends, twin.HTTP(8082))
		client := lb.Plain(8082)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		answered := map[string]bool{}
		Eventually(func(g Gomega) {
			page, err := client.Get(ctx, "/")
			g.Expect(err).NotTo(HaveOccurred())
			answered[page.InstanceID] = true
			g.Expect(answered).To(And(HaveKey(backends[0]), HaveKey(backends[1])))
		}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
	})
})
