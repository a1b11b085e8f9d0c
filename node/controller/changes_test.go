package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

func TestColdBootsAreAdmittedOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.change = func(c *Config) { c.ColdBoots = 2 }
		_, stop := w.start()
		defer stop()
		var all []*nodelink.Instance
		for range 6 {
			all = append(all, w.instance("web"))
		}
		w.cloud.run(all...)
		pass(time.Second)
		want := func(n int) {
			t.Helper()
			if got := len(w.driver.started()); got != n {
				t.Fatalf("%d started, want %d", got, n)
			}
		}
		want(2)
		w.driver.machine(w.driver.started()[0]).say(t, stage("booted", 1))
		pass(time.Second)
		want(2)
		w.driver.machine(w.driver.started()[0]).say(t, stage("network", 2))
		pass(time.Second)
		want(3)
		w.driver.machine(w.driver.started()[1]).end(hypervisor.Crashed, "crashed")
		pass(5 * time.Second)
		want(4)
		// One that still waits can be taken back; its turn goes to the next.
		waiting := map[string]bool{}
		for _, inst := range all {
			waiting[inst.GetId()] = true
		}
		for _, id := range w.driver.started() {
			delete(waiting, id)
		}
		for id := range waiting {
			w.cloud.remove(id)
			break
		}
		pass(time.Second)
		w.driver.machine(w.driver.started()[2]).say(t, stage("serving", 3))
		pass(time.Second)
		want(5)
	})
}

func TestExposures(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.instance("web")
		id := inst.GetId()
		inst.Exposures = []*nodelink.Exposure{{HostAddress: "127.1.0.1:80", GuestPort: 80},
			{HostAddress: "127.1.0.2:80", GuestPort: 81}}
		w.network.busy["127.1.0.2:80"] = true
		w.cloud.run(inst)
		pass(time.Second)
		if diff := cmp.Diff(map[string]string{"127.1.0.1:80": id + ":80"}, w.network.exposures()); diff != "" {
			t.Errorf("exposed (-want +got):\n%s", diff)
		}
		pass(20 * time.Second)
		w.driver.machine(id).say(t, stage("booted", 1))
		if n := strings.Count(w.cloud.told(id), "exposure-failed"); n != 1 {
			t.Errorf("the failed exposure was told %d times", n)
		}
		w.network.mu.Lock()
		w.network.busy["127.1.0.2:80"] = false
		w.network.mu.Unlock()
		pass(3 * time.Second)
		if got := w.network.exposures()["127.1.0.2:80"]; got != id+":81" {
			t.Errorf("the freed port leads to %q", got)
		}
		changed := copyOf(inst)
		changed.Exposures = []*nodelink.Exposure{{HostAddress: "127.1.0.1:80", GuestPort: 8080}}
		changed.Generation++
		w.cloud.run(changed)
		pass(time.Second)
		if diff := cmp.Diff(map[string]string{"127.1.0.1:80": id + ":8080"}, w.network.exposures()); diff != "" {
			t.Errorf("exposed after the change (-want +got):\n%s", diff)
		}
		w.cloud.remove(id)
		pass(time.Second)
		if n := len(w.network.exposures()); n != 0 {
			t.Errorf("%d exposures are left", n)
		}
	})
}

func TestANewCredentialForARunningGuest(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.lbvm()
		id := inst.GetId()
		w.cloud.run(inst)
		pass(time.Second)
		first := w.readMedium(id)
		m := w.driver.machine(id)
		m.say(t, stage("medium-read", 1))
		pass(time.Second)
		// The cloud may tell the same credential again, with a change of something else: no new medium.
		w.cloud.run(copyOf(inst))
		pass(time.Second)
		if m.drive() != "" {
			t.Fatal("the same credential was given twice")
		}
		renewed := copyOf(inst)
		renewed.Credential = w.credential(nodeID, id)
		w.cloud.run(renewed)
		pass(time.Second)
		second := w.readMedium(id)
		if string(first.LBKey) == string(second.LBKey) || string(first.Boot.Entropy) == string(second.Boot.Entropy) {
			t.Error("the new medium has the old key or the old entropy")
		}
		if second.Boot.Credential != renewed.GetCredential().Fingerprint() {
			t.Errorf("the medium names the credential %q", second.Boot.Credential)
		}
		// What the guest says late of the first one is no word on the second.
		m.say(t, stage("medium-read", 4, "credential", first.Boot.Credential))
		pass(time.Second)
		if m.drive() == "" || strings.Count(w.cloud.told(id), "medium-wiped/read") != 1 {
			t.Errorf("the second medium went when the first had been read: %s", w.cloud.told(id))
		}
		m.say(t, stage("medium-read", 5, "credential", second.Boot.Credential))
		pass(time.Second)
		w.wantNoMedia()
		if n := strings.Count(w.cloud.told(id), "medium-wiped/read"); n != 2 {
			t.Errorf("%d media were told to be read, want 2: %s", n, w.cloud.told(id))
		}
	})
}

func TestAFloodOfMilestonesIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.instance("web")
		w.cloud.run(inst)
		pass(time.Second)
		var lines []string
		for i := range 5000 {
			lines = append(lines, stage("flood", float64(i)))
		}
		w.driver.machine(inst.GetId()).say(t, lines...)
		pass(time.Second)
		if n := strings.Count(w.cloud.told(inst.GetId()), "flood"); n < 10 || n > 2*milestoneBurst {
			t.Errorf("%d of 5000 milestones were told", n)
		}
	})
}
