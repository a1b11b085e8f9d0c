package controller

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/imds"
)

func TestANextProcessGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		inst := w.lbvm()
		inst.Exposures = []*nodelink.Exposure{{HostAddress: "127.1.0.1:443", GuestPort: 443}}
		id := inst.GetId()
		w.cloud.run(inst)
		pass(time.Second)
		m := w.driver.machine(id)
		m.say(t, stage("booted", 1), stage("medium-read", 2), stage("serving", 3))
		pass(time.Second)
		stop()
		if w.driver.machine(id) == nil {
			t.Fatal("the guest ended with its node's process")
		}
		told := w.cloud.told(id)
		w.network = newFakeNetwork()
		w.cloud.cut(true)

		_, stop = w.start()
		defer stop()
		pass(time.Second)
		if diff := cmp.Diff([]string{id}, w.network.ports()); diff != "" {
			t.Errorf("attached while the cloud is away (-want +got):\n%s", diff)
		}
		if got := w.network.exposures()["127.1.0.1:443"]; got != id+":443" {
			t.Errorf("exposed while the cloud is away: %q", got)
		}
		m.say(t, stage("listener-closed", 9))
		w.cloud.cut(false)
		w.cloud.mu.Lock()
		w.cloud.stages = map[string][]string{}
		w.cloud.mu.Unlock()
		pass(10 * time.Second)
		if n := len(w.driver.started()); n != 1 {
			t.Errorf("%d starts", n)
		}
		if m.inserted != 0 {
			t.Error("a guest that had read its medium got another")
		}
		w.wantState(id, stateRunning)
		// The guest's words are told as before, each once: the cloud knows them again.
		for _, s := range []string{"booted", "medium-read", "serving", "listener-closed"} {
			if n := strings.Count(w.cloud.told(id), s); n != 1 {
				t.Errorf("%s was told %d times to the next connection (%q, before: %q)", s, n, w.cloud.told(id), told)
			}
		}
		w.cloud.remove(id)
		pass(time.Second)
		if w.driver.machine(id) != nil {
			t.Error("the guest could not be removed")
		}
	})
}

func TestAMediumThatAKilledProcessLeft(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  int
	}{
		{name: "not read yet", lines: []string{stage("booted", 1)}, want: 1},
		{name: "read while nobody listened", lines: []string{stage("booted", 1), stage("medium-read", 2)}, want: 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				_, stop := w.start()
				inst := w.lbvm()
				id := inst.GetId()
				w.cloud.run(inst)
				pass(time.Second)
				m := w.driver.machine(id)
				image, err := os.ReadFile(m.drive())
				if err != nil {
					t.Fatal(err)
				}
				stop()
				// What a kill -9 leaves: the image, in the drive.
				left := filepath.Join(w.media, id+"-123.img")
				if err := os.WriteFile(left, image, 0o600); err != nil {
					t.Fatal(err)
				}
				w.driver.mu.Lock()
				m.medium = left
				w.driver.mu.Unlock()
				m.say(t, tt.lines...)

				w.cloud.cut(true)
				_, stop = w.start()
				defer stop()
				pass(time.Second)
				if m.drive() != "" {
					t.Error("the left-over medium is still in the drive")
				}
				w.wantNoMedia()
				w.cloud.cut(false)
				pass(10 * time.Second)
				if m.inserted != tt.want {
					t.Fatalf("%d new media, want %d", m.inserted, tt.want)
				}
				if tt.want == 0 && !strings.Contains(w.cloud.told(id), "medium-wiped/read") {
					t.Errorf("the cloud is not told that its credential has done its work: %q", w.cloud.told(id))
				}
				if tt.want == 1 {
					w.readMedium(id)
					m.say(t, stage("medium-read", 20))
					pass(time.Second)
				}
				w.wantNoMedia()
			})
		})
	}
}

func TestAStartThatAKilledProcessDidNotFinish(t *testing.T) {
	for _, state := range []hypervisor.State{"none", hypervisor.Stopped, hypervisor.Paused, hypervisor.Running} {
		t.Run(string(state), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				inst := w.lbvm()
				id := inst.GetId()
				files := machineFiles{dir: filepath.Join(w.dir, "node"), sockets: filepath.Join(w.dir, "net")}
				if err := os.MkdirAll(files.folder(id), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := files.save(record{Instance: inst}); err != nil {
					t.Fatal(err)
				}
				var half *fakeMachine
				if state != "none" {
					if _, err := w.driver.Start(t.Context(), hypervisor.Spec{
						ID: id, Kernel: "/k", Initrd: "/i", ConsoleLog: files.console(id), MemoryMB: 96,
					}); err != nil {
						t.Fatal(err)
					}
					half = w.driver.machine(id)
					half.state = state
				}
				w.cloud.run(inst)
				_, stop := w.start()
				defer stop()
				pass(time.Second)
				w.wantState(id, stateRunning)
				if m := w.driver.machine(id); m == nil || m == half {
					t.Error("the guest was not started anew")
				}
				w.readMedium(id)
			})
		})
	}
}

func TestGuestsThatEndedWhileTheNodeWasAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		inst := w.instance("web")
		id := inst.GetId()
		w.cloud.run(inst)
		pass(time.Second)
		m := w.driver.machine(id)
		m.say(t, stage("booted", 1), "goodbye")
		pass(time.Second)
		stop()
		if err := m.Kill(context.Background()); err != nil {
			t.Fatal(err)
		}
		_, stop = w.start()
		pass(time.Second)
		w.wantState(id, stateStopped)
		if got := w.cloud.reason(id); !strings.Contains(got, "goodbye") {
			t.Errorf("reason %q", got)
		}
		// And still so after one more process, until the cloud has done with it.
		stop()
		_, stop = w.start()
		defer stop()
		pass(time.Second)
		if n := len(w.driver.started()); n != 1 {
			t.Errorf("%d starts", n)
		}
		w.wantState(id, stateStopped)
		w.cloud.remove(id)
		pass(time.Second)
		entries, err := os.ReadDir(filepath.Join(w.dir, "node/machines"))
		if err != nil || len(entries) != 0 {
			t.Errorf("%d machine folders are left, %v", len(entries), err)
		}
	})
}

func TestMachinesWithoutAnInstanceAreEnded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		start := func(id string) {
			if _, err := w.driver.Start(t.Context(), hypervisor.Spec{
				ID: id, Kernel: "/k", Initrd: "/i", ConsoleLog: filepath.Join(w.dir, id+".log"), MemoryMB: 96,
			}); err != nil {
				t.Fatal(err)
			}
		}
		wanted := w.instance("web")
		start("i-stray")
		start(wanted.GetId())
		w.cloud.run(wanted)
		w.cloud.cut(true)
		_, stop := w.start()
		defer stop()
		pass(10 * time.Second)
		if w.driver.machine("i-stray") == nil {
			t.Error("a machine was ended before the cloud had its say")
		}
		w.cloud.cut(false)
		pass(10 * time.Second)
		if w.driver.machine("i-stray") != nil {
			t.Error("a machine without an instance still runs")
		}
		if w.driver.machine(wanted.GetId()) == nil || len(w.driver.started()) != 3 {
			t.Error("a machine without a record was not started anew")
		}
		w.wantState(wanted.GetId(), stateRunning)
	})
}

func TestTheCloudGoesAwayAndComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		a, b := w.instance("web"), w.instance("web")
		w.cloud.run(a, b)
		pass(time.Second)
		for _, inst := range []*nodelink.Instance{a, b} {
			w.driver.machine(inst.GetId()).say(t, stage("booted", 1))
		}
		w.cloud.cut(true)
		pass(time.Minute)
		w.cloud.mu.Lock()
		tries := w.cloud.syncs
		w.cloud.snapshot = []*nodelink.Instance{b} // a was ended meanwhile
		w.cloud.mu.Unlock()
		if tries < 5 || tries > 40 {
			t.Errorf("%d tries in a minute", tries)
		}
		if w.driver.machine(a.GetId()) == nil || w.driver.machine(b.GetId()) == nil {
			t.Fatal("guests ended because the cloud was away")
		}
		w.driver.machine(b.GetId()).end(hypervisor.Crashed, "crashed")
		pass(5 * time.Second)
		w.cloud.cut(false)
		pass(10 * time.Second)
		w.wantState(b.GetId(), stateFailed)
		if w.driver.machine(a.GetId()) != nil {
			t.Error("an instance that is not in the snapshot still runs")
		}
		w.cloud.mu.Lock()
		last := w.cloud.firsts[len(w.cloud.firsts)-1]
		w.cloud.mu.Unlock()
		if diff := cmp.Diff([]string{a.GetId() + "=running", b.GetId() + "=failed"}, last); diff != "" {
			t.Errorf("the first report after the pause (-want +got):\n%s", diff)
		}
	})
}

func TestHeartbeatsTellOnlyWhatChanged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var memory atomic.Uint64
		w.change = func(c *Config) {
			c.Status = func() *nodelink.NodeStatus { return &nodelink.NodeStatus{MemoryMbTotal: memory.Load()} }
		}
		_, stop := w.start()
		defer stop()
		w.cloud.run(w.instance("web"))
		pass(time.Minute)
		count := func() (reports, statuses int) {
			w.cloud.mu.Lock()
			defer w.cloud.mu.Unlock()
			return w.cloud.reports, w.cloud.statuses
		}
		reports, statuses := count()
		if reports < 12 || statuses != 1 {
			t.Errorf("%d reports in a minute, %d of them with the node's status; want 12 and more, 1", reports, statuses)
		}
		memory.Store(1)
		pass(10 * time.Second)
		if _, after := count(); after != statuses+1 {
			t.Errorf("the changed status was told %d times", after-statuses)
		}
	})
}

func TestRoleCredentials(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, stop := w.start()
		defer stop()
		inst := w.instance("web")
		id := inst.GetId()
		w.cloud.run(inst)
		pass(time.Second)
		ask := func(want string) {
			t.Helper()
			got, err := c.RoleCredentials(t.Context(), id)
			if err != nil || got.AccessKeyID != want {
				t.Fatalf("credentials %v, %v; want %s", got, err, want)
			}
		}
		ask("ASIA1")
		pass(54 * time.Minute)
		ask("ASIA1")
		pass(2 * time.Minute)
		ask("ASIA2") // five minutes before their end there are new ones
		w.cloud.roleErr = errAway
		pass(57 * time.Minute)
		ask("ASIA2") // the cloud is away, and these are good for three minutes more
		pass(5 * time.Minute)
		if _, err := c.RoleCredentials(t.Context(), id); err == nil || errors.Is(err, imds.ErrNoRole) {
			t.Errorf("ended credentials while the cloud is away: %v", err)
		}
		w.cloud.roleErr = status.Error(codes.NotFound, "")
		if _, err := c.RoleCredentials(t.Context(), id); !errors.Is(err, imds.ErrNoRole) {
			t.Errorf("a role that is gone: %v", err)
		}
		w.cloud.roleErr = status.Error(codes.PermissionDenied, "")
		if _, err := c.RoleCredentials(t.Context(), id); !errors.Is(err, imds.ErrUnauthorized) {
			t.Errorf("a role that is refused: %v", err)
		}
		if _, err := c.RoleCredentials(t.Context(), "i-unknown"); !errors.Is(err, imds.ErrNoRole) {
			t.Errorf("an unknown instance: %v", err)
		}
		got, ok := c.Instance(id)
		if !ok || got.PrivateIP.String() != inst.GetPrivateIp() || string(got.UserData) != "data" {
			t.Errorf("metadata %+v, %v", got, ok)
		}
		if _, ok := c.Instance("i-unknown"); ok {
			t.Error("metadata of an unknown instance")
		}
	})
}

func TestNoSecretInTheNodesFolder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.lbvm()
		w.cloud.run(inst)
		pass(time.Second)
		m := w.readMedium(inst.GetId())
		err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if strings.Contains(string(data), string(m.LBKey)) ||
				strings.Contains(string(data), inst.GetCredential().GetSealedKey()) {
				t.Errorf("%s holds the credential", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(w.dir, "node"))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the node's folder has mode %v, %v", info.Mode(), err)
		}
	})
}

// TestRoleCredentialsOfProfile: what was cached for a profile is given for no other, and for none.
func TestRoleCredentialsOfProfile(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, stop := w.start()
		defer stop()
		inst := w.instance("web")
		inst.InstanceProfileId = "AIPA1"
		w.cloud.run(inst)
		pass(time.Second)
		for _, tc := range []struct {
			name   string
			change func(*nodelink.Instance)
			want   string
		}{
			{"at first", func(*nodelink.Instance) {}, "ASIA1"},
			{"its tags changed", func(in *nodelink.Instance) { in.Tags = map[string]string{"a": "b"} }, "ASIA1"},
			{"another profile", func(in *nodelink.Instance) { in.InstanceProfileId = "AIPA2" }, "ASIA2"},
			{"another role", func(in *nodelink.Instance) { in.RoleName = "other" }, "ASIA3"},
			{"no role", func(in *nodelink.Instance) { in.RoleName = "" }, ""},
			{"the role again", func(in *nodelink.Instance) { in.RoleName = "other" }, "ASIA4"},
			{"attached anew", func(in *nodelink.Instance) { in.InstanceProfileUnix = 7 }, "ASIA5"},
		} {
			inst = proto.Clone(inst).(*nodelink.Instance)
			tc.change(inst)
			inst.Generation++
			w.cloud.run(inst)
			pass(time.Second)
			got, err := c.RoleCredentials(t.Context(), inst.GetId())
			if got.AccessKeyID != tc.want || errors.Is(err, imds.ErrNoRole) != (tc.want == "") {
				t.Errorf("%s: %v, %v; want %s", tc.name, got, err, tc.want)
			}
		}
	})
}
