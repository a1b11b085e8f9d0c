package controller

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// reboot asks for a reboot of an instance, of an LBVM as the cloud does: with a credential that is new.
func (w *world) reboot(inst *nodelink.Instance) *nodelink.Instance {
	w.t.Helper()
	again := copyOf(inst)
	again.Reboots++
	again.Generation++
	if inst.GetCredential() != nil {
		again.Credential = w.credential(nodeID, inst.GetId())
	}
	w.cloud.run(again)
	return again
}

func TestReboot(t *testing.T) {
	for _, tt := range []struct {
		name string
		obey bool // the guest switches itself off when it is asked
	}{
		{"of a guest that switches itself off", true},
		{"of a guest that does not", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				_, stop := w.start()
				defer stop()
				inst := w.lbvm()
				inst.Exposures = []*nodelink.Exposure{{HostAddress: "127.1.0.1:443", GuestPort: 443}}
				id := inst.GetId()
				w.cloud.run(inst)
				pass(time.Second)
				first := w.driver.machine(id)
				first.say(t, stage("booted", 1), stage("medium-read", 2), stage("serving", 3))
				pass(time.Second)

				again := w.reboot(inst)
				pass(time.Second)
				if w.driver.machine(id) != first {
					t.Fatal("the machine was ended before its guest could switch itself off")
				}
				if tt.obey {
					first.end(hypervisor.Stopped, "shutdown")
				}
				pass(rebootGrace + time.Second)
				second := w.driver.machine(id)
				if second == nil || second == first || len(w.driver.started()) != 2 {
					t.Fatalf("the instance was started %d times", len(w.driver.started()))
				}
				w.wantState(id, stateRunning)
				medium := w.readMedium(id)
				if medium.Boot.Credential != again.GetCredential().Fingerprint() {
					t.Errorf("the medium is of credential %s, want the new one", medium.Boot.Credential)
				}
				if got := w.network.exposures()["127.1.0.1:443"]; got != id+":443" {
					t.Errorf("exposed as %q after the reboot", got)
				}
				second.say(t, stage("booted", 1), stage("medium-read", 2), stage("serving", 3)) // as the first time
				pass(time.Second)
				w.wantNoMedia()
				if n := strings.Count(w.cloud.told(id), "serving"); n != 2 {
					t.Errorf("serving was told %d times, want once for each boot: %s", n, w.cloud.told(id))
				}
				text, err := os.ReadFile(filepath.Join(w.dir, "node/machines", id, consoleFile))
				if err != nil || strings.Count(string(text), `"stage":"serving"`) != 2 {
					t.Errorf("the console does not have both lives (%v):\n%s", err, text)
				}

				w.cloud.run(again) // told again, as after a new connection
				pass(time.Minute)
				if w.driver.machine(id) != second {
					t.Error("one wish was two reboots")
				}
			})
		})
	}
}

func TestRebootOfAGuestThatIsNotThere(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.instance("web")
		inst.Reboots = 3 // in an earlier life of the node
		w.cloud.run(inst)
		pass(time.Minute)
		if n := len(w.driver.started()); n != 1 {
			t.Errorf("%d starts of an instance that was rebooted before it came here", n)
		}
	})
}

// What a node is killed in: after it had taken note of the reboot, before the new machine ran.
func TestAKilledNodeGoesOnWithAReboot(t *testing.T) {
	for _, tt := range []struct {
		name   string
		image  string
		starts int // in all
		state  string
	}{
		{"of a guest without a key", "web", 2, stateRunning},
		{"but an LBVM is the cloud's to replace", "lbvm", 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				_, stop := w.start()
				inst := w.instance(tt.image)
				if tt.image == "lbvm" {
					inst.Credential = w.credential(nodeID, inst.GetId())
				}
				id := inst.GetId()
				w.cloud.run(inst)
				pass(time.Second)
				w.driver.machine(id).say(t, stage("booted", 1), stage("medium-read", 2))
				pass(time.Second)
				w.reboot(inst)
				pass(time.Second)
				stop()
				w.network = newFakeNetwork()
				w.cloud.cut(true)
				_, stop = w.start()
				defer stop()
				pass(time.Second)
				if n := len(w.driver.started()); n != tt.starts {
					t.Errorf("%d starts, want %d", n, tt.starts)
				}
				if tt.state == "" {
					if w.driver.machine(id) != nil {
						t.Error("the old machine goes on")
					}
					if _, err := os.Stat(filepath.Join(w.dir, "node/machines", id)); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("its folder is left: %v", err)
					}
					return
				}
				w.cloud.cut(false)
				pass(10 * time.Second)
				w.wantState(id, tt.state)
				if n := len(w.driver.started()); n != tt.starts {
					t.Errorf("%d starts after the cloud is back, want %d", n, tt.starts)
				}
			})
		})
	}
}
