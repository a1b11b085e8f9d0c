package ec2

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// LBCert is what the cloud remembers of an LBCERT that it issued. Nothing of it opens anything.
type LBCert struct {
	Serial    string // hexadecimal, as the audit has it
	NotBefore time.Time
	NotAfter  time.Time
	Issued    time.Time
	Issuer    string // SHA-256 of the IAMCERT that signed it, hexadecimal
	Medium    string // fingerprint of the sealed credential that brings it to the guest
}

// Identity is what the cloud knows of an instance's LBCERTs. An LBCERT that is not in here is refused, so that this
// outlives the sealed credential, which goes as soon as the guest has read its medium.
type Identity struct {
	Profile keydelivery.Profile
	// Life is how long each LBCERT is valid.
	Life time.Duration
	// Current is the one that the guest has, or will have when it has read its first medium. It is nil only for a guest
	// whose LBCERT was not recorded, until its first renewal: any that IAMCERT signed for it is good.
	Current *LBCert
	// Next is the one of a renewal under way: its guest may have read it or not.
	Next     *LBCert
	Renewals int // that the guest took
	// Failures are the renewals in a row that the guest did not take; RetryAt is when the next one is due then.
	Failures int
	RetryAt  time.Time
	// Wanted is set when the operator asked for a renewal, until it is under way.
	Wanted bool
	// Revoked is set when the operator withdrew the identity.
	Revoked *Revocation
}

// Revocation is who withdrew an identity, when and why.
type Revocation struct {
	At     time.Time
	By     string
	Reason string
}

const (
	// renewBefore bounds how long before its end an LBCERT is renewed; one that lives short is renewed when a tenth of
	// its life is left.
	renewBefore = 14 * 24 * time.Hour
	renewPart   = 10
	// expiryGrace is how long an instance may go on whose LBCERT has ended: the guest ends by itself, by its own clock.
	expiryGrace = time.Minute
)

// window is how long before its end the LBCERT is to be renewed.
func (c *LBCert) window() time.Duration { return min(renewBefore, c.NotAfter.Sub(c.Issued)/renewPart) }

func (c *LBCert) renewAt() time.Time { return c.NotAfter.Add(-c.window()) }

// newLBCert remembers an LBCERT.
func newLBCert(cert *x509.Certificate, issuer string, sealed *keydelivery.Credential, now time.Time) *LBCert {
	return &LBCert{
		Serial: serialOf(cert), NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), Issued: now.UTC(),
		Issuer: issuer, Medium: wireCredential(sealed).Fingerprint(),
	}
}

func serialOf(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// issuerOf tells one IAMCERT from another.
func issuerOf(iamCertPEM []byte) string {
	block, _ := pem.Decode(iamCertPEM)
	if block == nil {
		return ""
	}
	return fingerprint(block.Bytes)
}

// fingerprint is the SHA-256 of a certificate, hexadecimal.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// knownIdentity returns a copy of the instance's identity; of one that is not on record, what must be so.
func (i *Instance) knownIdentity(images imageTable) Identity {
	if i.Identity != nil {
		return *i.Identity
	}
	id := Identity{Profile: images.byName[i.ImageName].profile(), Life: days(keydelivery.DefaultDays)}
	if i.Credential != nil {
		id.Profile = i.Credential.Profile
	}
	return id
}

// identity gives the instance an identity of its own to be changed, for others look at the one that it shares with
// the record before.
func (i *Instance) identity(images imageTable) *Identity {
	own := i.knownIdentity(images)
	i.Identity = &own
	return i.Identity
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// unrecorded says whether the instance was given a credential by a cloud that did not remember LBCERTs.
func (i *Instance) unrecorded() bool {
	if i.Identity != nil {
		return i.Identity.Current == nil
	}
	return i.System && (i.Credential != nil || slices.ContainsFunc(i.Milestones, func(m Milestone) bool {
		return m.Stage == nodelink.StageMediumWiped && !m.fromGuest() && m.Attributes["credential"] != ""
	}))
}

// fromGuest says whether a milestone is the guest's own word, which is worth as much as the guest; the others are its
// node's. A node marks the guest's by the guest's own time, which the guest cannot leave out.
func (m Milestone) fromGuest() bool { _, ok := m.Attributes["t"]; return ok }

// reasonExpired begins the reason of an instance whose guest ended because its LBCERT did.
const reasonExpired = "identity expired"

// expired says whether a guest ended because its LBCERT did: it says so, and by the cloud's clock that may be.
func (i *Instance) expired(why string, now time.Time) bool {
	return i.Identity != nil && i.Identity.Current != nil && strings.HasPrefix(why, reasonExpired) &&
		!now.Before(i.Identity.Current.NotAfter.Add(-expiryGrace))
}

// hasIdentity says whether the instance has an LBCERT.
func (i *Instance) hasIdentity() bool { return i.Identity != nil || i.unrecorded() }

// serials returns those of the LBCERTs that are good while the instance lives.
func (i *Instance) serials() []string {
	var out []string
	if i.Identity != nil {
		for _, c := range []*LBCert{i.Identity.Current, i.Identity.Next} {
			if c != nil {
				out = append(out, c.Serial)
			}
		}
	}
	return out
}

// whyRevoked says why an LBCERT with the instance's name, which IAMCERT signed, is not good; empty when it is.
func (i *Instance) whyRevoked(cert *x509.Certificate) string {
	serial := serialOf(cert)
	switch {
	case i.Identity != nil && i.Identity.Revoked != nil:
		r := i.Identity.Revoked
		return fmt.Sprintf("revoked at %s by %s: %s", stamp(r.At), r.By, r.Reason)
	case !i.State.live():
		why := "its instance is " + string(i.State)
		if !i.TerminatedAt.IsZero() {
			why += " since " + stamp(i.TerminatedAt)
		}
		return why + ": " + firstLine(i.Reason.Message)
	case i.unrecorded(), slices.Contains(i.serials(), serial):
		return ""
	case i.Identity == nil:
		return "its instance was given none"
	}
	now := i.Identity.Current
	return fmt.Sprintf("not its instance's any more: that has serial %s, issued at %s", now.Serial, stamp(now.Issued))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return bounded(line, 200)
}

// hear takes in what a milestone means for the identity, and returns what the journal is to have of it, if anything.
func (i *Instance) hear(m Milestone, images imageTable, now time.Time) *identityEvent {
	if i.Identity == nil || i.Identity.Next == nil || !i.State.live() {
		return nil
	}
	next := i.Identity.Next
	ours := !m.fromGuest() && m.Attributes["credential"] == next.Medium
	switch {
	case ours && m.Stage == nodelink.StageMediumWiped && m.Attributes["reason"] == nodelink.WipedRead,
		// An original guest reads what is in the drive for every download, and says nothing of it.
		ours && m.Stage == nodelink.StageMediumInserted && i.Identity.Profile == keydelivery.Profile1:
		return i.identity(images).taken(now)
	case ours && m.Stage == nodelink.StageMediumWiped && m.Attributes["reason"] == nodelink.WipedExpired:
		ev := i.identity(images).failed("the guest did not read its medium in time", now)
		i.Identity.Next = nil // nobody has it
		return ev
	case !m.fromGuest() && m.Stage == nodelink.StageMediumFailed, m.Stage == nodelink.StageMediumRefused:
		// The medium may be read all the same, so that its LBCERT stays good until the next one takes its place.
		return i.identity(images).failed(m.Stage+": "+m.Attributes["reason"], now)
	}
	return nil
}

// identityEvent is what the journal is to have of a renewal.
type identityEvent struct {
	kind       string
	attributes map[string]string
}

// taken makes the renewed LBCERT the only one.
func (id *Identity) taken(now time.Time) *identityEvent {
	a := map[string]string{"serial": id.Next.Serial, "notAfter": stamp(id.Next.NotAfter),
		"took": now.Sub(id.Next.Issued).Round(time.Millisecond).String()}
	if id.Current != nil {
		a["replaced"] = id.Current.Serial
	}
	id.Current, id.Next = id.Next, nil
	id.Renewals++
	id.Failures, id.RetryAt = 0, time.Time{}
	return &identityEvent{kind: eventRenewed, attributes: a}
}

// failed notes that the guest did not take the renewed LBCERT, and when to try again.
func (id *Identity) failed(why string, now time.Time) *identityEvent {
	id.Failures++
	id.RetryAt = now.Add(id.backoff(id.Failures))
	return &identityEvent{kind: eventRenewalFailed, attributes: map[string]string{
		"serial": id.Next.Serial, "reason": why, "failures": fmt.Sprint(id.Failures), "retryAt": stamp(id.RetryAt),
	}}
}

// backoff is the pause after the nth renewal in a row, n from 1, that did not work: it grows with each, and is short
// where LBCERTs live short.
func (id *Identity) backoff(n int) time.Duration {
	window := min(renewBefore, id.Life/renewPart)
	first := min(max(window/20, 200*time.Millisecond), time.Minute)
	most := min(max(window/4, time.Second), time.Hour)
	const doublings = 16 // more would overflow
	return min(first<<min(n-1, doublings), most)
}
