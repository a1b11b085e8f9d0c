package controller

import (
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// A fork keeps its turn until it serves, or until it is plain that it waits for something else than a core; a guest
// that boots, until it has a network.
func TestWhenAStartGivesItsTurnOn(t *testing.T) {
	says := func(stages ...string) func(*testing.T, *fakeMachine) {
		return func(t *testing.T, m *fakeMachine) {
			t.Helper()
			for i, s := range stages {
				m.say(t, stage(s, float64(i+1)))
			}
		}
	}
	for _, tt := range []struct {
		name   string
		guests GuestMode
		does   func(*testing.T, *fakeMachine)
		takes  time.Duration // besides
		next   bool          // the next one starts
	}{
		{"a fork with a network", GuestsFork, says("medium-read", "network"), 0, false},
		{"a fork that serves", GuestsFork, says("medium-read", "network", "serving"), 0, true},
		{"a fork that gave up", GuestsFork, says("medium-read", "network", "failed"), 0, true},
		{"a fork that waits for its listeners", GuestsFork, says("medium-read", "network"), longestForkTurn, true},
		{"a boot without a network", GuestsCold, says("booted"), longestForkTurn, false},
		{"a boot with a network", GuestsCold, says("booted", "network"), 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				if tt.guests == GuestsFork {
					w.forks()
				}
				change := w.change
				w.change = func(c *Config) {
					if change != nil {
						change(c)
					}
					c.Cores, c.ColdBoots, c.Forks = 1, 1, 1
				}
				_, stop := w.start()
				defer stop()
				pass(time.Second) // for templates
				both := []*nodelink.Instance{w.instance("web"), w.instance("web")}
				w.cloud.run(both...)
				pass(time.Second)
				running := func() (ids []string) {
					for _, inst := range both {
						if w.driver.machine(inst.GetId()) != nil {
							ids = append(ids, inst.GetId())
						}
					}
					return ids
				}
				first := running()
				if len(first) != 1 {
					t.Fatalf("%v run, want one", first)
				}
				tt.does(t, w.driver.machine(first[0]))
				pass(time.Second + tt.takes)
				if got := len(running()) == 2; got != tt.next {
					t.Errorf("the next one starts: %t, want %t", got, tt.next)
				}
			})
		})
	}
}
