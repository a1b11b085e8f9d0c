package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// What drivertest cannot ask, for it knows no QEMU.
var _ = Describe("a template's state", Label("vm"), func() {
	It("is refused with QEMU's own words when it is of another machine", func(ctx context.Context) {
		d, spec := openFor(ctx, config(), "i-foreign")
		dir := filepath.Dir(spec.ConsoleLog)
		good := hypervisor.Template{Memory: filepath.Join(dir, "memory"), State: filepath.Join(dir, "state")}
		m, err := d.StartTemplate(ctx, spec, good)
		Expect(err).NotTo(HaveOccurred())
		Expect(d.SaveTemplate(ctx, m, good)).To(Succeed())
		state, err := os.ReadFile(good.State)
		Expect(err).NotTo(HaveOccurred())
		By("its bytes, which name the type of the machine that they are of")
		other := bytes.Replace(state, []byte("pc-i440fx-"), []byte("pc-i440fy-"), 1)
		Expect(other).NotTo(Equal(state))
		bad := hypervisor.Template{Memory: good.Memory, State: good.State + "-other"}
		Expect(os.WriteFile(bad.State, other, 0o600)).To(Succeed())
		_, err = d.Fork(ctx, spec, bad)
		Expect(err).To(MatchError(hypervisor.ErrTemplate))
		Expect(err).To(MatchError(ContainSubstring("load of migration failed")))
		Expect(d.List(ctx)).To(BeEmpty())
		By("the pool, which does not try for ever and fails nobody")
		Expect(d.Prepare(ctx, spec, bad, 1, nil)).To(Succeed())
		Eventually(func() bool { _, _, more := d.pools.next(); return more }).Should(BeFalse())
		fork, err := d.Fork(ctx, spec, good)
		Expect(err).NotTo(HaveOccurred())
		Expect(fork.State(ctx)).To(Equal(hypervisor.Running))
		By("the fork's memory, which is its own and gets into no core file")
		pids := processes(dir)
		Expect(pids).To(HaveLen(1))
		mapped, flags := mapping(pids[0], good.Memory)
		Expect(mapped).To(Equal("rw-p"))
		Expect(flags).To(ContainElement("dd"), "do not dump (proc(5), VmFlags)")
		Expect(fork.Kill(ctx)).To(Succeed())
	}, SpecTimeout(3*time.Minute))

	It("is given to another QEMU when the first does not load it, or not in time", func(ctx context.Context) {
		cfg := config()
		var onWarning func()
		cfg.Logger = slog.New(slog.NewTextHandler(writer(func() { onWarning() }), &slog.HandlerOptions{
			Level: slog.LevelWarn}))
		d, spec := openFor(ctx, cfg, "i-patient")
		dir := filepath.Dir(spec.ConsoleLog)
		tmpl := hypervisor.Template{Memory: filepath.Join(dir, "memory"), State: filepath.Join(dir, "state")}
		m, err := d.StartTemplate(ctx, spec, tmpl)
		Expect(err).NotTo(HaveOccurred())
		Expect(d.SaveTemplate(ctx, m, tmpl)).To(Succeed())
		By("one that does not take it")
		state, err := os.ReadFile(tmpl.State)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(tmpl.State, state[:len(state)/2], 0o600)).To(Succeed())
		mended := 0
		onWarning = func() { mended++; Expect(os.WriteFile(tmpl.State, state, 0o600)).To(Succeed()) }
		fork, err := d.Fork(ctx, spec, tmpl)
		Expect(err).NotTo(HaveOccurred())
		Expect(fork.State(ctx)).To(Equal(hypervisor.Running))
		Expect(mended).To(Equal(1))
		Expect(fork.Kill(ctx)).To(Succeed())
		By("one that is not done in time")
		onWarning = func() {}
		d.loadTimes = []time.Duration{time.Nanosecond, time.Minute}
		fork, err = d.Fork(ctx, spec, tmpl)
		Expect(err).NotTo(HaveOccurred())
		Expect(fork.State(ctx)).To(Equal(hypervisor.Running))
		Expect(processes(dir)).To(HaveLen(1), "the first is gone")
		Expect(fork.Kill(ctx)).To(Succeed())
		By("two that are not done, which is not the template's fault")
		d.loadTimes = []time.Duration{time.Nanosecond, time.Nanosecond}
		_, err = d.Fork(ctx, spec, tmpl)
		Expect(err).To(MatchError(context.DeadlineExceeded))
		Expect(err).NotTo(MatchError(hypervisor.ErrTemplate))
		Expect(d.List(ctx)).To(BeEmpty())
		Expect(processes(dir)).To(BeEmpty())
	}, SpecTimeout(3*time.Minute))
})

// writer calls itself whenever something is written.
type writer func()

func (w writer) Write(text []byte) (int, error) { w(); return len(text), nil }

// KVM is proved before it is used; here it is only said, so that its code path runs on hosts without it, too. Whether
// its guest gets anywhere is the host's affair.
var _ = Describe("a driver that was told to use KVM", Label("vm"), func() {
	It("starts machines of KVM's kind, or says why this host has none", func(ctx context.Context) {
		cfg := config()
		cfg.Prover = accel.Fixed(accel.KVM)
		d, spec := openFor(ctx, cfg, "i-kvm")
		Expect(d.Warm(ctx)).To(Succeed())
		Expect(d.Info()).To(And(HaveField("Accelerator", accel.KVM), HaveField("BootTimeout", bootTimeoutKVM)))
		Expect(d.Ground(ctx)).To(HavePrefix("kvm Westmere tsc=0kHz QEMU emulator version"))
		m, err := d.Start(ctx, spec)
		device, openErr := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if openErr != nil {
			Expect(err).To(MatchError(ContainSubstring("KVM is not available")), "libvirt's words, without %v", openErr)
			Expect(d.List(ctx)).To(BeEmpty())
			return
		}
		Expect(device.Close()).To(Succeed())
		Expect(err).NotTo(HaveOccurred(), "the host has KVM's device")
		domain, err := d.lookup(d.names.domain(spec.ID))
		Expect(err).NotTo(HaveOccurred())
		Expect(domain.GetXMLDesc(0)).To(ContainSubstring("<domain type='kvm'"))
		Expect(domain.Free()).To(Succeed())
		Expect(m.State(ctx)).To(Equal(hypervisor.Running))
		Expect(m.Kill(ctx)).To(Succeed())
	}, SpecTimeout(3*time.Minute))

	It("has no forks where a prover fails", func(ctx context.Context) {
		cfg := config()
		cfg.Prover = failing{}
		d, spec := openFor(ctx, cfg, "i-unproved")
		_, err := d.Start(ctx, spec)
		Expect(err).To(MatchError(hypervisor.ErrUnavailable))
		_, err = d.Ground(ctx)
		Expect(err).To(MatchError(hypervisor.ErrUnavailable))
		Expect(d.Info().Accelerator).To(Equal("none"))
	}, SpecTimeout(time.Minute))
})

// mapping tells how a process has mapped a file: its rights, and the kernel's flags for it.
func mapping(pid int, path string) (rights string, flags []string) {
	GinkgoHelper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	Expect(err).NotTo(HaveOccurred())
	_, rest, found := strings.Cut(string(text), " "+path+"\n")
	Expect(found).To(BeTrue(), "%s is not mapped", path)
	before := strings.TrimSuffix(string(text), " "+path+"\n"+rest)
	head := strings.Fields(before[strings.LastIndex(before, "\n")+1:])
	_, rest, _ = strings.Cut(rest, "VmFlags:")
	line, _, _ := strings.Cut(rest, "\n")
	return head[1], strings.Fields(line)
}

type failing struct{}

func (failing) Prove(context.Context) (accel.Verdict, error) {
	return accel.Verdict{}, errors.New("this host cannot even be asked")
}

// openFor opens a driver for a spec, and describes a machine for it.
func openFor(ctx context.Context, cfg Config, id string) (*Driver, hypervisor.Spec) {
	GinkgoHelper()
	d, err := Open(ctx, cfg)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx context.Context) {
		left, err := d.List(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, m := range left {
			Expect(m.Kill(ctx)).To(Succeed())
		}
		Expect(d.Close()).To(Succeed())
	}, NodeTimeout(time.Minute))
	dir, err := os.MkdirTemp(work, "m")
	Expect(err).NotTo(HaveOccurred())
	return d, hypervisor.Spec{
		ID: id, Kernel: guest.kernel, Initrd: guest.initrd, MemoryMB: 96,
		NIC:        hypervisor.NIC{MAC: "02:00:0a:40:00:07", Socket: filepath.Join(dir, "s")},
		ConsoleLog: filepath.Join(dir, "console"),
	}
}
