package drivertest

import (
	"context"

	. "github.com/onsi/ginkgo/v2" //nolint:staticcheck // the language of the suite
	. "github.com/onsi/gomega"    //nolint:staticcheck // the language of the suite

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// trouble is the machine that has it.
const trouble = "i-trouble"

// troubled is what its specs share.
type troubled struct {
	*bench
	machine hypervisor.Machine
	spoiler hypervisor.MediumSpoiler
	console *transcript
}

// spoil makes some of its media unreadable from now on, or all readable again.
func (t *troubled) spoil(ctx context.Context, bad ...hypervisor.Sectors) {
	GinkgoHelper()
	Expect(t.spoiler.SpoilMedia(ctx, trouble, bad)).To(Succeed())
}

// run is some sectors, one after the other.
func run(first, count int) hypervisor.Sectors { return hypervisor.Sectors{First: first, Count: count} }

// troubles is about drivers whose machines can have faults, for tests.
func troubles(harness func() Harness) {
	Describe("a machine in trouble", Ordered, func() {
		t := &troubled{}

		BeforeAll(func(ctx context.Context) {
			t.bench = openBench(ctx, harness())
			var ok bool
			if t.spoiler, ok = t.driver.(hypervisor.MediumSpoiler); !ok {
				Skip("this driver's machines have no faults by design (hypervisor.MediumSpoiler)")
			}
			t.spoil(ctx, run(0, 1))
			spec := t.spec(trouble)
			spec.Medium = t.medium("hidden", "hidden")
			var err error
			t.machine, err = t.driver.Start(ctx, spec)
			Expect(err).NotTo(HaveOccurred(), "start")
			t.console = follow(context.WithoutCancel(ctx), t.machine)
			Eventually(t.console.said).WithTimeout(t.boot()).Should(ContainElement("ready"))
		}, NodeTimeout(specTime))
		BeforeEach(func() { evidence(t.spec(trouble).ConsoleLog) })

		t.media()
		t.processors()
	})
}

// media is about media of which some cannot be read.
func (t *troubled) media() {
	It("reads zeros where its medium is bad, and what is there where it is not", func(ctx context.Context) {
		// With another medium's faults the guest could read the one that it has.
		Expect(t.machine.EjectMedium(ctx)).To(Succeed())
		t.spoil(ctx, run(5, 2))
		Expect(t.machine.InsertMedium(ctx, t.medium("seen", "seen"))).To(Succeed())
		Eventually(t.console.said).WithTimeout(soon).Should(ContainElement("medium seen"))
		t.spoil(ctx, run(9, 1), run(0, 1))
		Expect(t.machine.InsertMedium(ctx, t.medium("hidden-too", "hidden too"))).To(Succeed())
		Eventually(t.console.said).WithTimeout(soon).Should(ContainElement("no medium"), "which zeros mean to the guest")
		Expect(t.machine.EjectMedium(ctx)).To(Succeed())
		t.spoil(ctx)
		Expect(t.machine.InsertMedium(ctx, t.medium("healed", "healed"))).To(Succeed())
		Eventually(t.console.said).WithTimeout(soon).Should(ContainElement("medium healed"))
		Expect(t.console.media()).To(HaveExactElements("booted", "ready", "medium seen", "medium healed"))
	}, SpecTimeout(specTime))

	It("never shows what is bad of its medium, however often the drive is emptied and filled", func(ctx context.Context) {
		t.spoil(ctx, run(0, 1))
		for range 20 {
			Expect(t.machine.InsertMedium(ctx, t.medium("secret", "secret"))).To(Succeed())
			t.spoil(ctx, run(0, 1), run(3, 1))
			Expect(t.machine.EjectMedium(ctx)).To(Succeed())
		}
		t.spoil(ctx)
		Expect(t.machine.InsertMedium(ctx, t.medium("whole", "whole"))).To(Succeed())
		Eventually(t.console.said).WithTimeout(soon).Should(ContainElement("medium whole"))
		Expect(t.console.said()).NotTo(ContainElement("medium secret"))
	}, SpecTimeout(specTime))

	It("has a drive that can be emptied while its medium is bad", func(ctx context.Context) {
		t.spoil(ctx, run(7, 1))
		Expect(t.machine.EjectMedium(ctx)).To(Succeed())
		Expect(t.machine.EjectMedium(ctx)).To(MatchError(hypervisor.ErrNoMedium))
		Expect(t.machine.InsertMedium(ctx, t.medium("back", "back"))).To(Succeed())
		Eventually(t.console.said).WithTimeout(soon).Should(ContainElement("medium back"))
		t.spoil(ctx)
		Expect(t.machine.EjectMedium(ctx)).To(Succeed())
	}, SpecTimeout(specTime))
}

// processors is about what happens to processors.
func (t *troubled) processors() {
	It("stands still and goes on", func(ctx context.Context) {
		still := able[hypervisor.Pauser](t.machine, "it can be paused")
		Expect(still.Pause(ctx)).To(Succeed())
		Expect(still.Pause(ctx)).To(Succeed(), "twice")
		Expect(t.machine.State(ctx)).To(Equal(hypervisor.Paused))
		Expect(still.Resume(ctx)).To(Succeed())
		Expect(still.Resume(ctx)).To(Succeed(), "twice")
		Expect(t.machine.State(ctx)).To(Equal(hypervisor.Running))
		Expect(t.machine.InsertMedium(ctx, t.medium("later", "later"))).To(Succeed())
		Eventually(t.console.said).WithTimeout(soon).Should(ContainElement("medium later"))
		By("while its medium is bad")
		Expect(still.Pause(ctx)).To(Succeed())
		t.spoil(ctx, run(7, 1))
		Expect(t.machine.InsertMedium(ctx, t.medium("last", "last"))).To(Succeed())
		Expect(t.machine.State(ctx)).To(Equal(hypervisor.Paused), "another medium does not wake it")
		Expect(still.Resume(ctx)).To(Succeed())
		Eventually(t.console.said).WithTimeout(soon).Should(ContainElement("medium last"))
		t.spoil(ctx)
	}, SpecTimeout(specTime))

	It("survives an interrupt that it knows no reason for", func(ctx context.Context) {
		struck := able[hypervisor.Interrupter](t.machine, "it can be interrupted")
		Expect(struck.Interrupt(ctx)).To(Succeed())
		Eventually(t.console.all).WithTimeout(soon).Should(
			ContainElement(ContainSubstring("NMI received for unknown reason")))
		Expect(t.machine.State(ctx)).To(Equal(hypervisor.Running))
	}, SpecTimeout(specTime))

	It("does not survive a machine check", func(ctx context.Context) {
		struck := able[hypervisor.Panicker](t.machine, "its kernel can be made to panic")
		Expect(struck.Panic(ctx)).To(Succeed())
		Eventually(t.machine.State).WithContext(ctx).WithTimeout(soon).Should(Equal(hypervisor.Crashed))
		Eventually(t.console.all).WithTimeout(soon).Should(
			ContainElement(ContainSubstring("Kernel panic - not syncing: Fatal machine check")))
	}, SpecTimeout(specTime))
}

// able is a machine with an ability that not every driver's have.
func able[T any](m hypervisor.Machine, what string) T {
	GinkgoHelper()
	with, ok := m.(T)
	Expect(ok).To(BeTrue(), what)
	return with
}
