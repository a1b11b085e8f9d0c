package ec2_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

const day = 24 * time.Hour

// bearer is an LBVM on a node that the test plays.
type bearer struct {
	*cloud
	t    *testing.T
	node *node
	link *link
	id   string
	// sent is the credential that the node was told of last.
	sent *nodelink.Credential
	told int // milestones
}

// bear launches an LBVM whose LBCERTs are valid for life, with a guest that has read its first medium.
func bear(t *testing.T, c *cloud, life time.Duration) *bearer {
	t.Helper()
	b := &bearer{cloud: c, t: t, node: c.addNode(t, "node-1", bigNode())}
	inst, err := c.Launch(t.Context(), ec2.Launch{AccountID: system, System: true, ImageName: "lbvm",
		UserData: keydelivery.WithKeyword(3650, nil), LBCertLife: life, InstanceProfileName: "app"})
	if err != nil {
		t.Fatal(err)
	}
	b.id = inst.ID
	var snapshot *nodelink.Desired
	b.link, snapshot = c.sync(t, c.dialAs(t, c.serve(t), b.node))
	b.sent = snapshot.GetRun()[0].GetCredential()
	b.says("running", b.wiped("read"))
	b.wait(func(i *ec2.Instance) bool { return i.Credential == nil || i.Credential.Profile == keydelivery.Profile1 })
	return b
}

// milestone is a word of the node's own on the credential that it has.
func (b *bearer) milestone(stage string, pairs ...string) *nodelink.Milestone {
	b.told++
	m := &nodelink.Milestone{Stage: stage, UnixNanos: time.Now().UnixNano() + int64(b.told),
		Attributes: map[string]string{"source": "node"}}
	for i := 0; i < len(pairs); i += 2 {
		m.Attributes[pairs[i]] = pairs[i+1]
	}
	return m
}

func (b *bearer) wiped(reason string) *nodelink.Milestone {
	return b.milestone("medium-wiped", "reason", reason, "credential", b.sent.Fingerprint())
}

// refused is the guest's word that it keeps the identity that it has.
func (b *bearer) refused(why string) *nodelink.Milestone {
	m := b.milestone("medium-refused", "reason", why, "t", fmt.Sprintf("%d.000", b.told))
	delete(m.Attributes, "source")
	return m
}

func (b *bearer) says(state string, milestones ...*nodelink.Milestone) {
	b.t.Helper()
	b.link.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{
		{InstanceId: b.id, State: state, Milestones: milestones}}})
}

// wait returns the instance when it is as it should be.
func (b *bearer) wait(good func(*ec2.Instance) bool) ec2.Instance {
	b.t.Helper()
	var inst ec2.Instance
	eventually(b.t, func() error {
		var err error
		if inst, err = b.Instance(b.t.Context(), b.id); err != nil {
			return err
		}
		if !good(&inst) {
			return fmt.Errorf("%s is %s, identity %+v", inst.ID, inst.State, inst.Identity)
		}
		return nil
	})
	return inst
}

// later moves the clock and has the service look at it.
func (b *bearer) later(d time.Duration) {
	b.clock.Add(d)
	b.RenewStale()
}

// renewed waits for the node to be told of another credential.
func (b *bearer) renewed() *keydelivery.Credential {
	b.t.Helper()
	d := b.link.recv()
	if len(d.GetRun()) != 1 || d.GetRun()[0].GetId() != b.id || d.GetRun()[0].GetCredential() == nil ||
		d.GetRun()[0].GetCredential().Fingerprint() == b.sent.Fingerprint() {
		b.t.Fatalf("the node was told %v, want another credential", d)
	}
	b.sent = d.GetRun()[0].GetCredential()
	return b.credential()
}

func (b *bearer) credential() *keydelivery.Credential {
	return &keydelivery.Credential{SealedKey: b.sent.GetSealedKey(), SealedCert: b.sent.GetSealedCert(),
		IAMCertPEM: b.sent.GetIamCertPem(), Profile: keydelivery.Profile(b.sent.GetProfile())}
}

// cert opens the credential that the node has.
func (b *bearer) cert() *x509.Certificate {
	b.t.Helper()
	identity, err := b.credential().Open(b.node.key, b.node.id, b.id)
	if err != nil {
		b.t.Fatal(err)
	}
	cert, err := identity.Certificate()
	if err != nil {
		b.t.Fatal(err)
	}
	return cert
}

// wantGood asks check 3 for an LBCERT; why is what a refusal must say, empty when it is to be good.
func (c *cloud) wantGood(t *testing.T, cert *x509.Certificate, why string) {
	t.Helper()
	got, err := c.WhyRevoked(t.Context(), cert)
	if err != nil || (got == "") != (why == "") || !strings.Contains(got, why) {
		t.Errorf("LBCERT %x: refused because %q (%v), want %q", cert.SerialNumber, got, err, why)
	}
}

// quiet says that there were so many renewals and no more.
func (b *bearer) quiet(events int) {
	b.t.Helper()
	var got int
	eventually(b.t, func() error { // the journal is written after the record
		if got = len(b.events("ec2.identity_renewal")); got < events {
			return fmt.Errorf("%d renewals so far, want %d", got, events)
		}
		return nil
	})
	if got != events {
		b.t.Errorf("%d renewals so far, want %d", got, events)
	}
}

func TestRenewal(t *testing.T) {
	for _, tt := range []struct {
		name         string
		life, window time.Duration
	}{
		{"a year", 365 * day, 14 * day},
		{"200 days", 200 * day, 14 * day},
		{"140 days", 140 * day, 14 * day},
		{"ten days", 10 * day, day},
		{"the shortest", 30 * time.Second, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bear(t, start(t), tt.life)
			first := b.cert()
			b.wantGood(t, first, "")
			b.later(tt.life - tt.window - 2*time.Second)
			b.wantGood(t, first, "")
			b.quiet(0)
			b.later(4 * time.Second)
			b.renewed()
			second := b.cert()
			if got := second.NotAfter.Sub(b.clock.Now()); got < tt.life-2*time.Second || got > tt.life {
				t.Errorf("the new LBCERT lives %s, want %s", got, tt.life)
			}
			// Until the guest has read it, nobody knows which of the two it has.
			b.wantGood(t, first, "")
			b.wantGood(t, second, "")
			b.says("running", b.wiped("read"))
			inst := b.wait(func(i *ec2.Instance) bool { return i.Identity.Renewals == 1 })
			if inst.Credential != nil || inst.Identity.Next != nil || inst.Identity.Current.Serial != serial(second) {
				t.Errorf("credential %v, identity %+v", inst.Credential != nil, inst.Identity)
			}
			b.wantGood(t, first, "that has serial "+serial(second))
			b.wantGood(t, second, "")
			b.happens("ec2.identity_renewed", "replaced", serial(first))
			b.quiet(1)
		})
	}
}

func serial(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// happens waits for an event with an attribute: the journal is written after the record.
func (b *bearer) happens(kind, attribute, value string) {
	b.t.Helper()
	eventually(b.t, func() error { return b.wantEvent(kind, attribute, value) })
}

// wantEvent looks for an event with an attribute.
func (c *cloud) wantEvent(kind, attribute, value string) error {
	events := c.events(kind)
	if !slices.ContainsFunc(events, func(a map[string]string) bool { return a[attribute] == value }) {
		return fmt.Errorf("no event %s with %s %s in %v", kind, attribute, value, events)
	}
	return nil
}

// TestRenewalThatIsNotTaken is tried again, each time with another LBCERT.
func TestRenewalThatIsNotTaken(t *testing.T) {
	for _, tt := range []struct {
		name  string
		says  func(b *bearer) *nodelink.Milestone
		drops bool // the LBCERT that nobody read is refused at once
	}{
		{"refused by the guest", func(b *bearer) *nodelink.Milestone { return b.refused("medium is for another instance") },
			false},
		{"never read", func(b *bearer) *nodelink.Milestone { return b.wiped("expired") }, true},
		{"not inserted by the node", func(b *bearer) *nodelink.Milestone {
			return b.milestone("medium-failed", "reason", "sealed message cannot be opened")
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bear(t, start(t), 100*day)
			first := b.cert()
			b.later(91 * day)
			b.renewed()
			second := b.cert()
			b.says("running", tt.says(b))
			inst := b.wait(func(i *ec2.Instance) bool { return i.Identity.Failures == 1 })
			b.wantGood(t, first, "")
			if b.wantGood(t, second, map[bool]string{true: "that has serial " + serial(first)}[tt.drops]); tt.drops !=
				(inst.Identity.Next == nil) {
				t.Errorf("identity %+v", inst.Identity)
			}
			pause := inst.Identity.RetryAt.Sub(b.clock.Now())
			if pause <= 0 || pause > time.Hour {
				t.Errorf("the next try is in %s", pause)
			}
			b.later(pause + time.Millisecond)
			b.renewed()
			third := b.cert()
			b.wantGood(t, second, "that has serial")
			b.says("running", b.wiped("read"))
			b.wait(func(i *ec2.Instance) bool { return i.Identity.Renewals == 1 && i.Identity.Failures == 0 })
			b.wantGood(t, first, "that has serial "+serial(third))
			b.wantGood(t, third, "")
			b.happens("ec2.identity_renewal_failed", "serial", serial(second))
		})
	}
}

// TestRenewalOfAStaleIssuer happens as soon as the guest has read its first medium, and not before.
func TestRenewalOfAStaleIssuer(t *testing.T) {
	b := bear(t, start(t), 365*day)
	first := b.cert()
	b.iam.rotate(t)
	b.RenewStale()
	renewed := b.renewed()
	want, _ := b.iam.IAMCertificateOf(keydelivery.Profile2)
	if string(renewed.IAMCertPEM) != string(want) {
		t.Error("the medium has the IAMCERT of before")
	}
	iamCert, err := keydelivery.Identity{CertPEM: want}.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cert().CheckSignatureFrom(iamCert); err != nil {
		t.Errorf("the new LBCERT: %v", err)
	}
	b.wantGood(t, first, "")
	if n, err := b.LBCertsOf(t.Context(), iamCert); n != 1 || err != nil {
		t.Errorf("%d instances have an LBCERT of the new IAMCERT (%v), want 1", n, err)
	}
	b.iam.rotate(t)
	b.RenewStale() // one is under way: its turn comes when the guest has read it
	b.quiet(1)
	b.says("running", b.wiped("read"))
	b.renewed()
	if err := b.cert().CheckSignatureFrom(iamCert); err == nil {
		t.Error("the second rotation renewed nothing")
	}
}

// TestRenewalWaitsForTheFirstMedium: another one would take its place under the guest's hands.
func TestRenewalWaitsForTheFirstMedium(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	inst, err := c.Launch(t.Context(), ec2.Launch{AccountID: system, System: true, ImageName: "lbvm",
		UserData: keydelivery.WithKeyword(1, nil)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Renew(t.Context(), inst.ID); err != nil {
		t.Fatal(err)
	}
	c.RenewStale()
	b := &bearer{cloud: c, t: t, node: n, id: inst.ID}
	var snapshot *nodelink.Desired
	b.link, snapshot = c.sync(t, c.dialAs(t, c.serve(t), n))
	b.sent = snapshot.GetRun()[0].GetCredential()
	b.quiet(0)
	b.says("running", b.wiped("read"))
	b.renewed()
	b.happens("ec2.identity_renewal", "why", "the operator asked for it")
}

// TestRenewalThatCannotBeMade is tried again by the service itself.
func TestRenewalThatCannotBeMade(t *testing.T) {
	b := bear(t, start(t), 100*day)
	b.iam.failToSign(errors.New("the token is out of reach"))
	b.later(91 * day)
	b.happens("ec2.identity_renewal_failed", "why", "it ends soon")
	b.quiet(0)
	b.iam.failToSign(nil)
	b.later(time.Hour)
	b.renewed()
}

// TestRenewalThatWouldWinNothing: an LBCERT ends with its IAMCERT, and a new one of the same end is none to be had.
func TestRenewalThatWouldWinNothing(t *testing.T) {
	b := bear(t, start(t), 3650*day)
	b.later(3640 * day)
	b.happens("ec2.identity_renewal_failed", "why", "it ends soon")
	b.quiet(0)
	b.iam.rotate(t)
	b.RenewStale()
	// By then NODECERT has ended too, so that the record alone tells.
	b.wait(func(i *ec2.Instance) bool { return i.Identity.Next != nil })
}

// TestAnOriginalGuestsRenewal is done when the medium is in the drive, for the guest reads it anew for every download.
func TestAnOriginalGuestsRenewal(t *testing.T) {
	c := startOn(t, t.TempDir(), func(cfg *ec2.Config) { cfg.Images[0].DeliveryProfile = keydelivery.Profile1 })
	var err error
	if c.iam.rsaAuthority, err = keydelivery.NewRSAAuthority(time.Now()); err != nil {
		t.Fatal(err)
	}
	b := bear(t, c, 100*day)
	first := b.cert()
	b.later(91 * day)
	b.renewed()
	second := b.cert()
	b.says("running", b.milestone("medium-inserted", "credential", b.sent.Fingerprint()))
	inst := b.wait(func(i *ec2.Instance) bool { return i.Identity.Renewals == 1 })
	if inst.Credential == nil {
		t.Error("the medium is kept, and the credential of which a node makes it again is gone")
	}
	b.wantGood(t, first, "that has serial")
	b.wantGood(t, second, "")
}
