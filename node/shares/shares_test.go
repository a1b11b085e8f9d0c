package shares

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// childVariable names the pool's folder for a process that takes a share and waits to be killed.
const childVariable = "SHARES_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if _, err := pool(dir).Acquire(context.Background(), Share{MemoryMB: 800}, "the child"); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		println("held")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func pool(dir string) Pool { return Pool{Dir: dir, Total: Share{MemoryMB: 1000, MilliCores: 2000}} }

func TestNeverMoreThanThereIs(t *testing.T) {
	p := pool(t.TempDir())
	var held, most atomic.Int64
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			lease, err := p.Acquire(t.Context(), Share{MemoryMB: 300, MilliCores: 500}, t.Name())
			if err != nil {
				t.Error(err)
				return
			}
			now := held.Add(1)
			for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
			}
			held.Add(-1)
			if err := errors.Join(lease.Release(), lease.Release()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() > 3 {
		t.Errorf("%d held 300 MB of 1000 at once", most.Load())
	}
	lease, err := p.Acquire(t.Context(), p.Total, "everything")
	if err != nil {
		t.Fatalf("after all was given back: %v", err)
	}
	if err := lease.Release(); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	over := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	for _, c := range []struct {
		name    string
		held    Share
		share   Share
		is      error
		mention string
	}{
		{"too much memory", Share{}, Share{MemoryMB: 1001}, ErrTooMuch, "1001 MB"},
		{"too many cores", Share{}, Share{MilliCores: 2001}, ErrTooMuch, "2.001 cores"},
		{"negative", Share{}, Share{MemoryMB: -1}, nil, "negative"},
		{"memory is taken", Share{MemoryMB: 600}, Share{MemoryMB: 500}, context.DeadlineExceeded, "held by the first"},
		{"cores are taken", Share{MilliCores: 1500}, Share{MilliCores: 600}, context.DeadlineExceeded, "1.5 cores"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool(t.TempDir())
			lease, err := p.Acquire(t.Context(), c.held, "the first")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lease.Release() }()
			if _, err = p.Acquire(over(t), c.share, "the second"); err == nil {
				t.Fatal("it was given")
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.mention) {
				t.Errorf("%v: want %v, and a mention of %q", err, c.is, c.mention)
			}
		})
	}
}

func TestWhatTheDeadHeldIsFree(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+dir)
	said, err := child.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "held\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	half := Share{MemoryMB: 500}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := pool(dir).Acquire(ctx, half, "too early"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("while the child holds it: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if err := os.WriteFile(filepath.Join(dir, "new-1"), []byte("half a li"), 0o600); err != nil { // killed while it wrote
		t.Fatal(err)
	}
	lease, err := pool(dir).Acquire(t.Context(), half, "the heir")
	if err != nil {
		t.Fatalf("after the child's death: %v", err)
	}
	if err := lease.Release(); err != nil {
		t.Error(err)
	}
}

func TestHeirsHoldOn(t *testing.T) {
	p := pool(t.TempDir())
	lease, err := p.Acquire(t.Context(), p.Total, "the parent")
	if err != nil {
		t.Fatal(err)
	}
	heir := exec.CommandContext(t.Context(), "cat")
	heir.ExtraFiles = []*os.File{lease.File()}
	stdin, err := heir.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := heir.Start(); err != nil {
		t.Fatal(err)
	}
	if err := lease.file.Close(); err != nil { // as the kernel does for a parent that dies
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Acquire(ctx, Share{MemoryMB: 1}, "too early"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the heir lives: %v", err)
	}
	if err := errors.Join(stdin.Close(), heir.Wait()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Acquire(t.Context(), Share{MemoryMB: 1}, "after it"); err != nil {
		t.Errorf("after the heir: %v", err)
	}
}
