package sim

import (
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// TestWrongTime starts guests whose media tell them a wrong time. They find out by the metadata service's, as
// every guest does, and get their key: the fake cloud takes no request of another time.
func TestWrongTime(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wrong time.Duration
		said  string // to the minute: the service tells whole seconds, and this host may be slow
	}{
		{"ahead", 2 * time.Hour, `msg="clock set" off=-(2h0m|1h59m)`},
		{"behind", -2 * time.Hour, `msg="clock set" off=(2h0m|1h59m)`},
		{"right", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newFakeCloud(t)
			s := newSite(t, c, Config{Lifecycle: fixture(t, "tcg-cold.json")})
			spec, ip := s.spec(LBVM)
			spec.Medium = c.mediumOf(s.dir, spec.ID, time.Now().Add(tt.wrong))
			m := s.start(spec, ip)
			awaitStage(t, spec.ConsoleLog, "serving")
			handshake(t, s, spec.ID)
			if err := m.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := regexp.MustCompile(`msg="clock set".*`).FindString(readAll(t, m))
			if (got == "") != (tt.said == "") || !regexp.MustCompile(tt.said).MatchString(got) {
				t.Errorf("it said %q, want %q", got, tt.said)
			}
		})
	}
}

func TestWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Guest{m: &machine{drive: newDrive(nil)}}
		off := func(want time.Duration, when string) {
			t.Helper()
			if got := time.Until(g.m.wall.now()); got != want {
				t.Errorf("%s it is off by %s, want %s", when, got, want)
			}
		}
		take := func(boot keydelivery.Boot) {
			t.Helper()
			if err := g.takeTime(t.Context(), boot); err != nil {
				t.Fatal(err)
			}
		}
		take(keydelivery.Boot{})
		off(0, "by a medium without a time")
		made := time.Now()
		g.m.drive.insert(&medium{})
		time.Sleep(8 * time.Second) // its boot
		g.m.drive.empty()
		take(keydelivery.Boot{Time: made.Add(-time.Hour)})
		off(-time.Hour, "by its medium")
		time.Sleep(time.Minute)
		off(-time.Hour, "a minute later")
		if err := g.m.wall.set(time.Now()); err != nil {
			t.Fatal(err)
		}
		off(0, "once set right")
	})
}
