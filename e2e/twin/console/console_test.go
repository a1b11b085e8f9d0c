package console

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	for line, want := range map[string]Kind{
		"[    1.234567] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200":               Panic,
		"[   12.000001] Oops: 0000 [#1] PREEMPT SMP NOPTI":                                                     Oops,
		"[   12.000001] BUG: unable to handle page fault for address: ffffffffffffffd8":                        Oops,
		"[   12.000001] kernel BUG at mm/slub.c:305!":                                                          Oops,
		"[   12.000001] general protection fault, probably for non-canonical address 0xdead: 0000 [#1]":        Oops,
		"[  242.123456] INFO: task kworker/0:1:18 blocked for more than 120 seconds.":                          HungTask,
		"[   48.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [lbvm-agent:61]":                     HungTask,
		"[   60.000000] rcu: INFO: rcu_preempt self-detected stall on CPU":                                     HungTask,
		"[    9.870000] Out of memory: Killed process 61 (lbvm-agent) total-vm:1223044kB":                      OutOfMemory,
		"[    9.860000] lbvm-agent invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0":       OutOfMemory,
		"fatal error: runtime: out of memory":                                                                  OutOfMemory,
		`@cloudtwin {"stage":"failed","t":1.200,"reason":"port cannot be opened"}`:                             AgentFailed,
		`[    3.0] @cloudtwin {"stage":"failed","t":3.000,"reason":"agent crashed"}`:                           AgentFailed,
		"panic: runtime error: index out of range [3] with length 3":                                           AgentFailed,
		"fatal error: all goroutines are asleep - deadlock!":                                                   AgentFailed,
		`@cloudtwin {"stage":"serving","t":3.214,"listener":"443","protocol":"HTTPS"}`:                         "",
		`@cloudtwin {"stage":"listener-failed","t":3.214,"reason":"the key was refused"}`:                      "",
		"[    0.000000] Command line: console=ttyS0 panic=-1 oops=panic":                                       "",
		"[    0.100000] Mountpoint-cache hash table entries: 512 (order: 0, 4096 bytes, linear)":               "",
		"time=2026-11-22T08:00:00Z level=WARN msg=\"metadata service not asked\" error=\"connection refused\"": "",
		"[    0.400000] rcu: Hierarchical RCU implementation.":                                                 "",
	} {
		if kind, bad := Judge(line); kind != want || bad != (want != "") {
			t.Errorf("%s\n  is %q, want %q", line, kind, want)
		}
	}
}

func TestScanReadsOn(t *testing.T) {
	dir := t.TempDir()
	path, moved := filepath.Join(dir, "console.log"), filepath.Join(dir, "ended.log")
	write := func(to, text string) {
		t.Helper()
		f, err := os.OpenFile(to, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var r Reader
	scan := func(path string, allowed ...string) (lines []int) {
		t.Helper()
		var patterns []*regexp.Regexp
		for _, text := range allowed {
			patterns = append(patterns, regexp.MustCompile(text))
		}
		found, err := r.Scan("i-1", path, patterns...)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Guest != "i-1" || f.Path != path || f.Text == "" {
				t.Errorf("found %+v", f)
			}
			lines = append(lines, f.Line)
		}
		return lines
	}
	want := func(step string, got []int, lines ...int) {
		t.Helper()
		if diff := cmp.Diff(lines, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step, diff)
		}
	}
	want("before the guest", scan(path))
	write(path, "booting\r\n[ 1.0] Oops: 0000 [#1]\r\n[ 1.1] Kernel pa")
	want("first", scan(path), 2)
	want("nothing new", scan(path))
	write(path, "nic - not syncing: no init\r\npanic: one\nfine\n")
	want("the rest of a line, one that is allowed", scan(path, "^panic: one$"), 3)
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	write(moved, "fatal error: two\n"+strings.Repeat("x", maxLine+10)+"\npanic: three\n")
	want("where it moved", scan(moved), 6, 8)
	write(moved, strings.Repeat("panic: again\n", 3*maxFindings))
	if n := len(scan(moved)); n != maxFindings {
		t.Errorf("%d findings, want %d at most", n, maxFindings)
	}
}
