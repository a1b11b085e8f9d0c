package cli

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("The exit code", func() {
	DescribeTable(
		"is 2 for a command line that cannot be carried out",
		func(ctx context.Context, says string, args ...string) {
			r := invoke(ctx, args...)
			Expect(r.Code).To(Equal(2), r.Stderr)
			Expect(r.Stderr).To(And(ContainSubstring(says), ContainSubstring("--help")))
		},
		Entry("unknown command", `unknown command "upp"`, "upp"),
		Entry("unknown flag", "unknown flag: --fast", "demo", "--fast"),
		Entry("argument where none is taken", "takes no arguments", "ps", "all"),
		Entry("argument missing", "takes one argument", "console"),
		Entry("flag that is no duration", "invalid argument", "demo", "--step-timeout", "soon"),
		Entry("guests of no kind", "want one of sim, fork, cold", "demo", "--guests", "warm"),
		Entry("pool of guests that have none", "--pool 2: only forked guests", "up", "--guests", "cold", "--pool", "2"),
		Entry("unknown log level", "--log", "ps", "--log", "loud"),
		Entry("node without a cloud", "--cloud is required", "node"),
		Entry("half of one's own kernel", "both the kernel and its modules", "image", "build", "--kernel", "/boot/vmlinuz"),
		Entry("unknown flavour", "flavour", "image", "build", "windows"),
	)

	It("is 3 when no cloud runs, and says how to start one", func(ctx context.Context) {
		for _, args := range [][]string{{"ps"}, {"env"}, {"console", "i-1"}, {"node-token"}} {
			r := invoke(ctx, append(args, "--state", stateFolder())...)
			Expect(r.Code).To(Equal(3), "%v: %s", args, r.Stderr)
			Expect(r.Stderr).To(ContainSubstring("cloudtwin up"))
		}
	})

	It("is 3 without images, and says how to build them", func(ctx context.Context) {
		state := stateFolder()
		r := invoke(ctx, "demo", "--guests", "fork", "--state", state, "--images", "/nonexistent",
			"--evidence", GinkgoT().TempDir())
		Expect(r.Code).To(Equal(3), r.Stderr)
		Expect(r.Stderr).To(ContainSubstring("cloudtwin image build"))
		expectNothingLeft(state)
	})

	It("is 0 for help of every command", func(ctx context.Context) {
		for _, args := range [][]string{{}, {"up"}, {"down"}, {"env"}, {"demo"}, {"node"}, {"node-token"}, {"ps"},
			{"console"}, {"doctor"},
			{"image"}, {"image", "build"}, {"image", "ls"}, {"image", "inspect"}, {"completion", "bash"}} {
			r := invoke(ctx, append(args, "--help")...)
			Expect(r.Code).To(BeZero(), "%v: %s", args, r.Stderr)
			Expect(r.Stdout).To(ContainSubstring("Usage:"))
		}
	})
})
