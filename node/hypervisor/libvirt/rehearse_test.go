package libvirt

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

func TestRehearsalsThatKeepFailing(t *testing.T) {
	tmpl, r := hypervisor.Template{State: "a"}, &hypervisor.Rehearsal{}
	p := newPools()
	p.set(tmpl, goodSpec(), 1, r)
	if p.rehearsal(tmpl) != r || p.rehearsal(hypervisor.Template{State: "b"}) != nil {
		t.Error("the wrong template rehearses")
	}
	for _, failed := range []bool{true, false, true} {
		p.rehearsed(tmpl, failed)
		if p.rehearsal(tmpl) != r {
			t.Error("given up before two failures in a row")
		}
	}
	p.rehearsed(tmpl, true)
	if p.rehearsal(tmpl) != nil {
		t.Error("not given up after two failures in a row")
	}
	p.set(tmpl, goodSpec(), 1, r)
	if p.rehearsal(tmpl) != r {
		t.Error("given up for ever")
	}
}

func TestSaidDone(t *testing.T) {
	done := func(line []byte) bool { return bytes.Contains(line, []byte("done")) }
	for _, tc := range []struct {
		name, text string
		want, bad  bool
	}{
		{"nothing yet", "", false, false},
		{"other things", "one\r\ntwo\r\n", false, false},
		{"half a line", "one\ndone", false, false},
		{"the line", "one\ndone\r\ntwo", true, false},
		{"too much", strings.Repeat("x\n", maxRehearsal/2+1), false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(log, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := saidDone(log, done); got != tc.want || (err != nil) != tc.bad {
				t.Errorf("done %t, %v", got, err)
			}
		})
	}
	if _, err := saidDone(filepath.Join(t.TempDir(), "missing"), done); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
}

func TestWipeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "medium")
	if err := os.WriteFile(path, []byte("random"), 0o600); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 2 { // the second time it is gone
		if err := wipeFile(path); err != nil {
			t.Error(err)
		}
	}
	left := make([]byte, len("random"))
	if _, err := open.Read(left); err != nil || !bytes.Equal(left, make([]byte, len(left))) {
		t.Errorf("who has it open reads %q, %v", left, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is left")
	}
}

var _ = Describe("a pool whose machines cannot rehearse", Label("vm"), func() {
	It("keeps them ready all the same", func(ctx context.Context) {
		d, spec := openFor(ctx, config(), "i-unrehearsed")
		dir := filepath.Dir(spec.ConsoleLog)
		tmpl := hypervisor.Template{Memory: filepath.Join(dir, "memory"), State: filepath.Join(dir, "state")}
		m, err := d.StartTemplate(ctx, spec, tmpl)
		Expect(err).NotTo(HaveOccurred())
		Expect(awaitLine(ctx, m, "@conformance ready")).To(Succeed())
		Expect(d.SaveTemplate(ctx, m, tmpl)).To(Succeed())
		var tries atomic.Int64
		Expect(d.Prepare(ctx, spec, tmpl, 1, &hypervisor.Rehearsal{
			Medium: func(path string) error {
				tries.Add(1)
				return errors.Join(os.WriteFile(path, nil, 0o600), errors.New("half a medium"))
			},
			Done: func([]byte) bool { return false },
		})).To(Succeed())
		Eventually(d.pools.ready).WithTimeout(time.Minute).Should(Equal(1))
		Expect(tries.Load()).To(BeEquivalentTo(maxFailures))
		Expect(filepath.Glob(filepath.Join(d.forkDir(), "*.img"))).To(BeEmpty())
		Expect(filepath.Glob(filepath.Join(d.forkDir(), "*.log"))).To(HaveLen(1), "those that failed left nothing")
	}, SpecTimeout(3*time.Minute))
})
