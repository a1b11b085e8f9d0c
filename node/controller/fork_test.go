package controller

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/node/floppy"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/template"
)

func TestForks(t *testing.T) {
	for _, tt := range []struct {
		name, image, guests string
		pooled              bool
	}{
		{name: "lbvm", image: "lbvm", guests: "fork"},
		{name: "web", image: "web", guests: "fork"},
		{name: "taken from the pool", image: "web", guests: "pooled", pooled: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				d := w.forks()
				d.taken = tt.pooled
				_, stop := w.start()
				defer stop()
				inst := w.lbvm()
				if tt.image == "web" {
					inst = w.instance("web")
				}
				id := inst.GetId()
				w.cloud.run(inst)
				pass(time.Second)
				w.wantState(id, stateRunning)
				if d.forked() != 1 || d.forks[0].Cmdline != "quiet "+template.Word || d.forks[0].ID != id {
					t.Fatalf("forks %+v", d.forks)
				}
				boot := w.readBoot(id)
				if boot.InstanceID != id || boot.MAC != inst.GetMac() || len(boot.Entropy) != keydelivery.EntropySize ||
					time.Since(boot.Time).Abs() > time.Minute {
					t.Errorf("the medium says %+v", boot)
				}
				m := w.driver.machine(id)
				m.say(t, stage("medium-read", 1), stage("network", 1.1))
				pass(time.Second)
				w.wantNoMedia()
				if m.drive() != "" {
					t.Error("the medium is still in the drive")
				}
				m.say(t, stage("serving", 2))
				pass(10 * time.Minute)
				w.wantState(id, stateRunning)
				want := "machine-started medium-inserted medium-read network medium-wiped/read serving"
				if got := w.cloud.told(id); sorted(got) != sorted(want) {
					t.Errorf("told %q, want %q", got, want)
				}
				if got := w.cloud.attribute(id, stageStarted, "guests"); got != tt.guests {
					t.Errorf("machine-started says guests=%q, want %q", got, tt.guests)
				}
				if m.inserted != 0 {
					t.Error("a guest that has read its medium got another")
				}
			})
		})
	}
}

// readBoot reads what a guest's medium says of it, with or without a credential.
func (w *world) readBoot(id string) keydelivery.Boot {
	w.t.Helper()
	f, err := os.Open(w.driver.machine(id).drive())
	if err != nil {
		w.t.Fatalf("no medium for %s: %v", id, err)
	}
	defer func() { _ = f.Close() }()
	fsys, err := floppy.Read(f)
	if err != nil {
		w.t.Fatal(err)
	}
	boot, err := keydelivery.ReadBoot(fsys)
	if err != nil {
		w.t.Fatal(err)
	}
	return boot
}

func TestAForkThatFailsIsBootedCold(t *testing.T) {
	for _, tt := range []struct {
		name   string
		setUp  func(w *world, d *forkDriver)
		then   func(t *testing.T, w *world, id string)
		after  time.Duration
		reason string
	}{
		{name: "the driver refuses", setUp: func(_ *world, d *forkDriver) { d.forkErr = errors.New("no more room") },
			reason: "no more room"},
		{name: "the driver cannot", setUp: func(w *world, d *forkDriver) {
			w.change = func(c *Config) { c.Guests, c.TemplateDir = GuestsFork, filepath.Join(w.dir, "templates") }
		}, reason: "cannot fork"},
		{name: "no folder for templates", setUp: func(w *world, d *forkDriver) {
			w.change = func(c *Config) { c.Driver, c.Guests, c.TemplateDir = d, GuestsFork, "/proc/templates" }
		}, reason: "make template folder"},
		{name: "no template", setUp: func(_ *world, d *forkDriver) { d.mute = true }, after: 31 * time.Second,
			reason: "did not become ready"},
		{name: "silence", after: 8 * time.Second, reason: "no sign of life within 7.5s"},
		{name: "it ends at once", then: func(t *testing.T, w *world, id string) {
			w.driver.machine(id).say(t, "Kernel panic - not syncing")
			w.driver.machine(id).end(hypervisor.Crashed, "crashed")
		}, after: 5 * time.Second, reason: "Kernel panic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				d := w.forks()
				if tt.setUp != nil {
					tt.setUp(w, d)
				}
				_, stop := w.start()
				defer stop()
				inst := w.lbvm()
				id := inst.GetId()
				w.cloud.run(inst)
				pass(time.Second)
				var first keydelivery.Boot
				if tt.then != nil {
					first = w.readBoot(id)
					tt.then(t, w, id)
				}
				pass(tt.after)
				w.wantState(id, stateRunning)
				if got := w.cloud.attribute(id, stageStarted, "guests"); got != "cold" {
					t.Fatalf("machine-started says guests=%q, want cold", got)
				}
				if got := w.cloud.attribute(id, stageForkFailed, "reason"); !strings.Contains(got, tt.reason) {
					t.Errorf("fork-failed says %q, want %q", got, tt.reason)
				}
				specs := w.driver.starts
				if last := specs[len(specs)-1]; last.ID != id || last.Cmdline != "quiet" {
					t.Errorf("booted as %+v", last)
				}
				medium := w.readMedium(id)
				if medium.Boot.MAC != "" || string(medium.Boot.Entropy) == string(first.Entropy) {
					t.Errorf("the medium of the cold boot is a fork's: %+v", medium.Boot)
				}
				w.driver.machine(id).say(t, stage("booted", 1), stage("medium-read", 2), stage("serving", 3))
				pass(time.Second)
				w.wantNoMedia()
				w.wantState(id, stateRunning)
				// The cloud keeps the credential until a guest has it.
				if got := w.cloud.told(id); strings.Contains(got, "medium-wiped/ended") ||
					!strings.Contains(got, "medium-wiped/read") {
					t.Errorf("told %q", got)
				}
			})
		})
	}
}

func TestATemplateThatTheDriverRefusesIsMadeAnew(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := w.forks()
		change := w.change
		w.change = func(c *Config) { change(c); c.Pooled = 1 }
		_, stop := w.start()
		pass(time.Second)
		stop() // its templates are made
		_, stop = w.start()
		defer stop()
		pass(time.Second)
		made := d.templates
		d.forkErr = hypervisor.ErrTemplate
		a, b := w.instance("web"), w.instance("web")
		w.cloud.run(a)
		pass(time.Second)
		if got := w.cloud.attribute(a.GetId(), stageStarted, "guests"); got != "cold" {
			t.Errorf("guests=%q, want cold", got)
		}
		d.forkErr = nil
		w.cloud.run(b)
		pass(time.Second)
		if got := w.cloud.attribute(b.GetId(), stageStarted, "guests"); got != "fork" {
			t.Errorf("guests=%q, want fork", got)
		}
		if d.templates != made+1 {
			t.Errorf("%d templates were made, want one", d.templates-made)
		}
		if d.dropped != 1 || d.ready() != 2 {
			t.Errorf("%d pools were given up and %d forks are ready, want 1 and 2", d.dropped, d.ready())
		}
	})
}

func TestTemplatesAreWarmedAndPooled(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := w.forks()
		change := w.change
		w.change = func(c *Config) { change(c); c.Pooled = 3 }
		_, stop := w.start()
		defer stop()
		pass(time.Second)
		if d.templates != 2 || d.ready() != 6 {
			t.Errorf("%d templates and %d forks are ready, want 2 and 6", d.templates, d.ready())
		}
	})
}

// A template's machine that a killed process left is ended before any template is made.
func TestMachinesOfUnfinishedTemplatesAreEnded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.forks()
		id := "template-0123456789abcdef"
		if _, err := w.driver.Start(t.Context(), hypervisor.Spec{
			ID: id, Kernel: "/k", Initrd: "/i", ConsoleLog: filepath.Join(w.dir, "log"), MemoryMB: 96,
		}); err != nil {
			t.Fatal(err)
		}
		w.cloud.cut(true)
		_, stop := w.start()
		defer stop()
		pass(time.Second)
		if w.driver.machine(id) != nil {
			t.Error("it still runs")
		}
	})
}

// A fork whose node was killed before it read its medium gets another one, which says who it is.
func TestAForkOfAKilledProcess(t *testing.T) {
	for _, image := range []string{"lbvm", "web"} {
		t.Run(image, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.forks()
				_, stop := w.start()
				inst := w.instance(image)
				if image == "lbvm" {
					inst.Credential = w.credential(nodeID, inst.GetId())
				}
				id := inst.GetId()
				w.cloud.run(inst)
				pass(time.Second)
				first := w.readBoot(id)
				stop()
				w.wantNoMedia()
				_, stop = w.start()
				defer stop()
				pass(time.Second)
				if again := w.readBoot(id); again.MAC != inst.GetMac() || string(again.Entropy) == string(first.Entropy) {
					t.Errorf("the new medium says %+v", again)
				}
				w.driver.machine(id).say(t, stage("medium-read", 1), stage("serving", 2))
				pass(10 * time.Minute)
				w.wantNoMedia()
				w.wantState(id, stateRunning)
				if n := w.driver.machine(id).inserted; n != 1 {
					t.Errorf("%d media were put in after the restart, want 1", n)
				}
			})
		})
	}
}
