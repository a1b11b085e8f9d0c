package controller

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// originalCredential is a credential of profile 1, sealed to the world's node.
func (w *world) originalCredential(id string) *nodelink.Credential {
	w.t.Helper()
	authority, err := keydelivery.NewRSAAuthority(time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	key, text, err := keydelivery.NewRSALBKey()
	if err != nil {
		w.t.Fatal(err)
	}
	now := time.Now()
	cert, err := authority.SignLBCert(id, key.Public(), now.Add(-time.Minute), now.Add(time.Hour))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := keydelivery.SealCredential(w.cert, nodeID, id, keydelivery.Identity{CertPEM: cert, Key: text},
		authority.CertificatePEM())
	if err != nil {
		w.t.Fatal(err)
	}
	return &nodelink.Credential{
		SealedKey: c.SealedKey, SealedCert: c.SealedCert, IamCertPem: c.IAMCertPEM, Profile: uint32(c.Profile),
	}
}

// TestAnOriginalGuestKeepsItsMedium: it reads the medium anew for every download and says nothing on its console. The
// medium goes with the guest, and a node that was started anew makes another.
func TestAnOriginalGuestKeepsItsMedium(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		inst := w.lbvm()
		id := inst.GetId()
		inst.Credential = w.originalCredential(id)
		w.cloud.run(inst)
		pass(10 * time.Minute)
		m := w.driver.machine(id)
		if m == nil || m.drive() == "" {
			t.Fatal("the guest or its medium is gone")
		}
		w.wantState(id, stateRunning)
		m.say(t, stage("medium-read", 1))
		pass(time.Minute)
		if medium := w.readMedium(id); medium == nil || m.drive() == "" {
			t.Error("the medium was taken when it had been read")
		}
		stop()
		w.wantNoMedia()

		_, stop = w.start()
		defer stop()
		pass(time.Minute)
		if m.drive() == "" || w.readMedium(id) == nil {
			t.Error("the guest has no medium after its node was started anew")
		}
		w.cloud.remove(id)
		pass(time.Minute)
		w.wantNoMedia()
	})
}

// TestAnOriginalGuestsMediumIsRenewed: another takes its place and is kept too.
func TestAnOriginalGuestsMediumIsRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.lbvm()
		id := inst.GetId()
		inst.Credential = w.originalCredential(id)
		w.cloud.run(inst)
		pass(time.Minute)
		first := w.readMedium(id)
		renewed := copyOf(inst)
		renewed.Credential = w.originalCredential(id)
		renewed.Generation++
		w.cloud.run(renewed)
		pass(time.Minute)
		second := w.readMedium(id)
		if first == nil || second == nil || string(first.LBKey) == string(second.LBKey) {
			t.Fatal("the medium is the one of before, or gone")
		}
		if told := w.cloud.told(id); !strings.Contains(told, "medium-wiped/replaced medium-inserted") {
			t.Errorf("the node told %s", told)
		}
		pass(10 * time.Minute)
		if w.readMedium(id) == nil {
			t.Error("the renewed medium was taken away")
		}
	})
}

// TestOriginalGuestsReachTheAPIByPlainHTTP where the cloud says so, and others by TLS as ever.
func TestOriginalGuestsReachTheAPIByPlainHTTP(t *testing.T) {
	network, f := newFakeNetwork(), forwarded{}
	s := services()
	f.set(network, s, slog.Default())
	if len(network.forward) != 1 {
		t.Errorf("without original guests it forwards %v", network.forward)
	}
	s.GuestPlainAddress, s.ApiPlainAddress = "169.254.169.253:8773", "127.0.0.1:8080"
	f.set(network, s, slog.Default())
	want := map[string]string{"169.254.169.253:443": "127.0.0.1:8443", "169.254.169.253:8773": "127.0.0.1:8080"}
	if diff := cmp.Diff(want, network.forward); diff != "" {
		t.Errorf("forwards (-want +got):\n%s", diff)
	}
}

// TestNoTemplateOfAnOriginalGuest is tried: it would never be ready, and cost a boot at each start of the node.
func TestNoTemplateOfAnOriginalGuest(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := w.forks()
		pooled := w.change
		w.change = func(c *Config) {
			if pooled != nil {
				pooled(c)
			}
			c.Untemplated = []string{"lbvm"}
		}
		_, stop := w.start()
		defer stop()
		inst := w.lbvm()
		inst.Credential = w.originalCredential(inst.GetId())
		w.cloud.run(inst)
		pass(time.Minute)
		w.wantState(inst.GetId(), stateRunning)
		if d.templates != 1 || d.forked() != 0 {
			t.Errorf("%d templates, that of web apart, and %d forks", d.templates-1, d.forked())
		}
	})
}
