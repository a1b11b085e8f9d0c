package accel

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script makes a stand-in for QEMU and a device file that opens.
func script(t *testing.T, body string) Config {
	t.Helper()
	dir := t.TempDir()
	emulator, device := filepath.Join(dir, "qemu"), filepath.Join(dir, "kvm")
	for path, content := range map[string]string{emulator: "#!/bin/sh\n" + body + "\n", device: ""} {
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return Config{Emulator: emulator, Device: device, Deadline: time.Minute}
}

func TestVerdicts(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		edit       func(*Config)
		want       string
		reason     string
	}{
		{"the guest reports", "exit 85", nil, KVM, "proved"},
		{"the guest calculates wrongly", "exit 87", nil, TCG, "wrongly"},
		{"QEMU refuses", "echo 'failed to set MSR 0x10a' >&2; exit 1", nil, TCG, "MSR 0x10a"},
		{"QEMU is killed", "kill -9 $$", nil, TCG, "code -1"},
		{"the guest hangs", "sleep 60", func(c *Config) { c.Deadline = 50 * time.Millisecond }, TCG, "did not finish"},
		{"no device", "exit 85", func(c *Config) { c.Device += "-missing" }, TCG, "cannot be used"},
		{"endless output", "head -c 1000000 /dev/zero; exit 3", nil, TCG, "code 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := script(t, tc.body)
			if tc.edit != nil {
				tc.edit(&cfg)
			}
			got, err := NewKVM(cfg).Prove(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Accelerator != tc.want || !strings.Contains(got.Reason, tc.reason) {
				t.Errorf("verdict %q because %q, want %q because of %q", got.Accelerator, got.Reason, tc.want, tc.reason)
			}
		})
	}
}

func TestHungProofLeavesNoProcess(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	cfg := script(t, "sleep 60 & echo $! > "+pidFile+"; wait")
	cfg.Deadline = 3 * time.Second // for a shell to start
	if _, err := NewKVM(cfg).Prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	// A killed child of a killed shell is a zombie at most, until init reaps it.
	stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat"))
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("the emulator's child goes on: %s", stat)
	}
}

func TestProveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := NewKVM(script(t, "sleep 60")).Prove(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error and no verdict", err)
	}
}

func TestNoEmulator(t *testing.T) {
	_, err := NewKVM(Config{Emulator: "/nonexistent/qemu"}).Prove(t.Context())
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that the emulator does not exist", err)
	}
}

// TestROMOnQEMU runs the proof's guest for real, under TCG, which every host with QEMU has.
func TestROMOnQEMU(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		if testing.Short() {
			t.Skip("needs qemu-system-x86_64: apt-get install qemu-system-x86")
		}
		t.Fatal("needs qemu-system-x86_64: apt-get install qemu-system-x86")
	}
	for _, tc := range []struct {
		name  string
		loops uint32
		limit time.Duration
		want  string
	}{
		{"enough time", 1000, time.Minute, "proved by a guest"},
		{"too much work", 4_000_000_000, 2 * time.Second, "did not finish its work"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := Config{Device: os.DevNull, Loops: tc.loops, Deadline: tc.limit, accelerator: TCG}
			got, err := NewKVM(cfg).Prove(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.Reason, tc.want) {
				t.Errorf("verdict because %q, want %q", got.Reason, tc.want)
			}
		})
	}
}

type counting struct {
	asked   int
	verdict Verdict
	err     error
}

func (c *counting) Prove(context.Context) (Verdict, error) {
	c.asked++
	return c.verdict, c.err
}

func TestCached(t *testing.T) {
	write := func(t *testing.T, path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name    string
		between func(t *testing.T, c Cached) // what happens between the two questions
		err     error
		asked   int
	}{
		{"kept", func(*testing.T, Cached) {}, nil, 1},
		{"the host booted", func(t *testing.T, c Cached) { write(t, c.BootID, "boot-2\n") }, nil, 2},
		{"another QEMU", func(t *testing.T, c Cached) { write(t, c.Emulator, "longer") }, nil, 2},
		{"a damaged cache", func(t *testing.T, c Cached) { write(t, filepath.Join(c.Dir, "accelerator.json"), "{") }, nil, 2},
		{"the user is let in", func(t *testing.T, c Cached) { write(t, c.Device, "") }, nil, 2},
		{"errors are not kept", func(*testing.T, Cached) {}, errors.New("boom"), 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			prover := &counting{verdict: Verdict{Accelerator: TCG, Reason: "because"}, err: tc.err}
			c := Cached{
				Prover: prover, Dir: filepath.Join(dir, "cache"),
				Emulator: filepath.Join(dir, "qemu"), BootID: filepath.Join(dir, "boot"),
				Device: filepath.Join(dir, "kvm"),
			}
			write(t, c.BootID, "boot-1\n")
			write(t, c.Emulator, "x")
			for i := range 2 {
				v, err := c.Prove(t.Context())
				if !errors.Is(err, tc.err) || (err == nil && v.Reason != "because") {
					t.Fatalf("question %d: %v, %v", i+1, v, err)
				}
				if i == 0 {
					tc.between(t, c)
				}
			}
			if prover.asked != tc.asked {
				t.Errorf("the prover was asked %d times, want %d", prover.asked, tc.asked)
			}
		})
	}
}

func TestTSCKHzIsSteady(t *testing.T) {
	first, ok := TSCKHz()
	if !ok {
		t.Logf("this host's clock is not its time stamp counter: guests measure it themselves")
		return
	}
	second, ok := TSCKHz()
	if diff := first - second; !ok || diff > first/1000 || -diff > first/1000 {
		t.Errorf("measured %d and %d kHz, want the same within 0.1 %%", first, second)
	}
}

func TestSteady(t *testing.T) {
	for _, tc := range []struct {
		name           string
		kept           string // what the file has, or empty for none
		measured, want int
	}{
		{"nothing is kept", "", 2_100_000, 2_100_000},
		{"it agrees", "2100000\n", 2_100_300, 2_100_000},
		{"it agrees from below", "2100000", 2_099_700, 2_100_000},
		{"another processor", "2100000", 2_200_000, 2_200_000},
		{"a damaged file", "fast", 2_100_000, 2_100_000},
		{"nonsense", "-1", 2_100_000, 2_100_000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cache", "tsc")
			if tc.kept != "" {
				if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(tc.kept), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 2 {
				if got := steady(path, tc.measured); got != tc.want {
					t.Errorf("answer %d is %d, want %d", i+1, got, tc.want)
				}
			}
		})
	}
}
