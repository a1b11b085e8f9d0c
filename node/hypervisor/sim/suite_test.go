package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest/program"
)

// TestMain looks for goroutines that tests left behind. Ginkgo keeps one that waits for signals.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(
		"github.com/onsi/ginkgo/v2/internal/interrupt_handler.(*InterruptHandler).registerForInterrupts.func2"))
}

func TestMachines(t *testing.T) {
	RegisterFailHandler(Fail)
	suite, reporter := GinkgoConfiguration()
	suite.Timeout = 10 * time.Minute
	RunSpecs(t, "simulated machines", suite, reporter)
}

// conformance is the flavour of the suite's guest.
const conformance = "conformance"

// work is the suite's folder.
var work string

var _ = BeforeSuite(func() {
	leaks := goleak.IgnoreCurrent()
	DeferCleanup(func() { Eventually(func() error { return goleak.Find(leaks) }).Should(Succeed()) })
	var err error
	work, err = os.MkdirTemp("", "ctsim")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(os.RemoveAll, work)
})

var _ = Describe("sim", func() {
	drivertest.Specs(func() drivertest.Harness {
		kernel, initrd := filepath.Join(work, "vmlinux"), filepath.Join(work, "initramfs.img")
		dir := filepath.Join(work, "vms")
		Expect(os.WriteFile(kernel, nil, 0o600)).To(Succeed())
		Expect(os.WriteFile(initrd, []byte(InitrdText(conformance)), 0o600)).To(Succeed())
		Expect(os.MkdirAll(dir, 0o700)).To(Succeed())
		return drivertest.Harness{
			Open: func(context.Context) (hypervisor.Driver, error) {
				return New(Config{
					Dir: filepath.Join(work, "state"), Programs: map[string]Program{conformance: runConformance},
					Lifecycle: Lifecycle{
						Memory: Memory{FixedMB: 8, Percent: 50},
						Stages: []Stage{{Name: StageBoot, Delay: Duration{2 * time.Second}}},
					},
				})
			},
			Kernel: kernel, Initrd: initrd, Dir: dir, EndsWithDriver: true, HasDisplay: true,
		}
	})
})

// runConformance is the suite's guest.
func runConformance(ctx context.Context, g *Guest) {
	if g.Stage(ctx, StageBoot) != nil {
		return
	}
	program.Say(g, "booted")
	m := &conformanceMachine{Guest: g, changed: g.MediumChanged()}
	program.Run(ctx, m)
}

// conformanceMachine is a Guest as the suite's program wants it.
type conformanceMachine struct {
	*Guest
	changed <-chan struct{} // since the last look at the drive
}

func (m *conformanceMachine) Medium() ([]byte, error) {
	m.changed = m.MediumChanged()
	sector := make([]byte, program.SectorSize)
	if _, err := m.ReadMedium(sector, 0); errors.Is(err, fs.ErrNotExist) || errors.Is(err, errEjected) {
		return nil, program.ErrNoMedium
	} else if err != nil {
		return nil, err
	}
	return sector, nil
}

func (m *conformanceMachine) Changed(ctx context.Context) {
	select {
	case <-m.changed:
	case <-ctx.Done():
	}
}

func (*conformanceMachine) Random(p []byte) error {
	_, err := rand.Read(p)
	return err
}

func (m *conformanceMachine) PowerOff() error {
	m.Guest.PowerOff()
	return nil
}

func (m *conformanceMachine) Panic() { m.Guest.Panic("Attempted to kill init! exitcode=0x00000100") }
