package drivertest

import (
	"context"
	"os"
	"time"

	. "github.com/onsi/ginkgo/v2" //nolint:staticcheck // the language of the suite
	. "github.com/onsi/gomega"    //nolint:staticcheck // the language of the suite

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Time limits of single steps; a boot has the driver's own.
const (
	soon     = time.Minute // what a running guest or QEMU does on request
	specTime = 5 * time.Minute
)

// Specs declares the suite inside the caller's container. harness is called when the specs run.
func Specs(harness func() Harness) {
	BootSpecs(harness)
	passing(harness)
	forks(harness)
}

// BootSpecs is the part of Specs that is about machines which boot, and live on when their driver is closed.
func BootSpecs(harness func() Harness) {
	refusals(harness)
	life(harness)
	ends(harness)
	displays(harness)
	troubles(harness)
}

// life follows one guest from its start to its power button.
func life(harness func() Harness) {
	Describe("a machine", Ordered, func() {
		const id = "i-life0123456789abcd"
		var (
			b       *bench
			m       hypervisor.Machine
			console *transcript
		)

		BeforeAll(func(ctx context.Context) {
			b = openBench(ctx, harness())
			var err error
			m, err = b.driver.Start(ctx, b.spec(id))
			Expect(err).NotTo(HaveOccurred(), "start")
			console = follow(context.WithoutCancel(ctx), m)
		}, NodeTimeout(specTime))
		BeforeEach(func() { evidence(b.spec(id).ConsoleLog) })

		It("runs when Start returns, and says so by an event", func(ctx context.Context) {
			Expect(m.ID()).To(Equal(id))
			Expect(m.State(ctx)).To(Equal(hypervisor.Running))
			Eventually(b.seen.of).WithArguments(id).Should(HaveExactElements(hypervisor.Running))
		})

		It("keeps its id from a second machine", func(ctx context.Context) {
			_, err := b.driver.Start(ctx, b.spec(id))
			Expect(err).To(MatchError(hypervisor.ErrExists))
			Expect(m.State(ctx)).To(Equal(hypervisor.Running), "the first goes on")
		})

		It("boots its guest, whose console is followed from the first byte", func(ctx context.Context) {
			Eventually(console.said).WithTimeout(b.boot()).Should(ContainElement("ready"))
			Expect(console.said()).To(HaveExactElements("booted", "ready"))
			info, err := os.Stat(b.spec(id).ConsoleLog)
			Expect(err).NotTo(HaveOccurred())
			Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o600)))
			By("a second reader that comes late")
			Eventually(follow(ctx, m).said).Should(HaveExactElements("booted", "ready"))
		})

		current := func() (*bench, hypervisor.Machine, *transcript) { return b, m, console }
		useSpecs(id, current)
		mediaSpecs(current)

		It("is found by a driver that comes after", func(ctx context.Context) {
			if b.EndsWithDriver {
				Skip("this driver's machines end with it by design (Harness.EndsWithDriver): see the next container")
			}
			b.close()
			b.open(ctx)
			found, err := b.driver.Find(ctx, id)
			Expect(err).NotTo(HaveOccurred())
			listed, err := b.driver.List(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(listed).To(ConsistOf(HaveField("ID()", id)))
			Expect(found.State(ctx)).To(Equal(hypervisor.Running))
			m = found
			console := follow(ctx, m)
			Eventually(console.said).Should(ContainElement("ready"), "its console from the first byte")
			Expect(m.InsertMedium(ctx, b.medium("after", "after the restart"))).To(Succeed())
			Eventually(console.said).WithTimeout(soon).Should(ContainElement("medium after the restart"))
		}, SpecTimeout(specTime))

		stopSpecs(id, current)
	})
}

// passing is about machines that end with their driver.
func passing(harness func() Harness) {
	Describe("a machine that ends with its driver", func() {
		const id = "i-passing"

		It("is found as ended, with its console, by a driver that comes after", func(ctx context.Context) {
			if !harness().EndsWithDriver {
				Skip("this driver's machines go on without it by design (Harness.EndsWithDriver)")
			}
			b := openBench(ctx, harness())
			m, err := b.driver.Start(ctx, b.spec(id))
			Expect(err).NotTo(HaveOccurred())
			console := follow(context.WithoutCancel(ctx), m)
			Eventually(console.said).WithTimeout(b.boot()).Should(ContainElement("ready"))
			b.close()
			Eventually(console.ended).WithTimeout(soon).Should(BeClosed(), "its console ends")
			b.open(ctx)
			found, err := b.driver.Find(ctx, id)
			Expect(err).NotTo(HaveOccurred())
			Expect(b.driver.List(ctx)).To(ConsistOf(HaveField("ID()", id)))
			Expect(found.State(ctx)).To(BeElementOf(hypervisor.Stopped, hypervisor.Crashed))
			past := follow(ctx, found)
			Eventually(past.ended).Should(BeClosed())
			Expect(past.said()).To(HaveExactElements("booted", "ready"))
			Expect(found.Kill(ctx)).To(Succeed())
			Expect(b.driver.List(ctx)).To(BeEmpty())
		}, SpecTimeout(specTime))
	})
}

// mediaSpecs change the medium of a running guest.
func mediaSpecs(of func() (*bench, hypervisor.Machine, *transcript)) {
	It("has no medium to eject at first", func(ctx context.Context) {
		_, m, _ := of()
		Expect(m.EjectMedium(ctx)).To(MatchError(hypervisor.ErrNoMedium))
	})

	It("shows its guest each change of the medium", func(ctx context.Context) {
		b, m, console := of()
		Expect(m.InsertMedium(ctx, b.medium("one", "the first"))).To(Succeed())
		Eventually(console.said).WithTimeout(soon).Should(ContainElement("medium the first"))
		Expect(m.InsertMedium(ctx, b.medium("two", "the second"))).To(Succeed(), "in place of the first")
		Eventually(console.said).WithTimeout(soon).Should(ContainElement("medium the second"))
		Expect(m.EjectMedium(ctx)).To(Succeed())
		Eventually(console.said).WithTimeout(soon).Should(ContainElement("no medium"))
		Expect(m.EjectMedium(ctx)).To(MatchError(hypervisor.ErrNoMedium))
	}, SpecTimeout(specTime))

	It("refuses a medium that is not there, and keeps its drive as it was", func(ctx context.Context) {
		b, m, console := of()
		Expect(m.InsertMedium(ctx, b.medium("kept", "the kept one"))).To(Succeed())
		Eventually(console.said).WithTimeout(soon).Should(ContainElement("medium the kept one"))
		before := console.said()
		Expect(m.InsertMedium(ctx, b.Dir+"/missing.img")).To(MatchError(os.ErrNotExist))
		Expect(m.InsertMedium(ctx, b.Dir)).To(MatchError(ContainSubstring("no regular file")))
		Expect(m.InsertMedium(ctx, "relative.img")).To(MatchError(ContainSubstring("absolute")))
		Consistently(console.said).WithTimeout(500 * time.Millisecond).Should(Equal(before))
	}, SpecTimeout(specTime))

	It("brings a flood of output over without a gap", func(ctx context.Context) {
		b, m, console := of()
		Expect(m.InsertMedium(ctx, b.medium("flood", "flood"))).To(Succeed())
		Eventually(console.said).WithTimeout(b.boot()).Should(ContainElement("flooded"))
		var numbered int
		for _, line := range console.all() {
			if len(line) == 63 {
				numbered++
			}
		}
		Expect(numbered).To(Equal(1024))
	}, SpecTimeout(specTime))
}

// useSpecs look at a running guest from the host.
func useSpecs(id string, of func() (*bench, hypervisor.Machine, *transcript)) {
	It("takes connections to its network card, again and again", func(ctx context.Context) {
		b, _, _ := of()
		for range 3 {
			// One connection at a time: until the last one's end is noticed, the next is asked to try again.
			Eventually(func() error {
				conn, err := b.dial(ctx, id)
				if err != nil {
					return err
				}
				return conn.Close()
			}).WithTimeout(soon).Should(Succeed())
		}
	})

	It("counts what it uses", func(ctx context.Context) {
		b, m, _ := of()
		s, err := m.Statistics(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(s.CPUTime).To(BeNumerically(">", 10*time.Millisecond))
		Expect(s.MemoryBytes).To(And(BeNumerically(">", 1<<20), BeNumerically("<", 1<<30)))
		Expect(b.driver.Info().Accelerator).To(BeElementOf("kvm", "tcg", "none"))
	})
}

// stopSpecs press the power button, and clean up.
func stopSpecs(id string, of func() (*bench, hypervisor.Machine, *transcript)) {
	It("powers off when it is asked to stop", func(ctx context.Context) {
		b, m, _ := of()
		console := follow(ctx, m)
		Expect(m.Stop(ctx)).To(Succeed())
		Eventually(console.said).WithTimeout(soon).Should(ContainElements("button", "power-off"))
		Eventually(console.ended).WithTimeout(soon).Should(BeClosed(), "its console ends")
		Expect(console.failure()).NotTo(HaveOccurred())
		Eventually(b.seen.of).WithArguments(id).WithTimeout(soon).Should(ContainElement(hypervisor.Stopped))
		Expect(b.seen.reasons(id, hypervisor.Stopped)).To(HaveExactElements("shutdown"))
		Eventually(state(ctx, m)).Should(Equal(hypervisor.Stopped))
	}, SpecTimeout(specTime))

	It("is still known when it has stopped", func(ctx context.Context) {
		b, m, _ := of()
		_, err := b.driver.Find(ctx, id)
		Expect(err).NotTo(HaveOccurred())
		_, err = b.driver.Start(ctx, b.spec(id))
		Expect(err).To(MatchError(hypervisor.ErrExists))
		Expect(m.InsertMedium(ctx, b.medium("late", "too late"))).To(MatchError(hypervisor.ErrNotRunning))
		Expect(m.EjectMedium(ctx)).To(MatchError(hypervisor.ErrNotRunning))
		Expect(m.Stop(ctx)).To(MatchError(hypervisor.ErrNotRunning))
		_, err = m.Statistics(ctx)
		Expect(err).To(MatchError(hypervisor.ErrNotRunning))
		By("its console, which is read to its end")
		past := follow(ctx, m)
		Eventually(past.ended).Should(BeClosed())
		Expect(past.said()).To(ContainElements("booted", "power-off"))
	})

	It("is forgotten when it is killed, as often as one likes", func(ctx context.Context) {
		b, m, _ := of()
		Expect(m.Kill(ctx)).To(Succeed())
		Eventually(b.seen.of).WithArguments(id).Should(ContainElement(hypervisor.Gone))
		Expect(m.State(ctx)).To(Equal(hypervisor.Gone))
		Expect(m.Kill(ctx)).To(Succeed())
		_, err := b.driver.Find(ctx, id)
		Expect(err).To(MatchError(hypervisor.ErrNotFound))
		Expect(b.driver.List(ctx)).To(BeEmpty())
		Expect(m.Stop(ctx)).To(MatchError(hypervisor.ErrNotFound))
		Expect(m.InsertMedium(ctx, b.medium("gone", "gone"))).To(MatchError(hypervisor.ErrNotFound))
		Expect(b.spec(id).NIC.Socket).NotTo(BeAnExistingFile())
		Expect(b.spec(id).ConsoleLog).To(BeAnExistingFile(), "the console log is the caller's")
	})
}
