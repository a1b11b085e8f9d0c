package replay

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

// thirdSector of the floppy's files, counted from 0: before them are the boot sector, two tables of 9 sectors and the
// root folder's 14.
const thirdSector = "35"

// failed is what a guest says whose floppy cannot be read.
const failedStage = "failed"

var _ = Describe("A node whose guests cannot read their floppies", Label(twin.NeedsSim), Ordered, func() {
	var (
		cloud  *twin.Twin
		file   string
		reason string
	)
	BeforeAll(func(ctx context.Context) {
		cloud = twin.Start(twin.Guests(node.GuestsSim))
		file = filepath.Join(GinkgoT().TempDir(), "issue.zip")
		for _, f := range [][]string{
			{"api.latency", "--id", "slow", "--target", "ListRoles", "delay=5ms"},
			{"medium.read-error", "--id", "floppy", "--target", "lb:*", "sector=" + thirdSector},
			{"wire.delay", "--id", "wire", "--target", "image:web", "delay=1ms"},
		} {
			code, _, stderr := cloud.Command(ctx, append([]string{"fault", "add"}, f...)...)
			Expect(code).To(BeZero(), stderr)
		}
		cert := cloud.Upload(pki.P256, host)
		cloud.CreateLoadBalancer(nil, twin.HTTPS(securePort, cert.ARN))
		Eventually(givenUp).WithArguments(cloud).WithTimeout(cloud.BootTimeout()).
			ShouldNot(BeEmpty(), "a guest gives up and says why")
		var err error
		reason, err = givenUp(cloud)
		Expect(err).NotTo(HaveOccurred())
		code, _, stderr := cloud.Command(ctx, "bundle", "-o", file)
		Expect(code).To(BeZero(), stderr)
	})
	BeforeEach(func() { cloud.Allow("bad medium: ") })
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("fails again in the replay, for the same reason", func(ctx context.Context) {
		r := run(ctx, "inspect", file)
		Expect(r.Stdout).To(ContainSubstring(reason), r.Stderr)
		got := play(ctx, 0, file)
		Expect(got.Recorded.Faults).To(Equal(3))
		Expect(got.Replayed.Faults).To(Equal(3))
	})

	It("takes as long as it took, when it is told to", func(ctx context.Context) {
		got := play(ctx, 0, "--speed", "real", file)
		Expect(got.Same).To(BeTrue())
		Expect(got.Speedup).To(BeNumerically("<=", 1), "pauses are kept")
	})

	It("serves in the replay once the fault is cleared", func(ctx context.Context) {
		got := play(ctx, 1, "--no-faults", "--patience", "3s", file)
		Expect(got.FirstDifference).NotTo(BeNil())
		Expect(got.FirstDifference.Recorded).To(HaveField("Text", HavePrefix(failedStage)))
		Expect(got.FirstDifference.Replayed).To(HaveField("Text", HavePrefix("medium-read")))
	})

	It("fails for the one fault of three that it takes", Label(twin.Slow), func(ctx context.Context) {
		out := filepath.Join(filepath.Dir(file), "smallest.json")
		r := run(ctx, "replay", "--guests", "sim", "--bisect", "--patience", "4s", "-o", out, file)
		Expect(r.Code).To(BeZero(), r.Stderr)
		text, err := os.ReadFile(out)
		Expect(err).NotTo(HaveOccurred())
		Expect(text).To(MatchJSON(r.Stdout))
		smallest, err := fault.Parse(text)
		Expect(err).NotTo(HaveOccurred())
		Expect(smallest.Faults).To(HaveExactElements(HaveField("ID", "floppy")))
		Expect(json.Valid(text)).To(BeTrue())
	})
})
