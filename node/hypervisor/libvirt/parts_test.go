package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

func TestKernelCmdline(t *testing.T) {
	for _, tc := range []struct {
		name, accelerator string
		khz               int
		own, has, lacks   string
	}{
		{"tcg", accel.TCG, 0, "", "no_timer_check", "tsc_early_khz"},
		{"tcg with a known rate", accel.TCG, 2100000, "x=y", "tsc_early_khz=2100000 x=y", "lpj"},
		{"kvm", accel.KVM, 2100000, "x=y", "console=ttyS0", "tsc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := KernelCmdline(tc.accelerator, tc.khz, tc.own)
			if !strings.Contains(got, tc.has) || strings.Contains(got, tc.lacks) || strings.HasSuffix(got, " ") {
				t.Errorf("%q: want %q in it and %q not", got, tc.has, tc.lacks)
			}
		})
	}
}

func TestTranslate(t *testing.T) {
	stoppedBy := func(detail libvirt.DomainEventStoppedDetailType) libvirt.DomainEventLifecycle {
		return libvirt.DomainEventLifecycle{Event: libvirt.DOMAIN_EVENT_STOPPED, Detail: int(detail)}
	}
	for _, tc := range []struct {
		name  string
		event libvirt.DomainEventLifecycle
		want  hypervisor.State
	}{
		{"started", libvirt.DomainEventLifecycle{Event: libvirt.DOMAIN_EVENT_STARTED}, hypervisor.Running},
		{"suspended", libvirt.DomainEventLifecycle{Event: libvirt.DOMAIN_EVENT_SUSPENDED}, hypervisor.Paused},
		{"undefined", libvirt.DomainEventLifecycle{Event: libvirt.DOMAIN_EVENT_UNDEFINED}, hypervisor.Gone},
		{"defined", libvirt.DomainEventLifecycle{Event: libvirt.DOMAIN_EVENT_DEFINED}, ""},
		{"power off", stoppedBy(libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN), hypervisor.Stopped},
		{"destroyed", stoppedBy(libvirt.DOMAIN_EVENT_STOPPED_DESTROYED), hypervisor.Stopped},
		{"QEMU died", stoppedBy(libvirt.DOMAIN_EVENT_STOPPED_FAILED), hypervisor.Crashed},
		{"panic device", stoppedBy(libvirt.DOMAIN_EVENT_STOPPED_CRASHED), hypervisor.Crashed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, reason, ok := translate(&tc.event)
			if got != tc.want || ok != (tc.want != "") || (ok && reason == "") {
				t.Errorf("%q because %q, %t; want %q", got, reason, ok, tc.want)
			}
		})
	}
}

// newFollower reads path the way Console does, of a machine that ends when ended is closed.
func newFollower(ctx context.Context, t *testing.T, w *fileWatch, path string, ended chan struct{}) *follower {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	grown := w.add(path)
	return &follower{
		ctx: ctx, cancel: cancel, file: file, grown: grown, ended: ended, tick: time.NewTicker(consoleTick),
		done: func() { w.remove(path, grown) },
	}
}

func TestFollower(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	w := newFileWatch(slog.New(slog.DiscardHandler))
	defer w.close()
	path := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ended := make(chan struct{})
	f := newFollower(t.Context(), t, w, path, ended)
	defer f.Close()
	buf := make([]byte, 100)
	for _, word := range []string{"one", "two"} {
		if _, err := log.WriteString(word); err != nil {
			t.Fatal(err)
		}
		if n, err := f.Read(buf); err != nil || string(buf[:n]) != word {
			t.Fatalf("read %q, %v; want %q", buf[:n], err, word)
		}
	}
	close(ended)
	if _, err := log.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(f); err != nil || string(rest) != "last words" {
		t.Errorf("read %q, %v", rest, err)
	}
}

func TestFollowerEndsWithItsContextAndWhenClosed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		end  func(cancel context.CancelFunc, f *follower)
	}{
		{"context", func(cancel context.CancelFunc, _ *follower) { cancel() }},
		{"closed", func(_ context.CancelFunc, f *follower) { _ = f.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newFileWatch(slog.New(slog.DiscardHandler))
			defer w.close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f := newFollower(ctx, t, w, path, make(chan struct{}))
			defer f.Close()
			read := make(chan error, 1)
			go func() {
				_, err := f.Read(make([]byte, 1))
				read <- err
			}()
			tc.end(cancel, f)
			if err := <-read; !errors.Is(err, io.EOF) {
				t.Errorf("read ended with %v, want EOF", err)
			}
		})
	}
}

func TestConsoleTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	old := strings.Repeat("Kernel panic - not syncing\n", 1000)
	if err := os.WriteFile(path, []byte(old+"booted\xff\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := consoleTail(path, int64(len(old))); got != "booted?\n" || endsInPanic(got) {
		t.Errorf("tail %q: it holds bytes of an earlier machine", got)
	}
	if got := consoleTail(path, 0); len(got) != tailBytes || !endsInPanic(got) {
		t.Errorf("tail of %d bytes, want the last %d", len(got), tailBytes)
	}
	if got := consoleTail(path+"-missing", 0); got != "" {
		t.Errorf("tail %q of a missing file", got)
	}
}

func TestCapabilitiesGoRound(t *testing.T) {
	cache, first, second := t.TempDir(), t.TempDir(), t.TempDir()
	put := func(path, text string) {
		t.Helper()
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return string(data)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(seedCapabilities(cache, first)) // there is nothing yet
	put(filepath.Join(first, capsInRoot, "a.xml"), "v1")
	must(saveCapabilities(cache, first))
	must(seedCapabilities(cache, second))
	if diff := cmp.Diff("v1", get(filepath.Join(second, capsInRoot, "a.xml"))); diff != "" {
		t.Error(diff)
	}
	put(filepath.Join(second, capsInRoot, "a.xml"), "v2") // libvirt found it stale and asked again
	must(seedCapabilities(cache, second))
	if got := get(filepath.Join(second, capsInRoot, "a.xml")); got != "v2" {
		t.Errorf("a root's own knowledge was replaced by %q", got)
	}
	must(saveCapabilities(cache, second))
	if got := get(filepath.Join(cache, capsInCache, "a.xml")); got != "v2" {
		t.Errorf("the cache has %q, want the newer", got)
	}
	put(filepath.Join(cache, capsInCache, "big.xml"), strings.Repeat("x", maxCapsFile+1))
	if err := seedCapabilities(cache, t.TempDir()); err == nil {
		t.Error("a file beyond all measure was copied")
	}
}

func TestKeyedLocks(t *testing.T) {
	var k keyedLocks
	unlock := k.lock("another name does not wait")
	var held atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				unlock := k.lock("a")
				if !held.CompareAndSwap(false, true) {
					t.Error("two hold one lock")
				}
				held.Store(false)
				unlock()
			}
		})
	}
	wg.Wait()
	unlock()
	if len(k.locks) != 0 {
		t.Errorf("%d locks are kept", len(k.locks))
	}
}

func TestAnswerError(t *testing.T) {
	for _, tc := range []struct{ name, answer, want string }{
		{"done", `{"return": {}}`, ""},
		{"refused", `{"error": {"class": "GenericError", "desc": "no display"}}`, "no display (GenericError)"},
		{"no JSON", `{`, "read QEMU's answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := answerError([]byte(tc.answer))
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestStartErrorTellsHostFromMachine(t *testing.T) {
	d := &Driver{}
	spec := hypervisor.Spec{ID: "i-1"}
	internal := func(message string) error {
		return libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: message}
	}
	for _, tc := range []struct {
		name string
		err  error
		host bool
	}{
		{"no memory", internal("cannot set up guest memory 'pc.ram': Cannot allocate memory"), true},
		{"full disk", fmt.Errorf("console log: %w", syscall.ENOSPC), true},
		{"bad kernel", internal("qemu: linux kernel too old to load a ram disk"), false},
		{"missing file", fmt.Errorf("kernel: %w", os.ErrNotExist), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := d.startError(spec, tc.err)
			var machine *hypervisor.Error
			if errors.Is(err, hypervisor.ErrUnavailable) != tc.host || errors.As(err, &machine) == tc.host {
				t.Errorf("got %v, want the host at fault: %t", err, tc.host)
			}
			if strings.Contains(err.Error(), "virError") {
				t.Errorf("%q is written for programs", err)
			}
		})
	}
}

func TestOnOneCPU(t *testing.T) {
	want := errors.New("passed on")
	if err := onOneCPU(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestPIDFiles(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"run/qemu/ct-i-1.pid": "4000001\n", "run/qemu/driver.pid": fmt.Sprint(os.Getpid()), "run/qemu/bad.pid": "x",
		"run/qemu/init.pid": "1", "lib/qemu/qmp-abc/qmp.pid": "4000002", "run/qemu/other.xml": "4000003",
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]int{4000001, 4000002}, pidFiles(root)); diff != "" {
		t.Error(diff)
	}
}
