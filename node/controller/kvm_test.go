package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// What KVM changes for a node: its templates are others than those of emulation, and its forks have less time. The way
// that a guest goes is the same.
func TestForksUnderEachAccelerator(t *testing.T) {
	for _, tt := range []struct {
		name        string
		accelerator accel.Fixed
		silence     time.Duration // after which a fork has failed
		reason      string
	}{
		{"emulation", accel.TCG, 8 * time.Second, "no sign of life within 7.5s"},
		{"KVM", accel.KVM, 6 * time.Second, "no sign of life within 5s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				d := w.forks()
				d.prover = tt.accelerator
				_, stop := w.start()
				defer stop()
				good, silent := w.lbvm(), w.lbvm()
				w.cloud.run(good, silent)
				pass(time.Second)
				if d.forked() != 2 {
					t.Fatalf("%d forks, want both guests", d.forked())
				}
				w.driver.machine(good.GetId()).say(t, stage("medium-read", 1), stage("network", 1.1), stage("serving", 2))
				pass(tt.silence)
				for id, want := range map[string]string{good.GetId(): "fork", silent.GetId(): "cold"} {
					w.wantState(id, stateRunning)
					// The last word counts: a guest that is booted after all is started twice.
					if got := w.cloud.attribute(id, stageStarted, "guests"); got != want {
						t.Errorf("%s: machine-started says guests=%q, want %q", id, got, want)
					}
				}
				if got := w.cloud.attribute(silent.GetId(), stageForkFailed, "reason"); !strings.Contains(got, tt.reason) {
					t.Errorf("fork-failed says %q, want %q", got, tt.reason)
				}
			})
		})
	}
}

func TestAnotherAcceleratorHasOtherTemplates(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := w.forks()
		made := 0
		for _, step := range []struct {
			accelerator accel.Fixed
			makes       int // templates, one for each image
		}{{accel.TCG, 2}, {accel.KVM, 2}, {accel.KVM, 0}, {accel.TCG, 0}} {
			d.prover = step.accelerator
			_, stop := w.start()
			pass(time.Second)
			stop()
			if got := d.templates - made; got != step.makes {
				t.Errorf("%s: %d templates were made, want %d", step.accelerator, got, step.makes)
			}
			made = d.templates
		}
	})
}

// What a driver makes ready ahead takes the node's memory like a guest.
func TestSparesAreAdmitted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := w.forks()
		host, change := hostWith(600), w.change
		w.change = func(c *Config) { change(c); c.MemoryMargin, c.FreeMemory = 500, host.memory }
		c, stop := w.start()
		defer stop()
		host.free.Store(600)
		first, err := d.admit(t.Context(), 96)
		if err != nil || c.admission.reservedMB != GuestsFork.cost().of(96) {
			t.Fatalf("%v; %d MB are reserved", err, c.admission.reservedMB)
		}
		host.free.Store(510) // it shows there now
		first()
		began := time.Now()
		if _, err := d.admit(t.Context(), 96); err == nil || time.Since(began) < roomPatience {
			t.Errorf("a spare without room: %v after %v, want a refusal after %v", err, time.Since(began), roomPatience)
		}
	})
}
