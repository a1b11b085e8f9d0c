package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// versionPatience bounds how long QEMU may take to print its version.
const versionPatience = 10 * time.Second

// Boot timeouts: a guest's cold boot to its first milestone takes 2 to 3 s under TCG and less than one under KVM; a
// host that is busy with other things may need many times that.
const (
	bootTimeoutKVM = 15 * time.Second
	bootTimeoutTCG = 60 * time.Second
)

// warmUp is what is found out once, in the background, while other things start.
type warmUp struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the fields below are set
	err    error
	ground ground
	info   hypervisor.Info
}

// checkHost looks for the programs that a machine on this host needs.
func checkHost(cfg Config) error {
	if _, err := exec.LookPath(cfg.Emulator); err != nil {
		return unavailable("find QEMU", err)
	}
	if _, err := os.Stat(cfg.Firmware); err != nil {
		return fmt.Errorf("%w: find the guests' firmware: %w; on Debian: apt-get install qemu-system-data",
			hypervisor.ErrUnavailable, err)
	}
	return nil
}

// startWarmUp begins to prove the accelerator and to fill libvirt's capabilities cache, at the same time.
func (d *Driver) startWarmUp() *warmUp {
	ctx, cancel := context.WithCancel(context.Background())
	w := &warmUp{cancel: cancel, done: make(chan struct{})}
	d.ops.Add(1)
	go func() {
		defer d.ops.Done()
		defer cancel()
		defer close(w.done)
		begun := time.Now()
		w.ground, w.info, w.err = d.surveyAll(ctx)
		if w.err != nil {
			d.cfg.Logger.Error("hypervisor not usable", "error", w.err)
			return
		}
		d.cfg.Logger.Info("hypervisor ready", "accelerator", w.info.Accelerator, "version", w.info.Version,
			"took", time.Since(begun))
	}()
	return w
}

// Warm waits until the driver is ready to start machines without delay. Nobody needs to call it: Start waits by
// itself.
func (d *Driver) Warm(ctx context.Context) error {
	select {
	case <-d.warm.done:
		return d.warm.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Info says what the driver runs on. Until the driver is warm the accelerator is not known yet, and "none".
func (d *Driver) Info() hypervisor.Info {
	select {
	case <-d.warm.done:
		if d.warm.err == nil {
			return d.warm.info
		}
	default:
	}
	return hypervisor.Info{
		Driver: "libvirt", Accelerator: "none", BootTimeout: bootTimeoutTCG, ParallelBoots: runtime.NumCPU(),
	}
}

// surveyAll is survey, again when the line to libvirt was lost on the way.
func (d *Driver) surveyAll(ctx context.Context) (ground, hypervisor.Info, error) {
	tick := time.NewTicker(firstRedial)
	defer tick.Stop()
	for {
		before := d.lines.current()
		g, info, err := d.survey(ctx)
		if err == nil || d.cfg.embedded() || !d.lines.lost(before) {
			return g, info, err
		}
		nudge(d.lines.suspect)
		for d.lines.lost(nil) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return g, info, err
			}
		}
	}
}

func (d *Driver) survey(ctx context.Context) (ground, hypervisor.Info, error) {
	emulator, err := exec.LookPath(d.cfg.Emulator)
	if err != nil {
		return ground{}, hypervisor.Info{}, unavailable("find QEMU", err)
	}
	verdicts := make(chan accel.Verdict, 1)
	proofErrs := make(chan error, 1)
	go func() {
		v, err := d.prover(emulator).Prove(ctx)
		verdicts <- v
		proofErrs <- err
	}()
	capsErr := d.learn(emulator)
	if capsErr == nil && d.cfg.embedded() {
		if err := saveCapabilities(d.cfg.CacheDir, d.cfg.Root); err != nil {
			d.cfg.Logger.Warn("capabilities not kept", "error", err)
		}
	}
	version := d.version(ctx, emulator)
	verdict, proofErr := <-verdicts, <-proofErrs
	if proofErr != nil {
		return ground{}, hypervisor.Info{}, unavailable("prove the accelerator", proofErr)
	}
	if capsErr != nil {
		return ground{}, hypervisor.Info{}, unavailable("ask QEMU what it can do", capsErr)
	}
	d.cfg.Logger.Info("accelerator", "accelerator", verdict.Accelerator, "reason", verdict.Reason, "took", verdict.Took)
	g := ground{
		accelerator: verdict.Accelerator, emulator: emulator, firmware: d.cfg.Firmware, cpuModel: d.cfg.CPUModel,
	}
	info := hypervisor.Info{
		Driver: "libvirt", Accelerator: verdict.Accelerator, Version: version,
		BootTimeout: bootTimeoutKVM, ParallelBoots: runtime.NumCPU(),
	}
	if g.accelerator == accel.TCG {
		info.BootTimeout = bootTimeoutTCG
		g.tscKHz, _ = accel.SteadyTSCKHz(d.cfg.CacheDir)
	}
	return g, info, nil
}

// learn has libvirt ask QEMU what it can do, unless it knows.
func (d *Driver) learn(emulator string) error {
	x, err := d.lines.borrow()
	if err != nil {
		return err
	}
	defer d.lines.giveBack(x)
	_, err = x.conn.GetDomainCapabilities(emulator, "x86_64", "pc", domainType(accel.TCG), 0)
	return err
}

func (d *Driver) prover(emulator string) accel.Prover {
	if d.cfg.Prover != nil {
		return d.cfg.Prover
	}
	return accel.Cached{
		Prover: accel.NewKVM(accel.Config{Emulator: emulator, CPU: d.cfg.CPUModel}),
		Dir:    d.cfg.CacheDir, Emulator: emulator,
	}
}

// version tells QEMU's and libvirt's versions. libvirt's own answer for QEMU is not asked for here: it would probe the
// binaries of other architectures too, for seconds.
func (d *Driver) version(ctx context.Context, emulator string) string {
	var parts []string
	if v, err := qemuVersion(ctx, emulator); err == nil {
		parts = append(parts, "QEMU "+v)
	}
	if v, err := d.libraryVersion(); err == nil {
		const major, minor = 1_000_000, 1_000
		parts = append(parts, fmt.Sprintf("libvirt %d.%d.%d", v/major, v%major/minor, v%minor))
	}
	return strings.Join(parts, ", ")
}

func (d *Driver) libraryVersion() (uint32, error) {
	x, err := d.lines.borrow()
	if err != nil {
		return 0, err
	}
	defer d.lines.giveBack(x)
	return x.conn.GetLibVersion()
}

func qemuVersion(ctx context.Context, emulator string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, emulator, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask QEMU's version: %w", err)
	}
	_, rest, ok := strings.Cut(string(out), "version ")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return "", errors.New("ask QEMU's version: no version in its answer")
	}
	return fields[0], nil
}
