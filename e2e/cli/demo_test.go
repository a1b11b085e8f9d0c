package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("cloudtwin demo", Label("vm"), func() {
	It("tells every step as JSON and leaves evidence and nothing else", func(ctx context.Context) {
		state, evidence := stateFolder(), evidenceFolder()
		r := invoke(ctx, "demo", "--json", "--state", state, "--evidence", evidence)
		Expect(r.Code).To(BeZero(), r.Stderr)

		var numbers []string
		var report map[string]any
		for lines := bufio.NewScanner(strings.NewReader(r.Stdout)); lines.Scan(); {
			var ev map[string]any
			Expect(json.Unmarshal(lines.Bytes(), &ev)).To(Succeed(), lines.Text())
			if ev["event"] == "end" && ev["number"] != nil {
				numbers = append(numbers, ev["number"].(string))
			}
			if ev["event"] == "report" {
				report = ev["report"].(map[string]any)
			}
		}
		Expect(strings.Join(numbers, "")).To(MatchRegexp("^1+2+3+4+5+6+7+$"), "steps of the journey, in order")
		Expect(report).To(HaveKeyWithValue("servedFingerprint", report["uploadedFingerprint"]))
		Expect(report["answers"]).To(HaveLen(2))
		Expect(filepath.Join(evidence, "report.json")).To(BeARegularFile())
		Expect(filepath.Join(evidence, "served-chain.pem")).To(BeARegularFile())
		Expect(filepath.Glob(filepath.Join(evidence, "consoles", "*.log"))).To(HaveLen(3))
		expectNothingLeft(state)
		expectNoKeyIn(evidence)
	})

	It("leaves nothing after Ctrl-C", Label(twin.NeedsKernel), func(ctx context.Context) {
		state := stateFolder()
		session := startDemo(ctx, state)
		session.Interrupt()
		Eventually(session).WithTimeout(twin.ChangeTimeout).Should(gexec.Exit(130))
		expectNothingLeft(state)
	})

	It("cleans up after a run that was killed", Label(twin.NeedsKernel), func(ctx context.Context) {
		state := stateFolder()
		session := startDemo(ctx, state)
		Expect(session.Command.Process.Signal(syscall.SIGKILL)).To(Succeed())
		Eventually(session).WithTimeout(twin.ChangeTimeout).Should(gexec.Exit())
		Expect(twin.Processes(state)).NotTo(BeEmpty(), "guests outlive the process")

		r := invoke(ctx, "demo", "--state", state, "--evidence", evidenceFolder())
		Expect(r.Code).To(BeZero(), r.Stderr)
		Expect(r.Stdout).To(And(ContainSubstring("guest serves TLS"), ContainSubstring("fingerprint (SHA-256), the same"),
			ContainSubstring("hello from backend-1"), ContainSubstring("hello from backend-2")))
		expectNothingLeft(state)
	})
})

// startDemo starts the demo and returns while its load balancer boots.
func startDemo(ctx context.Context, state string) *gexec.Session {
	GinkgoHelper()
	cmd := command(context.WithoutCancel(ctx), "demo", "--state", state, "--evidence", evidenceFolder())
	session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	Eventually(session.Out).WithTimeout(twin.BootTimeout(twin.Mode())).Should(gbytes.Say("floppy written, guest started"))
	return session
}

func expectNoKeyIn(dir string) {
	GinkgoHelper()
	Expect(filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		Expect(string(text)).NotTo(ContainSubstring("PRIVATE KEY"), path)
		return err
	})).To(Succeed())
}
