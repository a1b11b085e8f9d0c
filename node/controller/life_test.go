package controller

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/console"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// bubble runs a test in a world whose time costs nothing.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

func TestLifeOfAnLBVM(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.lbvm()
		id := inst.GetId()
		w.cloud.run(inst)
		pass(time.Second)
		w.wantState(id, stateRunning)
		spec := w.driver.starts[0]
		if spec.Cmdline != "quiet" || spec.MemoryMB != 96 || spec.NIC.MAC != inst.GetMac() ||
			!strings.HasPrefix(spec.Medium, w.media) {
			t.Errorf("started with %+v", spec)
		}
		medium := w.readMedium(id)
		if medium.Boot.InstanceID != id || medium.Boot.Endpoints["iam"] != "https://169.254.169.253/services/Euare/" ||
			string(medium.CloudCertPEM) == "" || medium.Boot.CAPEM != "ca" {
			t.Errorf("medium boots with %+v", medium.Boot)
		}
		if got := w.network.attached[id]; got.IP.String() != inst.GetPrivateIp() || got.Hostname != "ip-10-64-0-17" {
			t.Errorf("attached as %+v", got)
		}
		if w.network.forward["169.254.169.253:443"] != "127.0.0.1:8443" {
			t.Errorf("forwards %v", w.network.forward)
		}
		m := w.driver.machine(id)
		m.say(t, "[    0.0] kernel says hello", stage("booted", 0.5), "@cloudtwin {broken",
			strings.Repeat("x", 3*console.MaxLine),
			`[   1.2] noise @cloudtwin {"stage":"network","t":1.25,"addr":"10.64.0.17"}`)
		pass(time.Second)
		if m.drive() == "" {
			t.Error("the medium was taken before it was read")
		}
		m.say(t, stage("medium-read", 2, "instance", id), stage("serving", 3, "listener", "443"))
		pass(time.Second)
		if m.drive() != "" {
			t.Error("the medium is still in the drive")
		}
		w.wantNoMedia()
		want := "machine-started medium-inserted booted network medium-read serving medium-wiped/read"
		if got := w.cloud.told(id); sorted(got) != sorted(want) {
			t.Errorf("told %q, want %q", got, want)
		}

		w.cloud.remove(id)
		pass(time.Second)
		w.wantState(id, stateStopped)
		if w.driver.machine(id) != nil || len(w.network.ports()) != 0 {
			t.Error("the machine or its port is left")
		}
		for _, path := range []string{"node/machines/" + id, "net/" + id + ".sock"} {
			if _, err := os.Stat(filepath.Join(w.dir, path)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", path, err)
			}
		}
		if text, err := os.ReadFile(filepath.Join(w.dir, "node/ended", id+".console.log")); err != nil ||
			!strings.Contains(string(text), "hello") {
			t.Errorf("the console is not kept: %v", err)
		}
	})
}

func sorted(words string) string {
	fields := strings.Fields(words)
	for i := range fields {
		for j := i; j > 0 && fields[j] < fields[j-1]; j-- {
			fields[j], fields[j-1] = fields[j-1], fields[j]
		}
	}
	return strings.Join(fields, " ")
}

func TestMediumIsTakenAfterTwoMinutes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.lbvm()
		w.cloud.run(inst)
		pass(time.Second)
		m := w.driver.machine(inst.GetId())
		m.say(t, stage("booted", 1))
		pass(118 * time.Second)
		path := m.drive()
		if path == "" {
			t.Fatal("the medium was taken too early")
		}
		held, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = held.Close() }()
		pass(2 * time.Second)
		if m.drive() != "" {
			t.Error("the medium is still in the drive after 120 s")
		}
		w.wantNoMedia()
		// Whoever had the file open reads zeros.
		data := make([]byte, 1474560)
		if n, _ := held.ReadAt(data, 0); n != len(data) || strings.Trim(string(data), "\x00") != "" {
			t.Error("the image was not overwritten")
		}
		if got := w.cloud.told(inst.GetId()); !strings.Contains(got, "medium-wiped/expired") {
			t.Errorf("told %q", got)
		}
		// It would wait for ever; as a failed one it is replaced.
		w.wantState(inst.GetId(), stateFailed)
		if got := w.cloud.reason(inst.GetId()); !strings.Contains(got, "did not read its medium within 2m0s") {
			t.Errorf("reason %q", got)
		}
	})
}

func TestAGuestThatServesMayLeaveANewMediumUnread(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.lbvm()
		id := inst.GetId()
		w.cloud.run(inst)
		pass(time.Second)
		m := w.driver.machine(id)
		m.say(t, stage("medium-read", 1), stage("serving", 2))
		pass(time.Second)
		renewed := copyOf(inst)
		renewed.Credential = w.credential(nodeID, id)
		w.cloud.run(renewed)
		pass(3 * time.Minute)
		w.wantNoMedia()
		w.wantState(id, stateRunning)
		if got := w.cloud.told(id); !strings.Contains(got, "medium-wiped/expired") {
			t.Errorf("told %q", got)
		}
	})
}

func TestAMediumThatCannotBeWipedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, stop := w.start()
		defer stop()
		inst := w.lbvm()
		id := inst.GetId()
		w.cloud.run(inst)
		pass(time.Second)
		m := w.driver.machine(id)
		// A folder in the image's place: it cannot be overwritten, nor removed while something is in it.
		path := m.drive()
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700)); err != nil {
			t.Fatal(err)
		}
		m.say(t, stage("medium-read", 1))
		pass(10 * time.Second)
		if got := w.cloud.told(id); strings.Contains(got, "medium-wiped") {
			t.Errorf("told as wiped while it is there: %q", got)
		}
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, image, 0o600)); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		w.wantNoMedia()
		if got := w.cloud.told(id); !strings.Contains(got, "medium-wiped/read") {
			t.Errorf("told %q after the wipe that worked", got)
		}
		if n := len(c.media.stuck); n != 0 {
			t.Errorf("%d media are still to be wiped", n)
		}
	})
}

func TestDriveThatDoesNotOpen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.lbvm()
		w.cloud.run(inst)
		pass(time.Second)
		m := w.driver.machine(inst.GetId())
		w.driver.mu.Lock()
		m.ejectErr = errors.New("stuck")
		w.driver.mu.Unlock()
		m.say(t, stage("medium-read", 1))
		pass(time.Second)
		w.wantNoMedia() // wiped whatever the drive says
		w.driver.mu.Lock()
		m.ejectErr = nil
		w.driver.mu.Unlock()
		pass(5 * time.Second)
		if m.drive() != "" {
			t.Error("the drive was not emptied later")
		}
	})
}

func TestGuestsThatDoNotStart(t *testing.T) {
	tests := []struct {
		name   string
		change func(w *world, inst *nodelink.Instance)
		word   string
	}{
		{name: "credential for another node", word: "credential", change: func(w *world, inst *nodelink.Instance) {
			inst.Credential = w.credential("node-2", inst.GetId())
		}},
		{name: "credential for another instance", word: "credential", change: func(w *world, inst *nodelink.Instance) {
			inst.Credential = w.credential(nodeID, "i-00000000000000000")
		}},
		{name: "altered credential", word: "credential", change: func(_ *world, inst *nodelink.Instance) {
			sealed := []byte(inst.GetCredential().GetSealedKey())
			sealed[len(sealed)-3] ^= 1
			inst.Credential.SealedKey = string(sealed)
		}},
		{name: "unknown image", word: "load image", change: func(_ *world, inst *nodelink.Instance) { inst.Image = "none" }},
		{name: "image outside the folder", word: "malformed",
			change: func(_ *world, inst *nodelink.Instance) { inst.Image = "../lbvm" }},
		{name: "another build", word: "another build",
			change: func(_ *world, inst *nodelink.Instance) { inst.ImageDigest = "sha256:00" }},
		{name: "truncated image", word: "bytes", change: func(w *world, _ *nodelink.Instance) {
			if err := os.WriteFile(filepath.Join(w.dir, "images/lbvm/initramfs.img"), nil, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}},
		{name: "no hypervisor", word: "unavailable", change: func(w *world, _ *nodelink.Instance) {
			w.driver.startErr = fmt.Errorf("%w: no QEMU", hypervisor.ErrUnavailable)
		}},
		{name: "fault with evidence", word: "kernel panic", change: func(w *world, _ *nodelink.Instance) {
			w.driver.startErr = &hypervisor.Error{Op: "start", MachineID: "x", ConsoleTail: "kernel panic",
				Err: errors.New("boom")}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				_, stop := w.start()
				defer stop()
				inst := w.lbvm()
				tt.change(w, inst)
				w.cloud.run(inst)
				pass(time.Second)
				w.wantState(inst.GetId(), stateFailed)
				if got := w.cloud.reason(inst.GetId()); !strings.Contains(got, tt.word) {
					t.Errorf("reason %q, want one with %q", got, tt.word)
				}
				if len(w.driver.started()) != 0 {
					t.Error("the machine was started")
				}
				w.wantNoMedia()
				// The next guest is not in its way.
				w.driver.startErr = nil
				next := w.instance("web")
				w.cloud.run(next)
				pass(time.Second)
				w.wantState(next.GetId(), stateRunning)
			})
		})
	}
}

func TestGuestsThatEnd(t *testing.T) {
	tests := []struct {
		name, state, word string
		act               func(t *testing.T, m *fakeMachine)
	}{
		{name: "powers off", state: stateStopped, word: "powered off; last lines of its console:\nlast words",
			act: func(t *testing.T, m *fakeMachine) {
				m.say(t, "last words")
				m.end(hypervisor.Stopped, "shutdown")
			}},
		{name: "crashes", state: stateFailed, word: "crashed",
			act: func(_ *testing.T, m *fakeMachine) { m.end(hypervisor.Crashed, "crashed") }},
		{name: "panics", state: stateFailed, word: "crashed (panicked): [ 1.0] Kernel panic - not syncing: no memory",
			act: func(t *testing.T, m *fakeMachine) {
				m.say(t, "[ 1.0] Kernel panic - not syncing: no memory")
				m.say(t, strings.Repeat("[ 1.0]  a_function+0x1/0x2\n", 50))
				m.end(hypervisor.Crashed, "panicked")
			}},
		{name: "is destroyed from outside", state: stateStopped, word: "destroyed",
			act: func(_ *testing.T, m *fakeMachine) { m.end(hypervisor.Gone, "destroyed") }},
		{name: "says that it failed", state: stateFailed, word: "no clock", act: func(t *testing.T, m *fakeMachine) {
			m.say(t, stage("failed", 3, "reason", "no clock"))
			m.end(hypervisor.Stopped, "shutdown")
		}},
		{name: "never says anything", state: stateFailed, word: "no sign of life", act: func(t *testing.T, m *fakeMachine) {
			m.say(t, "panic: out of tea")
			pass(31 * time.Second)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				_, stop := w.start()
				defer stop()
				inst := w.lbvm()
				id := inst.GetId()
				w.cloud.run(inst)
				pass(time.Second)
				tt.act(t, w.driver.machine(id))
				pass(5 * time.Second)
				w.wantState(id, tt.state)
				if got := w.cloud.reason(id); !strings.Contains(got, tt.word) {
					t.Errorf("reason %q, want one with %q", got, tt.word)
				}
				w.wantNoMedia()
				if w.driver.machine(id) != nil || len(w.network.ports()) != 0 {
					t.Error("the machine or its port is left")
				}
				w.cloud.run(copyOf(inst)) // told again before the cloud has heard: not started again
				pass(time.Second)
				if n := len(w.driver.started()); n != 1 {
					t.Errorf("%d starts", n)
				}
				w.cloud.remove(id)
				pass(time.Second)
				if _, err := os.Stat(filepath.Join(w.dir, "node/machines", id)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the machine's folder is left: %v", err)
				}
			})
		})
	}
}
