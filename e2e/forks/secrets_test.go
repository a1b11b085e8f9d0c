package forks

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("A template", Label("vm", twin.NeedsFork), func() {
	It("holds no key that the run made, and its forks write none into it", func(ctx context.Context) {
		scan := leakscan.Run{Trees: []string{templates}, Keys: append(runKeys(ctx), runSecrets()...)}
		report, err := scan.Check(ctx)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("scan", report.String(), ReportEntryVisibilityAlways)
		Expect(report.Err()).NotTo(HaveOccurred())
		Expect(report.Bytes).To(BeNumerically(">", 2*96<<20/2), "what was looked at, holes passed over")
	})

	It("would be found out: a key that was put there is found, and those in a fork's memory", func(ctx context.Context) {
		keys := runKeys(ctx)
		memory, err := os.ReadFile(filepath.Join(templateFolders(templates)[0], "memory"))
		Expect(err).NotTo(HaveOccurred())
		planted := filepath.Join(GinkgoT().TempDir(), "memory")
		block := cert.KeyPEM[bytes.IndexByte(cert.KeyPEM, '\n')+1:]
		copy(memory[len(memory)/2+13:], block[:128]) // of its PEM, which is longer
		secret, token := forks[0].frames.roleSecrets()
		copy(memory[len(memory)/3+5:], secret)
		copy(memory[len(memory)/4+7:], token)
		Expect(os.WriteFile(planted, memory, 0o600)).To(Succeed())
		report, err := leakscan.Run{Trees: []string{planted}, Keys: append(keys, runSecrets()...)}.Check(ctx)
		Expect(err).NotTo(HaveOccurred())
		instance := forks[0].instance
		key, own := HaveField("Key", HavePrefix("USERPK")), HaveField("Key", "role secret of "+instance)
		Expect(report.Leaks).To(ContainElements(key, own, HaveField("Key", "role token of "+instance)))
		// The tokens of all sessions begin alike.
		Expect(report.Leaks).To(HaveEach(Or(key, own, HaveField("Key", HavePrefix("role token of ")))))

		lbKeys, err := media.Keys()
		Expect(err).NotTo(HaveOccurred())
		holds := []string{lbKeys[instance].Name}
		for _, key := range keys {
			if strings.HasPrefix(key.Name, "USERPK") {
				holds = append(holds, key.Name)
			}
		}
		Expect(holds).To(HaveLen(2))
		report, err = leakscan.Run{Keys: keys, Processes: []leakscan.Process{
			{Role: leakscan.Guest, Name: "LBVM " + instance, PID: cloud.GuestProcess(instance), Holds: holds},
		}}.Check(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(report.Err()).NotTo(HaveOccurred(), "its own keys are in its memory, and no others'")
	})
})

// runKeys are all that the run made: USERPK, LBPKs, NODEPK and the cloud's own.
func runKeys(ctx context.Context) []leakscan.Key {
	GinkgoHelper()
	keys, err := leakscan.StateKeys(ctx, local.Layout(cloud.StateDir).Cloud(), local.Layout(cloud.NodeDir()).Node())
	Expect(err).NotTo(HaveOccurred())
	lbKeys, err := media.Keys()
	Expect(err).NotTo(HaveOccurred())
	Expect(len(lbKeys)).To(BeNumerically(">=", many))
	for _, key := range lbKeys {
		keys = append(keys, key)
	}
	return keys
}

// runSecrets are what the run made that is no private key: what guests were given to begin their randomness with, and
// what their roles sign requests with.
func runSecrets() []leakscan.Key {
	GinkgoHelper()
	secrets := media.Seeds()
	Expect(len(secrets)).To(BeNumerically(">=", many))
	for _, f := range forks {
		secret, token := f.frames.roleSecrets()
		secrets = append(secrets, leakscan.FromSecret("role secret of "+f.instance, []byte(secret)),
			leakscan.FromSecret("role token of "+f.instance, []byte(token)))
	}
	return secrets
}
