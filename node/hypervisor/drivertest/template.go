package drivertest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2" //nolint:staticcheck // the language of the suite
	. "github.com/onsi/gomega"    //nolint:staticcheck // the language of the suite

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// templates are about the files of a template, and about bad ones.
func templates(harness func() Harness) {
	Describe("a template", Ordered, func() {
		const id = "i-copy"
		var n *nursery
		current := func() *nursery { return n }

		BeforeAll(func(ctx context.Context) { n = openNursery(ctx, harness()) }, NodeTimeout(specTime))
		AfterEach(func(ctx context.Context) {
			Expect(n.driver.List(ctx)).To(BeEmpty(), "nothing is left")
			Expect(n.spec(id).NIC.Socket).NotTo(BeAnExistingFile())
			Consistently(n.seen.of).WithArguments(id).WithTimeout(100 * time.Millisecond).Should(BeEmpty())
		})

		It("is two files for their owner only", func() {
			for path, size := range map[string]int64{n.template.Memory: 96 << 20, n.template.State: 0} {
				info, err := os.Stat(path)
				Expect(err).NotTo(HaveOccurred())
				Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o600)))
				if size != 0 {
					Expect(info.Size()).To(Equal(size))
				}
			}
		})

		It("has a ground that can be told in one line, and stays the same", func(ctx context.Context) {
			ground, err := n.forker().Ground(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(ground).NotTo(Or(BeEmpty(), ContainSubstring("\n")))
			Expect(n.forker().Ground(ctx)).To(Equal(ground))
		})

		It("is not made over another one", func(ctx context.Context) {
			_, err := n.forker().StartTemplate(ctx, n.spec(id), n.template)
			Expect(err).To(MatchError(os.ErrExist))
			Expect(n.sum() == n.sums).To(BeTrue())
		})

		damages(id, current)

		It("is refused for a machine with other memory", func(ctx context.Context) {
			spec := n.spec(id)
			spec.MemoryMB *= 2
			_, err := n.forker().Fork(ctx, spec, n.template)
			Expect(err).To(MatchError(hypervisor.ErrTemplate))
		}, SpecTimeout(specTime))

		It("is not at fault for what its machine lacks", func(ctx context.Context) {
			spec := n.spec(id)
			spec.Medium = filepath.Join(n.Dir, "missing.img")
			_, err := n.forker().Fork(ctx, spec, n.template)
			Expect(err).To(MatchError(os.ErrNotExist))
			Expect(err).NotTo(MatchError(hypervisor.ErrTemplate))
		}, SpecTimeout(specTime))

		It("is not copied when nobody waits for it any more", func(ctx context.Context) {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			_, err := n.forker().Fork(ended, n.spec(id), n.template)
			Expect(err).To(MatchError(context.Canceled))
		})

		It("keeps no machines ready when none are wanted", func(ctx context.Context) {
			Expect(n.forker().Prepare(ctx, n.spec("i-shape"), n.template, 1, nil)).To(Succeed())
			Eventually(n.Spares).WithTimeout(n.boot()).Should(Equal(1))
			Expect(n.forker().Prepare(ctx, n.spec("i-shape"), n.template, 0, nil)).To(Succeed())
			Expect(n.Spares()).To(BeZero())
			Expect(n.forker().Prepare(ctx, n.spec("i-shape"), n.template, -1, nil)).NotTo(Succeed())
		}, SpecTimeout(specTime))
	})
}

// damages are what may have happened to a template's files.
func damages(id string, of func() *nursery) {
	DescribeTable("is refused when it is damaged", func(ctx context.Context, damage func(hypervisor.Template) error) {
		n := of()
		dir, err := os.MkdirTemp(n.Dir, "d")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(os.RemoveAll, dir)
		bad := hypervisor.Template{Memory: filepath.Join(dir, "memory"), State: filepath.Join(dir, "state")}
		Expect(os.Link(n.template.Memory, bad.Memory)).To(Succeed())
		state, err := os.ReadFile(n.template.State)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(bad.State, state, 0o600)).To(Succeed()) //nolint:gosec // in the suite's own folder
		Expect(damage(bad)).To(Succeed())
		spec := n.spec(id)
		spec.Medium = n.medium("refused", "recall")
		_, err = n.forker().Fork(ctx, spec, bad)
		Expect(err).To(MatchError(hypervisor.ErrTemplate))
	},
		Entry("no memory", func(t hypervisor.Template) error { return os.Remove(t.Memory) }),
		Entry("no state", func(t hypervisor.Template) error { return os.Remove(t.State) }),
		Entry("memory that was cut short", func(t hypervisor.Template) error {
			if err := os.Remove(t.Memory); err != nil {
				return err
			}
			return os.WriteFile(t.Memory, make([]byte, 1<<20), 0o600)
		}),
		Entry("an empty state", func(t hypervisor.Template) error { return os.Truncate(t.State, 0) }),
		Entry("a state that was cut short", func(t hypervisor.Template) error { return halve(t.State) }),
		Entry("a state that is something else", func(t hypervisor.Template) error {
			return os.WriteFile(t.State, []byte(strings.Repeat("no state at all\n", 1000)), 0o600)
		}),
	)
}

// halve leaves the first half of a file.
func halve(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()/2)
}
