package accel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Config says how to prove KVM. The zero value is usable where QEMU is on the path.
type Config struct {
	// Emulator is QEMU's binary: a path, or a name to look for; default "qemu-system-x86_64".
	Emulator string
	// CPU is the processor model that guests will have; default "Westmere".
	CPU string
	// Device is KVM's device file; default "/dev/kvm".
	Device string
	// Deadline is how long the guest may take; default 2 s.
	Deadline time.Duration
	// Loops is how much work the guest has to do before the deadline; default 20 million additions, 10 to 50 ms
	// where virtualisation works.
	Loops uint32
	// accelerator is what the guest runs on; tests prove TCG, which is everywhere.
	accelerator string
}

// reapPatience is how long a killed QEMU may take to go before it is left to the kernel; one that hangs in the kernel
// cannot be waited for.
const reapPatience = time.Second

func (c Config) withDefaults() Config {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Emulator, "qemu-system-x86_64")
	def(&c.CPU, "Westmere")
	def(&c.Device, "/dev/kvm")
	def(&c.accelerator, KVM)
	if c.Deadline <= 0 {
		c.Deadline = 2 * time.Second
	}
	if c.Loops == 0 {
		c.Loops = proofLoops
	}
	return c
}

type kvmProver struct{ cfg Config }

// NewKVM returns a Prover that runs a tiny guest under KVM.
func NewKVM(cfg Config) Prover { return kvmProver{cfg.withDefaults()} }

// Prove runs the proof: the verdict is KVM when the guest finished its work before the deadline, else TCG. A QEMU
// that hangs is killed before Prove returns.
func (p kvmProver) Prove(ctx context.Context) (Verdict, error) {
	begun := time.Now()
	no := func(format string, args ...any) (Verdict, error) {
		return Verdict{Accelerator: TCG, Reason: fmt.Sprintf(format, args...), Took: time.Since(begun)}, nil
	}
	emulator, err := exec.LookPath(p.cfg.Emulator)
	if err != nil {
		return Verdict{}, fmt.Errorf("find the emulator: %w", err)
	}
	if err := openable(p.cfg.Device); err != nil {
		return no("%s cannot be used: %v", p.cfg.Device, err)
	}
	dir, err := os.MkdirTemp("", "cloudtwin-accel-")
	if err != nil {
		return Verdict{}, fmt.Errorf("make a folder for the proof: %w", err)
	}
	defer os.RemoveAll(dir)
	rom := filepath.Join(dir, "proof.rom")
	if err := os.WriteFile(rom, proofROM(p.cfg.Loops), 0o600); err != nil {
		return Verdict{}, fmt.Errorf("write the proof: %w", err)
	}
	proofCtx, cancel := context.WithTimeout(ctx, p.cfg.Deadline)
	defer cancel()
	code, output, err := p.run(proofCtx, emulator, rom)
	switch {
	case ctx.Err() != nil:
		return Verdict{}, fmt.Errorf("prove the accelerator: %w", ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return no("a guest under %s did not finish its work in %v", p.cfg.accelerator, p.cfg.Deadline)
	case err != nil:
		return Verdict{}, fmt.Errorf("prove the accelerator: %w", err)
	case code == exitProved:
		return Verdict{Accelerator: p.cfg.accelerator, Reason: "proved by a guest", Took: time.Since(begun)}, nil
	case code == exitBadMaths:
		return no("a guest under %s calculated wrongly", p.cfg.accelerator)
	default:
		return no("QEMU with %s ended with code %d: %s", p.cfg.accelerator, code, lastLine(output))
	}
}

// run returns QEMU's exit code and what it printed, or ctx's error after killing it.
func (p kvmProver) run(ctx context.Context, emulator, rom string) (int, string, error) {
	cmd := exec.Command(emulator, //nolint:noctx // it ends with its whole group, below
		"-accel", p.cfg.accelerator, "-machine", "pc", "-cpu", p.cfg.CPU, "-m", "16",
		"-nodefaults", "-no-user-config", "-display", "none", // no device that the proof does not need
		"-bios", rom,
		"-no-reboot", // a guest that faults ends QEMU at once
		"-device", fmt.Sprintf("isa-debug-exit,iobase=%#x,iosize=1", debugExitPort))
	// A group of its own, so that a signal from the terminal does not end the proof half way and all of it can be
	// killed together.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	output := &limited{left: 4 << 10}
	cmd.Stdout, cmd.Stderr = output, output
	started, ended := make(chan error, 1), make(chan struct{})
	var waitErr error // set when ended is closed
	go func() {
		// Pdeathsig follows the thread that starts the process, so that thread has to live until the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			waitErr = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return 0, "", fmt.Errorf("start %s: %w", emulator, err)
	}
	select {
	case <-ended:
		return exitCode(cmd, waitErr, output)
	case <-ctx.Done():
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ESRCH means that it ended by itself just now
	patience := time.NewTimer(reapPatience)
	defer patience.Stop()
	select {
	case <-ended:
	case <-patience.C:
	}
	return 0, "", ctx.Err()
}

func exitCode(cmd *exec.Cmd, err error, output *limited) (int, string, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, "", fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	return cmd.ProcessState.ExitCode(), output.String(), nil
}

func openable(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// limited keeps the first bytes of what is written to it.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.left)
	l.left -= keep
	l.Buffer.Write(p[:keep])
	return len(p), nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
