package ec2_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// TestOnlyIssuedLBCertsAreGood: whatever IAMCERT's key may have signed, an instance has the LBCERTs on its record.
func TestOnlyIssuedLBCertsAreGood(t *testing.T) {
	b := bear(t, start(t), day)
	web := b.run(t, demo)[0]
	forged := func(instance string) *x509.Certificate {
		key, _, err := keydelivery.NewLBKey()
		if err != nil {
			t.Fatal(err)
		}
		text, err := b.iam.authority.SignLBCert(instance, key.Public(), b.clock.Now(), b.clock.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := keydelivery.Identity{CertPEM: text}.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	b.wantGood(t, b.cert(), "")
	b.wantGood(t, forged(b.id), "not its instance's any more")
	b.wantGood(t, forged(web), "its instance was given none")
	b.wantGood(t, forged("i-00000000000000000"), "there is no such instance")
	b.wantGood(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{}}, "there is no such instance")
}

// forget writes an instance's record as a version that remembered no LBCERT did.
func (b *bearer) forget() {
	b.t.Helper()
	table := store.NewTable[map[string]any](b.store, "ec2-instances")
	if _, err := table.Update(b.t.Context(), b.id, func(record *map[string]any) error {
		if (*record)["Identity"] == nil {
			return errors.New("the record has no identity already")
		}
		delete(*record, "Identity")
		(*record)["Version"] = (*record)["Version"].(float64) + 1
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

// TestRecordsWithoutIdentity: a guest that an earlier version launched goes on, is given a new LBCERT at once, and from
// then on that one alone is good.
func TestRecordsWithoutIdentity(t *testing.T) {
	b := bear(t, start(t), day)
	first := b.cert()
	b.forget()
	b.renewed()
	second := b.cert()
	b.wantGood(t, first, "")
	b.wantGood(t, second, "")
	if n, err := b.LBCertsOf(t.Context(), &x509.Certificate{Raw: []byte("any")}); n != 1 || err != nil {
		t.Errorf("%d instances may have an LBCERT of any IAMCERT (%v), want 1", n, err)
	}
	b.happens("ec2.identity_renewal", "why", "it is not on record")
	b.says("running", b.wiped("read"))
	inst := b.wait(func(i *ec2.Instance) bool { return i.Identity != nil && i.Identity.Current != nil })
	if inst.Identity.Life != 365*day || inst.Identity.Profile != keydelivery.Profile2 {
		t.Errorf("identity %+v", inst.Identity)
	}
	b.wantGood(t, first, "that has serial "+serial(second))
	b.wantGood(t, second, "")
}

// TestRecordsWithoutIdentityAreRevoked as others are.
func TestRecordsWithoutIdentityAreRevoked(t *testing.T) {
	b := bear(t, start(t), day)
	first := b.cert()
	b.forget()
	b.renewed()
	if _, err := b.Revoke(t.Context(), b.id, "uid 7", "because"); err != nil {
		t.Fatal(err)
	}
	b.wantGood(t, first, "by uid 7")
}

// TestIdentitiesOutliveTheCloud: what was due or under way when the cloud ended goes on with the next process.
func TestIdentitiesOutliveTheCloud(t *testing.T) {
	dir := t.TempDir()
	c := startOn(t, dir)
	n := c.addNode(t, "node-1", bigNode())
	inst, err := c.Launch(t.Context(), ec2.Launch{AccountID: system, System: true, ImageName: "lbvm",
		UserData: keydelivery.WithKeyword(100, nil)})
	if err != nil {
		t.Fatal(err)
	}
	b := &bearer{cloud: c, t: t, node: n, id: inst.ID}
	l, snapshot := c.sync(t, c.dialAs(t, c.serve(t), n))
	b.link, b.sent = l, snapshot.GetRun()[0].GetCredential()
	b.says("running", b.wiped("read"))
	b.wait(func(i *ec2.Instance) bool { return i.Credential == nil })
	first := b.cert()

	l.cancel()
	c.Close()
	// The same store, placement and identity, and another process of ec2 by a later clock.
	c.clock.Add(91 * day)
	c.Service, err = ec2.New(t.Context(), ec2.Config{Store: c.store, IAM: c.iam, Placement: c.placement,
		Journal: c.journal, Clock: c.clock.Now, Images: []ec2.ImageInfo{{Name: "lbvm"}}})
	if err != nil {
		t.Fatal(err)
	}
	b.wait(func(i *ec2.Instance) bool { return i.Identity.Next != nil })
	c.clock.Add(-91 * day) // by which TLS goes is the machine's clock
	link, snapshot := c.sync(t, c.dialAs(t, c.serve(t), n), says(b.id, "running"))
	b.link, b.sent = link, snapshot.GetRun()[0].GetCredential()
	second := b.cert()
	b.wantGood(t, first, "")
	b.says("running", b.wiped("read"))
	b.wait(func(i *ec2.Instance) bool { return i.Identity.Renewals == 1 })
	b.wantGood(t, first, "that has serial "+serial(second))
	b.wantGood(t, second, "")
}

// TestRevocationRaces: whatever else happens to an instance at the same time, once its revocation was answered no
// LBCERT of it is good, and none comes to be.
func TestRevocationRaces(t *testing.T) {
	c := start(t)
	b := bear(t, c, 365*day)
	for round := range 20 {
		inst, err := c.Launch(t.Context(), ec2.Launch{AccountID: system, System: true, ImageName: "lbvm",
			UserData: keydelivery.WithKeyword(365, nil)})
		if err != nil {
			t.Fatal(err)
		}
		b.id, b.sent = inst.ID, nil
		for b.sent == nil {
			for _, told := range b.link.recv().GetRun() {
				if told.GetId() == inst.ID {
					b.sent = told.GetCredential()
				}
			}
		}
		certs := []*x509.Certificate{b.cert()}
		b.says("running", b.wiped("read"))
		var others sync.WaitGroup
		others.Go(func() {
			if _, err := c.Renew(t.Context(), inst.ID); err != nil && !errors.Is(err, ec2.ErrEnded) {
				t.Error(err)
			}
			c.RenewStale()
		})
		ends := round%2 == 0
		if ends {
			others.Go(func() {
				if err := c.Terminate(t.Context(), system, inst.ID); err != nil {
					t.Error(err)
				}
			})
		}
		_, err = c.Revoke(t.Context(), inst.ID, "uid 7", "because")
		if err != nil && (!ends || !errors.Is(err, ec2.ErrEnded)) {
			t.Errorf("revoke: %v", err)
		}
		// A renewal that was faster has told the node of a second LBCERT.
		after, err := c.Instance(t.Context(), inst.ID)
		if err != nil {
			t.Fatal(err)
		}
		others.Wait()
		later, err := c.Instance(t.Context(), inst.ID)
		if err != nil || later.Credential != nil || later.Generation != after.Generation {
			t.Errorf("after the revocation: credential %v, generation %d then %d (%v)", later.Credential != nil,
				after.Generation, later.Generation, err)
		}
		for _, known := range []*ec2.LBCert{later.Identity.Current, later.Identity.Next} {
			if known != nil {
				serial, _ := new(big.Int).SetString(known.Serial, 16)
				certs = append(certs, &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: inst.ID}})
			}
		}
		for _, cert := range certs {
			if why, err := c.WhyRevoked(t.Context(), cert); why == "" || err != nil {
				t.Errorf("LBCERT %x is good after its revocation (%v)", cert.SerialNumber, err)
			}
		}
		b.says("stopped")
		b.wantState(t, inst.ID, ec2.Terminated)
	}
}

// TestLaunchesWithAShortLife: the operator's bound shortens what the keyword says and never lengthens it.
func TestLaunchesWithAShortLife(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	for _, tt := range []struct {
		name  string
		days  int
		bound time.Duration
		want  time.Duration
	}{
		{"none", 2, 0, 2 * day},
		{"shorter", 2, time.Minute, time.Minute},
		{"longer", 2, 3 * day, 2 * day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inst, err := c.Launch(t.Context(), ec2.Launch{AccountID: system, System: true, ImageName: "lbvm",
				UserData: keydelivery.WithKeyword(tt.days, nil), LBCertLife: tt.bound})
			if err != nil {
				t.Fatal(err)
			}
			id := inst.Identity
			if got := id.Current.NotAfter.Sub(c.clock.Now()); id.Life != tt.want || got > tt.want || got < tt.want-time.Second {
				t.Errorf("life %s, until %s from now, want %s", id.Life, got, tt.want)
			}
		})
	}
}
