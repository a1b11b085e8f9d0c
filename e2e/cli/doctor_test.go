package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
)

// finding is a line of the doctor's report.
type finding struct{ Check, Status, Found, Advice string }

var _ = Describe("cloudtwin doctor", func() {
	// examine runs the doctor, in an environment with further variables, and returns its report.
	examine := func(ctx context.Context, env []string, args ...string) (map[string]finding, result) {
		GinkgoHelper()
		cmd := command(ctx, append([]string{"doctor", "--json", "--guests", "fork"}, args...)...) // the last word counts
		cmd.Env = append(cmd.Environ(), env...)
		r := finish(cmd)
		var rows []finding
		Expect(json.Unmarshal([]byte(r.Stdout), &rows)).To(Succeed(), "%s%s", r.Stdout, r.Stderr)
		report := map[string]finding{}
		for _, row := range rows {
			report[row.Check] = row
		}
		return report, r
	}
	be := func(status string, says types.GomegaMatcher) types.GomegaMatcher {
		words := func(f finding) string { return f.Found + "\n" + f.Advice }
		return And(HaveField("Status", status), WithTransform(words, says))
	}
	noPrograms := []string{"PATH=/nonexistent"}

	It("finds that the main job can run here, and on what", func(ctx context.Context) {
		report, r := examine(ctx, nil)
		Expect(r.Code).To(BeZero(), r.Stdout)
		Expect(report).To(And(
			HaveKeyWithValue("qemu", be("ok", MatchRegexp(`QEMU \d`))),
			HaveKeyWithValue("libvirt", be("ok", ContainSubstring("libvirt"))),
			HaveKeyWithValue("accelerator", HaveField("Found", MatchRegexp("^(kvm|tcg), proved: .+"))),
			HaveKeyWithValue("images", be("ok", And(ContainSubstring("lbvm"), ContainSubstring("web")))),
			HaveKeyWithValue("memory", HaveField("Found", MatchRegexp(`\d+ MB available of \d+`))),
			HaveKeyWithValue("memory folder", be("ok", ContainSubstring("in memory"))),
			HaveKey("disk of the state"), HaveKey("disk of the cache"), HaveKey("socket paths"), HaveKey("open files"),
			HaveKey("docker"), HaveKey("low ports"), HaveKey("kernel package"), HaveKey("firmware"), HaveKey("loopback"),
		))
	})

	It("says on a machine without QEMU what to install", func(ctx context.Context) {
		report, r := examine(ctx, noPrograms)
		Expect(r.Code).To(Equal(3))
		Expect(r.Stderr).To(ContainSubstring("cannot run on this machine"))
		Expect(report).To(HaveKeyWithValue("qemu", be("fail", ContainSubstring("apt-get install qemu-system-x86"))))

		By("finding enough for simulated guests")
		report, r = examine(ctx, noPrograms, "--guests", "sim")
		Expect(r.Code).To(BeZero(), r.Stdout)
		Expect(report).To(HaveKeyWithValue("qemu", be("warn", ContainSubstring("simulated guests need none"))))
	})

	DescribeTable("says what is wrong with", func(ctx context.Context, check, says string, args ...string) {
		report, r := examine(ctx, nil, args...)
		Expect(r.Code).To(Equal(3))
		Expect(report).To(HaveKeyWithValue(check, be("fail", ContainSubstring(says))))
	},
		Entry("images that were not built", "images", "cloudtwin image build", "--images", "/nonexistent"),
		Entry("a state folder whose path is too long", "socket paths", "--state", "--state",
			filepath.Join("/tmp", strings.Repeat("x", 100))),
	)

	It("prints a table for people", func(ctx context.Context) {
		r := invoke(ctx, "doctor")
		Expect(r.Code).To(BeZero(), r.Stdout)
		Expect(r.Stdout).To(MatchRegexp(`(?m)^ok +qemu +QEMU \d`))
	})
})
