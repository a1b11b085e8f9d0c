package drivertest

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2" //nolint:staticcheck // the language of the suite
	. "github.com/onsi/gomega"    //nolint:staticcheck // the language of the suite

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// nursery is what the specs of a container about copies share: a template and its driver.
type nursery struct {
	*bench
	template hypervisor.Template
	sums     [2]string // of the template's files
}

// forker is the driver, which may be opened anew in between.
func (n *nursery) forker() hypervisor.Forker { return n.driver.(hypervisor.Forker) }

// openNursery opens the driver and makes a template, or skips the container for a driver that has none.
func openNursery(ctx context.Context, h Harness) *nursery {
	GinkgoHelper()
	n := &nursery{bench: openBench(ctx, h)}
	if _, ok := n.driver.(hypervisor.Forker); !ok {
		Skip("this driver's machines are no copies of templates by design (hypervisor.Forker)")
	}
	dir, err := os.MkdirTemp(h.Dir, "t")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(os.RemoveAll, dir)
	n.template = hypervisor.Template{Memory: filepath.Join(dir, "memory"), State: filepath.Join(dir, "state")}
	m, err := n.forker().StartTemplate(ctx, n.spec("i-template"), n.template)
	Expect(err).NotTo(HaveOccurred(), "start the template")
	console := follow(ctx, m)
	Eventually(console.said).WithTimeout(n.boot()).Should(HaveExactElements("booted", "ready"))
	Expect(n.forker().SaveTemplate(ctx, m, n.template)).To(Succeed())
	Expect(m.State(ctx)).To(Equal(hypervisor.Gone), "a saved template runs no more")
	n.sums = n.sum()
	return n
}

// sum returns the hashes of the template's files.
func (n *nursery) sum() (sums [2]string) {
	GinkgoHelper()
	for i, path := range []string{n.template.Memory, n.template.State} {
		f, err := os.Open(path)
		Expect(err).NotTo(HaveOccurred())
		h := sha256.New()
		_, err = io.Copy(h, f)
		Expect(err).NotTo(HaveOccurred())
		Expect(f.Close()).To(Succeed())
		sums[i] = string(h.Sum(nil))
	}
	return sums
}

// fork starts a copy with a medium that says text, and follows its console.
func (n *nursery) fork(ctx context.Context, id, text string) (hypervisor.Machine, *transcript) {
	GinkgoHelper()
	spec := n.spec(id)
	spec.Medium = n.medium(id, text)
	evidence(spec.ConsoleLog)
	m, err := n.forker().Fork(ctx, spec, n.template)
	Expect(err).NotTo(HaveOccurred(), "fork")
	return m, follow(context.WithoutCancel(ctx), m)
}

// forks are about machines that are copies of a template.
func forks(harness func() Harness) {
	Describe("copies of a template", Ordered, func() { copies(harness, 0) })
	Describe("copies of a template that are kept ready", Ordered, func() { copies(harness, 2) })
	templates(harness)
}

// The two copies that the specs follow.
const apple, pear = "i-apple", "i-pear"

// twins are two copies of one template.
type twins struct {
	*nursery
	ready    int // how many the driver was asked to keep ready before
	machines map[string]hypervisor.Machine
	consoles map[string]*transcript
}

// newTwins makes them, after the driver has made as many ready as ready says.
func newTwins(ctx context.Context, h Harness, ready int) *twins {
	GinkgoHelper()
	n := &twins{openNursery(ctx, h), ready, map[string]hypervisor.Machine{}, map[string]*transcript{}}
	if ready > 0 {
		r := &rehearsals{}
		Expect(n.forker().Prepare(ctx, n.spec("i-shape"), n.template, ready, r.with())).To(Succeed())
		Eventually(n.Spares).WithTimeout(n.boot()).Should(Equal(ready))
		r.areOver(ready)
		Expect(n.driver.List(ctx)).To(BeEmpty(), "what is ready is no machine yet")
	}
	// A log may have lines of a machine before.
	Expect(os.WriteFile(n.spec(pear).ConsoleLog, []byte("@conformance of another\n"), 0o600)).To(Succeed())
	n.machines[apple], n.consoles[apple] = n.fork(ctx, apple, "remember an apple")
	n.machines[pear], n.consoles[pear] = n.fork(ctx, pear, "remember a pear")
	return n
}

// tell puts a medium into both drives and returns what each guest says to it.
func (n *twins) tell(ctx context.Context, text string) map[string][]string {
	GinkgoHelper()
	answers := map[string][]string{}
	for id, m := range n.machines {
		console := n.consoles[id]
		before := len(console.media())
		Expect(m.InsertMedium(ctx, n.medium(id+"-"+text, text))).To(Succeed())
		Eventually(console.media).WithTimeout(soon).Should(HaveLen(before+2), "%s: the medium, and the answer", id)
		answers[id] = console.media()[before:]
	}
	return answers
}

// copies follows two copies from their start to their end.
func copies(harness func() Harness, ready int) {
	var n *twins
	BeforeAll(func(ctx context.Context) { n = newTwins(ctx, harness(), ready) }, NodeTimeout(specTime))
	own := func() *twins { return n }
	ownThings(own)
	copiesEnd(own)
}

// ownThings are what a copy has that no other has.
func ownThings(of func() *twins) {
	It("see the medium that is theirs, and say nothing that the template said", func(ctx context.Context) {
		n := of()
		Eventually(n.consoles[apple].media).WithTimeout(n.boot()).
			Should(HaveExactElements("medium remember an apple", "remembered nothing"))
		Eventually(n.consoles[pear].media).WithTimeout(n.boot()).
			Should(HaveExactElements("medium remember a pear", "remembered nothing"))
		for id := range n.machines {
			info, err := os.Stat(n.spec(id).ConsoleLog)
			Expect(err).NotTo(HaveOccurred())
			Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o600)))
		}
	})

	It("run, and say so by one event each", func(ctx context.Context) {
		n := of()
		for id, m := range n.machines {
			Expect(m.ID()).To(Equal(id))
			Expect(m.State(ctx)).To(Equal(hypervisor.Running))
			Eventually(n.seen.of).WithArguments(id).Should(HaveExactElements(hypervisor.Running))
			if p, ok := m.(hypervisor.Pooled); ok {
				Expect(p.Pooled()).To(Equal(n.ready > 0))
			}
		}
		Expect(n.driver.List(ctx)).To(ConsistOf(HaveField("ID()", apple), HaveField("ID()", pear)))
	})

	It("do not see each other's memory", func(ctx context.Context) {
		n := of()
		Expect(n.tell(ctx, "recall")).To(Equal(map[string][]string{
			apple: {"medium recall", "remembered an apple"}, pear: {"medium recall", "remembered a pear"},
		}))
	}, SpecTimeout(specTime))

	It("have their own randomness", func(ctx context.Context) {
		n := of()
		answers := n.tell(ctx, "random")
		Expect(answers[apple][1]).To(HavePrefix("random "))
		Expect(answers[pear][1]).To(HavePrefix("random "))
		Expect(answers[apple][1]).NotTo(Equal(answers[pear][1]))
	}, SpecTimeout(specTime))

	It("have their own network cards", func(ctx context.Context) {
		n := of()
		for id := range n.machines {
			Eventually(func() error {
				conn, err := n.dial(ctx, id)
				if err != nil {
					return err
				}
				return conn.Close()
			}).WithTimeout(soon).Should(Succeed())
		}
	})

	It("keep their ids from others", func(ctx context.Context) {
		n := of()
		_, err := n.forker().Fork(ctx, n.spec(apple), n.template)
		Expect(err).To(MatchError(hypervisor.ErrExists))
		_, err = n.driver.Start(ctx, n.spec(apple))
		Expect(err).To(MatchError(hypervisor.ErrExists))
	})
}

// copiesEnd follows them through the end of their driver to their own.
func copiesEnd(of func() *twins) {
	It("are found by a driver that comes after, which has no other", func(ctx context.Context) {
		n := of()
		n.close()
		n.open(ctx)
		Expect(n.driver.List(ctx)).To(ConsistOf(HaveField("ID()", apple), HaveField("ID()", pear)))
		for id := range n.machines {
			found, err := n.driver.Find(ctx, id)
			Expect(err).NotTo(HaveOccurred())
			Expect(found.State(ctx)).To(Equal(hypervisor.Running))
			n.machines[id], n.consoles[id] = found, follow(context.WithoutCancel(ctx), found)
			Eventually(n.consoles[id].said).Should(ContainElement(HavePrefix("random ")), "its console from its first byte")
			Expect(n.consoles[id].said()).NotTo(ContainElement("of another"))
		}
		Expect(n.tell(ctx, "recall")[pear]).To(ContainElement("remembered a pear"))
	}, SpecTimeout(specTime))

	It("power off when they are asked to stop", func(ctx context.Context) {
		n := of()
		console := follow(ctx, n.machines[pear])
		Expect(n.machines[pear].Stop(ctx)).To(Succeed())
		Eventually(console.ended).WithTimeout(soon).Should(BeClosed())
		Expect(console.said()).To(ContainElements("button", "power-off"))
		Eventually(state(ctx, n.machines[pear])).Should(Equal(hypervisor.Stopped))
	}, SpecTimeout(specTime))

	It("are forgotten when they are killed, and leave their template as it was", func(ctx context.Context) {
		n := of()
		for id, m := range n.machines {
			Expect(m.Kill(ctx)).To(Succeed())
			Expect(m.State(ctx)).To(Equal(hypervisor.Gone))
			Eventually(n.seen.of).WithArguments(id).Should(ContainElement(hypervisor.Gone))
			_, err := n.driver.Find(ctx, id)
			Expect(err).To(MatchError(hypervisor.ErrNotFound))
			Expect(n.spec(id).NIC.Socket).NotTo(BeAnExistingFile())
		}
		Expect(n.driver.List(ctx)).To(BeEmpty())
		Expect(n.sum() == n.sums).To(BeTrue(), "the template's files have changed")
	}, SpecTimeout(specTime))
}
