// Package leaks searches what a run leaves, in files and in memory, for the private keys that the run made: each is
// where the protocol says that it is, and nowhere else.
package leaks

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

func TestLeaks(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "leaks")
}

var cloud *twin.Twin

var _ = BeforeSuite(func() { cloud = twin.Start() })

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = twin.CheckMode()

var _ = Describe("After deliveries", Label("vm", twin.NeedsKernel), func() {
	It("finds every key where it must be and nowhere else", func(ctx context.Context) {
		run := local.Layout(cloud.NodeDir()).Media()
		media, err := leakscan.WatchMedia(filepath.Join(run, "media"))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(media.Close)

		certificates := []*twin.Certificate{cloud.Upload(pki.RSA2048, "rsa.example.test"),
			cloud.Upload(pki.P256, "ecdsa.example.test")}
		lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, certificates[0].ARN), twin.HTTPS(8444, certificates[1].ARN))
		for i, c := range certificates {
			client := lb.Listener(8443+i, c.CA, c.Leaf.DNSNames[0])
			Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.PresentCertificate(c))
		}
		guest := lb.Machine().ID

		scan := leakscan.Run{
			Trees: []string{filepath.Dir(cloud.StateDir), run}, // the twin's folder, logs and all, and the node's in memory
			Media: []string{filepath.Join(run, "media")},
		}
		scan.Keys, err = leakscan.StateKeys(ctx, local.Layout(cloud.StateDir).Cloud(),
			local.Layout(cloud.NodeDir()).Node())
		Expect(err).NotTo(HaveOccurred())
		lbKeys, err := media.Keys()
		Expect(err).NotTo(HaveOccurred())
		Expect(lbKeys).To(HaveKey(guest), "the LBVM's medium was seen")
		holds := []string{}
		for _, key := range lbKeys {
			scan.Keys = append(scan.Keys, key)
		}
		for _, key := range scan.Keys {
			if strings.HasPrefix(key.Name, "USERPK") || key.Name == lbKeys[guest].Name {
				holds = append(holds, key.Name)
			}
		}
		Expect(holds).To(HaveLen(3), "LBPK and two USERPKs")
		scan.Processes = []leakscan.Process{
			{Role: leakscan.Cloud, Name: "cloud", PID: twin.ProcessOf("\x00up\x00", cloud.StateDir)},
			{Role: leakscan.Node, Name: "node", PID: twin.ProcessOf("\x00node\x00", cloud.NodeDir())},
			{Role: leakscan.Guest, Name: "LBVM " + guest, PID: twin.ProcessOf("qemu", guest), Holds: holds},
		}
		report, err := scan.Check(ctx)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("leak scan", report.String(), ReportEntryVisibilityAlways)
		Expect(report.Err()).NotTo(HaveOccurred())
	})
})

var _ = It("fails a run that leaves a key where none may be", func() {
	own := twin.StartCloud()
	certificate := own.Upload(pki.P256, "stray.example.test")
	stray := filepath.Join(own.StateDir, "notes.txt")
	Expect(os.WriteFile(stray, certificate.KeyPEM, 0o600)).To(Succeed())
	Expect(own.FindLeaks()).To(MatchError(And(ContainSubstring("USERPK of "+certificate.ARN), ContainSubstring(stray))))
	Expect(os.Remove(stray)).To(Succeed())
	Expect(own.FindLeaks()).To(Succeed())
})
