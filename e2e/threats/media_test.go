package threats

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// field changes a field of the floppy's credential.
func field(name string, value func(was []byte) []byte) func(map[string][]byte) {
	return func(files map[string][]byte) {
		credential := map[string]string{}
		if json.Unmarshal(files["credential"], &credential) != nil {
			return
		}
		was, _ := base64.StdEncoding.DecodeString(credential[name])
		credential[name] = base64.StdEncoding.EncodeToString(value(was))
		files["credential"], _ = json.Marshal(credential)
	}
}

// identity puts an LBPK and LBCERT of the attacker's on a floppy, and with iam an IAMCERT that signed it too.
func identity(iam bool) func(map[string][]byte) {
	return func(files map[string][]byte) {
		boot := struct{ InstanceID string }{}
		_ = json.Unmarshal(files["cloudtwin.json"], &boot)
		key, by := newECKey(), newECKey()
		template := template(&party{Guest: &twin.Guest{InstanceID: boot.InstanceID}})
		ca := &x509.Certificate{SerialNumber: template.SerialNumber, Subject: template.Issuer,
			NotBefore: template.NotBefore, NotAfter: template.NotAfter, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, ca, ca, by.Public(), by)
		if err != nil {
			return
		}
		signer := issuer{ca, by}
		text, _ := marshalKey(key)
		field("instance_pk", func([]byte) []byte { return text })(files)
		field("instance_pub_key", func([]byte) []byte { return signer.sign(template, key.Public()) })(files)
		if iam {
			field("iam_pub_key", func([]byte) []byte {
				return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			})(files)
		}
	}
}

// copied keeps a copy of the floppy in memory, which goes after the spec, and leaves the drive empty.
func copied(to *string) sabotage {
	return func(spec hypervisor.Spec) string {
		image, err := os.ReadFile(spec.Medium)
		if err != nil {
			return ""
		}
		path := filepath.Join(filepath.Dir(filepath.Dir(spec.Medium)), "copy-of-"+spec.ID)
		if os.WriteFile(path, image, 0o600) == nil {
			*to = path
		}
		return ""
	}
}

// mediumFails is how a guest says that it does not take its floppy.
const mediumFails = `"stage":"failed".*"reason":"(bad medium: |medium: |medium is for another)`

var _ = Describe("A floppy", Label(twin.NeedsSim), Ordered, func() {
	const mediumLife = 1500 * time.Millisecond
	var h *hostMachine
	twin.KeepEvidence(func() *twin.Twin {
		if h == nil {
			return nil
		}
		return h.cloud
	})

	BeforeAll(func() { h = startHost(mediumLife) })
	BeforeEach(func() { h.cloud.Allow(mediumFails) })
	AfterEach(func() { h.plan() })

	DescribeTable(
		"that is not what the node wrote brings no key",
		func(do func() sabotage, reason string) {
			h.plan(do())
			client, cert := h.balancer()
			id := h.expectNoKey(client, cert, reason)
			Expect(h.milestone(id, "medium-read")).To(BeNil())
		},
		Entry("bytes altered", repels(floppyAltered), func() sabotage {
			return rewriting(field("instance_pub_key", func(was []byte) []byte { was[100] ^= 0x80; return was }))
		}, "bad medium"),
		Entry("a bit of LBCERT altered", repels(floppyAltered, "medium-issuer"), func() sabotage {
			return rewriting(field("instance_pub_key", func(was []byte) []byte {
				block, _ := pem.Decode(was)
				block.Bytes[len(block.Bytes)-1] ^= 1 // the last of the signature
				return pem.EncodeToMemory(block)
			}))
		}, "LBCERT is not signed by IAMCERT"),
		Entry("another LBPK", repels(floppyAltered, "medium-pair"), func() sabotage {
			return rewriting(field("instance_pk", func([]byte) []byte { text, _ := marshalKey(newECKey()); return text }))
		}, "LBPK does not belong to LBCERT"),
		Entry("another LBCERT with its LBPK", repels(floppyAltered, "medium-issuer"), func() sabotage {
			return rewriting(identity(false))
		}, "LBCERT is not signed by IAMCERT"),
		Entry("made for another instance by its other file", repels(floppyAltered, "medium-boot"), func() sabotage {
			return rewriting(func(files map[string][]byte) {
				boot := map[string]any{}
				_ = json.Unmarshal(files["cloudtwin.json"], &boot)
				boot["instanceId"] = "i-0123456789abcdef0"
				files["cloudtwin.json"], _ = json.Marshal(boot)
			})
		}, "is for instance"),
		Entry("without its credential", repels(floppyAltered), func() sabotage {
			return rewriting(func(files map[string][]byte) { delete(files, "credential") })
		}, "bad medium"),
		Entry("zeros", repels(floppyAltered), func() sabotage {
			return altering(func(image []byte) []byte { clear(image); return image })
		}, "bad medium"),
		Entry("cut short in its files", repels(floppyTruncated), func() sabotage {
			return altering(func(image []byte) []byte { return image[:17<<10] })
		}, "bad medium"),
		Entry("cut short in its tables", repels(floppyTruncated), func() sabotage {
			return altering(func(image []byte) []byte { return image[:600] })
		}, "bad medium"),
		Entry("with read errors", repels(floppyErrors), func() sabotage {
			// Whatever is read here at the beginning is an input/output error.
			return func(hypervisor.Spec) string { return "/proc/self/mem" }
		}, "bad medium"),
		Entry("missing", repels(floppyMissing), func() sabotage {
			return func(hypervisor.Spec) string { return "" }
		}, "did not read its medium within"),
	)

	It("that is somebody's own throughout is refused by the cloud", repels(floppyAltered, "issuer"), func() {
		h.plan(rewriting(identity(true)))
		_, _ = h.balancer()
		Eventually(h.victims).WithTimeout(h.cloud.BootTimeout()).Should(HaveLen(1))
		id := h.victims()[0]
		Eventually(h.why).WithArguments(id).WithTimeout(h.cloud.BootTimeout()).Should(And(
			ContainSubstring("lbcert-issuer"), ContainSubstring("refused: NotAuthorized")))
		Expect(deliveries(h.cloud, id)).To(BeZero())
		client, cert := h.balancer()
		Eventually(client).WithTimeout(h.cloud.BootTimeout()).Should(twin.PresentCertificate(cert))
	})

	It("swapped with another guest's brings neither guest a key", repels(floppySwapped, "medium-instance"), func() {
		one, two := make(chan []byte, 1), make(chan []byte, 1)
		swap := func(give, take chan []byte) sabotage {
			return altering(func(image []byte) []byte {
				give <- image
				return <-take
			})
		}
		h.plan(swap(one, two), swap(two, one))
		first, cert1 := h.balancer()
		second, cert2 := h.balancer()
		Eventually(h.victims).WithTimeout(h.cloud.BootTimeout()).Should(HaveLen(2))
		for _, id := range h.victims() {
			h.awaitEnd(id)
			Expect(h.why(id)).To(ContainSubstring("medium is for another instance"))
			Expect(deliveries(h.cloud, id)).To(BeZero())
		}
		By("serving with the guests that come in their place")
		Eventually(first).WithTimeout(h.cloud.BootTimeout()).Should(twin.PresentCertificate(cert1))
		Eventually(second).WithTimeout(h.cloud.BootTimeout()).Should(twin.PresentCertificate(cert2))
	})

	It("that comes late is taken while it is good, and by nobody else afterwards", repels(floppyLate), func() {
		var path string
		h.plan(func(spec hypervisor.Spec) string { path = spec.Medium; return "" })
		client, cert := h.balancer()
		Eventually(func() bool {
			ids := h.victims()
			return len(ids) == 1 && h.milestone(ids[0], "ready-for-medium") != nil
		}).WithTimeout(h.cloud.BootTimeout()).Should(BeTrue())
		machine, err := h.sims.Find(background(), h.victims()[0])
		Expect(err).NotTo(HaveOccurred())
		Expect(machine.InsertMedium(background(), path)).To(Succeed())
		Eventually(client).WithTimeout(h.cloud.BootTimeout()).Should(twin.PresentCertificate(cert))

		By("putting another guest's floppy into its drive when that one's time is over")
		var stolen string
		h.plan(copied(&stolen))
		late, lateCert := h.balancer()
		ended := h.expectNoKey(late, lateCert, "did not read its medium within")
		Expect(stolen).NotTo(BeEmpty())
		DeferCleanup(os.Remove, stolen)
		Expect(machine.InsertMedium(background(), stolen)).To(Succeed())
		Eventually(func() map[string]string { return h.milestone(machine.ID(), "medium-refused") }).
			WithTimeout(twin.ChangeTimeout).Should(HaveKeyWithValue("reason", "medium is for another instance"))
		Expect(client).To(twin.PresentCertificate(cert))
		Expect(deliveries(h.cloud, ended)).To(BeZero())
	})
})

var _ = Describe("A real guest's floppy", Label(twin.NeedsFork, "vm"), Ordered, func() {
	var h *hostMachine
	twin.KeepEvidence(func() *twin.Twin {
		if h == nil {
			return nil
		}
		return h.cloud
	})

	BeforeAll(func() { h = startHost(0) })
	BeforeEach(func() { h.cloud.Allow(mediumFails) })
	AfterEach(func() { h.plan() })

	DescribeTable(
		"that is not what the node wrote brings no key",
		func(do func() sabotage, reason string) {
			h.plan(do())
			client, cert := h.balancer()
			h.expectNoKey(client, cert, reason)
		},
		Entry("another LBCERT with its LBPK", repels(floppyAltered), func() sabotage { return rewriting(identity(false)) },
			"LBCERT is not signed by IAMCERT"),
		Entry("files cut off", repels(floppyTruncated), func() sabotage {
			// The drive has whole tracks only: the rest of it is zeros.
			return altering(func(image []byte) []byte { clear(image[17<<10:]); return image })
		}, "bad medium"),
	)
})
