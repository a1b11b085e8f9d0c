package drivertest

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"sync"

	. "github.com/onsi/ginkgo/v2" //nolint:staticcheck // the language of the suite
	. "github.com/onsi/gomega"    //nolint:staticcheck // the language of the suite

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// refusals are starts that must fail and leave nothing behind.
func refusals(harness func() Harness) {
	Describe("a machine that cannot be", Ordered, func() {
		const id = "i-refused"
		var b *bench

		BeforeAll(func(ctx context.Context) { b = openBench(ctx, harness()) }, NodeTimeout(specTime))
		AfterEach(func(ctx context.Context) {
			Expect(b.driver.List(ctx)).To(BeEmpty(), "nothing is left")
			Expect(b.seen.of(id)).NotTo(ContainElement(hypervisor.Running))
		})

		It("is not found", func(ctx context.Context) {
			_, err := b.driver.Find(ctx, "i-unknown")
			Expect(err).To(MatchError(hypervisor.ErrNotFound))
			_, err = b.driver.Find(ctx, "../no id at all")
			Expect(err).To(MatchError(hypervisor.ErrNotFound))
		})

		It("is refused with all that is wrong with its description", func(ctx context.Context) {
			spec := b.spec("no id")
			spec.MemoryMB = 1
			_, err := b.driver.Start(ctx, spec)
			Expect(err).To(MatchError(And(ContainSubstring("ID"), ContainSubstring("MemoryMB"))))
		})

		DescribeTable("is refused when a file is missing", func(ctx context.Context, edit func(*hypervisor.Spec, string)) {
			spec := b.spec(id)
			missing := filepath.Join(b.Dir, "missing")
			edit(&spec, missing)
			if spec.NIC.Socket != b.spec(id).NIC.Socket {
				b.needSocket()
			}
			_, err := b.driver.Start(ctx, spec)
			Expect(err).To(MatchError(os.ErrNotExist))
			Expect(err).To(MatchError(ContainSubstring(missing)), "the error names the file")
			var fault *hypervisor.Error
			Expect(errors.As(err, &fault)).To(BeTrue(), "it is the machine's fault, not the host's")
			Expect(fault.MachineID).To(Equal(id))
		},
			Entry("kernel", func(s *hypervisor.Spec, path string) { s.Kernel = path }),
			Entry("initrd", func(s *hypervisor.Spec, path string) { s.Initrd = path }),
			Entry("medium", func(s *hypervisor.Spec, path string) { s.Medium = path }),
			Entry("folder of the console log", func(s *hypervisor.Spec, path string) { s.ConsoleLog = path + "/log" }),
			Entry("folder of the network socket", func(s *hypervisor.Spec, path string) { s.NIC.Socket = path + "/s" }),
		)

		It("is refused when others could connect to its network", func(ctx context.Context) {
			b.needSocket()
			open := filepath.Join(b.Dir, "open")
			Expect(os.Mkdir(open, 0o700)).To(Succeed())
			Expect(os.Chmod(open, 0o755)).To(Succeed()) //nolint:gosec // that is what is tested
			spec := b.spec(id)
			spec.NIC.Socket = filepath.Join(open, "s")
			_, err := b.driver.Start(ctx, spec)
			Expect(err).To(MatchError(ContainSubstring("0700")))
		})

		It("is not started when nobody waits for it any more", func(ctx context.Context) {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			_, err := b.driver.Start(ended, b.spec(id))
			Expect(err).To(MatchError(context.Canceled))
		})
	})
}

// ends are the other ways in which a guest ends.
func ends(harness func() Harness) {
	Describe("the end of a machine", Ordered, func() {
		const id = "i-ends"
		var b *bench

		BeforeAll(func(ctx context.Context) { b = openBench(ctx, harness()) }, NodeTimeout(specTime))
		BeforeEach(func() { evidence(b.spec(id).ConsoleLog) })
		AfterEach(func(ctx context.Context) {
			if m, err := b.driver.Find(ctx, id); err == nil {
				Expect(m.Kill(ctx)).To(Succeed())
			}
		})

		It("is a stop when the guest powers itself off, with the medium it started with", func(ctx context.Context) {
			spec := b.spec(id)
			spec.Medium = b.medium("first", "power-off")
			m, err := b.driver.Start(ctx, spec)
			Expect(err).NotTo(HaveOccurred())
			console := follow(ctx, m)
			Eventually(console.ended).WithTimeout(b.boot() + soon).Should(BeClosed())
			Expect(console.said()).To(HaveExactElements("booted", "ready", "medium power-off", "power-off"))
			Eventually(b.seen.of).WithArguments(id).WithTimeout(soon).Should(ContainElement(hypervisor.Stopped))
			Eventually(state(ctx, m)).Should(Equal(hypervisor.Stopped))
		}, SpecTimeout(specTime))

		It("is a crash when its kernel panics; its console has no byte of a machine before it", func(ctx context.Context) {
			spec := b.spec(id)
			before, err := os.Stat(spec.ConsoleLog)
			Expect(err).NotTo(HaveOccurred())
			Expect(before.Size()).To(BeNumerically(">", 0), "the log of the machine before is there")
			spec.Medium = b.medium("panic", "panic")
			m, err := b.driver.Start(ctx, spec)
			Expect(err).NotTo(HaveOccurred())
			console := follow(ctx, m)
			Eventually(console.ended).WithTimeout(b.boot() + soon).Should(BeClosed())
			Expect(console.said()).To(HaveExactElements("booted", "ready", "medium panic"))
			Expect(console.all()).To(ContainElement(ContainSubstring("Kernel panic")))
			Eventually(b.seen.of).WithArguments(id).WithTimeout(soon).Should(ContainElement(hypervisor.Crashed))
			Eventually(state(ctx, m)).Should(Equal(hypervisor.Crashed))
		}, SpecTimeout(specTime))

		It("comes at once when it is killed", func(ctx context.Context) {
			m, err := b.driver.Start(ctx, b.spec(id))
			Expect(err).NotTo(HaveOccurred())
			console := follow(ctx, m)
			Expect(m.Kill(ctx)).To(Succeed())
			expectRemains(ctx, m)
			Eventually(console.ended).WithTimeout(soon).Should(BeClosed())
			Expect(console.failure()).NotTo(HaveOccurred())
			Eventually(b.seen.reasons).WithArguments(id, hypervisor.Stopped).Should(ContainElement("destroyed"))
			Expect(m.State(ctx)).To(Equal(hypervisor.Gone))
		}, SpecTimeout(specTime))

		It("is not brought about by several starts of one id: exactly one runs", func(ctx context.Context) {
			const starts = 5
			var wg sync.WaitGroup
			results := make([]error, starts)
			for i := range starts {
				wg.Go(func() { _, results[i] = b.driver.Start(ctx, b.spec(id)) })
			}
			wg.Wait()
			Expect(results).To(ContainElement(BeNil()))
			Expect(results).To(ConsistOf(BeNil(), MatchError(hypervisor.ErrExists), MatchError(hypervisor.ErrExists),
				MatchError(hypervisor.ErrExists), MatchError(hypervisor.ErrExists)))
			Expect(b.driver.List(ctx)).To(ConsistOf(HaveField("ID()", id)))
		}, SpecTimeout(specTime))
	})
}

// expectRemains looks at what a driver that has something to show of its machines shows of one that was killed.
func expectRemains(ctx context.Context, m hypervisor.Machine) {
	GinkgoHelper()
	witness, able := m.(hypervisor.Witness)
	if !able {
		return
	}
	files, err := witness.Evidence(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(files).To(HaveKeyWithValue(hypervisor.EvidenceDomain, ContainSubstring(m.ID())))
}

// displays are about machines that have one.
func displays(harness func() Harness) {
	Describe("a machine's display", Ordered, func() {
		const id = "i-display"
		var b *bench

		BeforeAll(func(ctx context.Context) {
			if !harness().HasDisplay {
				Skip("this driver's machines have no display by design (Harness.HasDisplay)")
			}
			b = openBench(ctx, harness())
		}, NodeTimeout(specTime))
		AfterEach(func(ctx context.Context) {
			if m, err := b.driver.Find(ctx, id); err == nil {
				Expect(m.Kill(ctx)).To(Succeed())
			}
		})

		It("is not there unless asked for", func(ctx context.Context) {
			m, err := b.driver.Start(ctx, b.spec(id))
			Expect(err).NotTo(HaveOccurred())
			_, can := m.(hypervisor.Screenshotter)
			Expect(can).To(BeFalse())
		}, SpecTimeout(specTime))

		It("gives a picture", func(ctx context.Context) {
			spec := b.spec(id)
			spec.Display = true
			m, err := b.driver.Start(ctx, spec)
			Expect(err).NotTo(HaveOccurred())
			screen, can := m.(hypervisor.Screenshotter)
			Expect(can).To(BeTrue())
			shot, err := screen.Screenshot(ctx)
			Expect(err).NotTo(HaveOccurred())
			picture, err := png.Decode(bytes.NewReader(shot))
			Expect(err).NotTo(HaveOccurred())
			Expect(picture.Bounds().Dx()).To(BeNumerically(">=", 640))
			By("a driver that comes after")
			found, err := b.driver.Find(ctx, id)
			Expect(err).NotTo(HaveOccurred())
			_, can = found.(hypervisor.Screenshotter)
			Expect(can).To(BeTrue())
			Expect(m.Kill(ctx)).To(Succeed())
			_, err = screen.Screenshot(ctx)
			Expect(err).To(MatchError(hypervisor.ErrNotRunning))
		}, SpecTimeout(specTime))
	})
}
