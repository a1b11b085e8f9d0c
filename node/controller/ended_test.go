package controller

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var _ hypervisor.Witness = (*fakeMachine)(nil)

// Evidence has, beside what is kept, a file that nobody asked for.
func (m *fakeMachine) Evidence(context.Context) (map[string][]byte, error) {
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	if m.driver.machines[m.id] == nil {
		return nil, hypervisor.ErrNotFound
	}
	return map[string][]byte{hypervisor.EvidenceDomain: []byte("<domain>" + m.id + "</domain>"),
		hypervisor.EvidenceLog: []byte("qemu of " + m.id), "../other": []byte("x")}, nil
}

func TestEvidenceOfEndedMachines(t *testing.T) {
	for name, end := range map[string]func(w *world, m *fakeMachine){
		"terminated": func(w *world, m *fakeMachine) { w.cloud.remove(m.id) },
		"crashed": func(w *world, m *fakeMachine) {
			m.end(hypervisor.Crashed, "panic")
			pass(time.Minute)
			w.cloud.remove(m.id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				_, stop := w.start()
				defer stop()
				inst := w.instance("web")
				w.cloud.run(inst)
				pass(time.Second)
				m := w.driver.machine(inst.GetId())
				m.say(t, stage("booted", 1))
				end(w, m)
				pass(time.Minute)
				got := map[string]string{}
				for path := range filesBelow(t, filepath.Join(w.dir, "node")) {
					text, err := os.ReadFile(filepath.Join(w.dir, "node", path))
					if err != nil {
						t.Fatal(err)
					}
					got[path] = string(text)
				}
				id := inst.GetId()
				want := map[string]string{
					"ended/" + id + ".console.log": stage("booted", 1) + "\n",
					"ended/" + id + ".domain.xml":  "<domain>" + id + "</domain>",
					"ended/" + id + ".qemu.log":    "qemu of " + id,
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("what the node keeps (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func filesBelow(t *testing.T, dir string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		out[name] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTheLastEndedMachinesAreKept counts machines, not files: one with a capture must not cost another's console.
func TestTheLastEndedMachinesAreKept(t *testing.T) {
	dir := t.TempDir()
	f := machineFiles{dir: dir, sockets: dir}
	begin := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for i := range keepEnded + 3 {
		id := fmt.Sprintf("i-%d", i)
		if err := os.MkdirAll(f.folder(id), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{consoleFile, framesFile, hypervisor.EvidenceDomain} {
			path := filepath.Join(f.folder(id), name)
			if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, begin, begin.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		f.remove(id)
	}
	got := filesBelow(t, filepath.Join(dir, endedDir))
	if len(got) != 3*keepEnded {
		t.Errorf("%d files of %d machines are kept, want all three of each of %d", len(got), keepEnded+3, keepEnded)
	}
	if got["i-2."+consoleFile] || !got["i-3."+consoleFile] || !got["i-3."+framesFile] {
		t.Error("others than the last ended machines are kept")
	}
}
