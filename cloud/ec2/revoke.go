package ec2

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Errors of Revoke and Renew, beside ErrNotFound.
var (
	// ErrNoIdentity means that an instance was launched without a credential: it is no LBVM.
	ErrNoIdentity = errors.New("the instance has no LBCERT: it is no load balancer's VM")
	// ErrEnded means that an instance has ended, and with it the worth of its LBCERT.
	ErrEnded = errors.New("the instance has ended, and its LBCERT is refused already")
	// ErrReason means that a reason is none that the audit takes.
	ErrReason = errors.New("want 1 to 256 printable characters")
)

// CheckReason says what is wrong with the reason of a revocation; the error is ErrReason.
func CheckReason(reason string) error {
	const most = 256
	if n := utf8.RuneCountInString(reason); n < 1 || n > most || !utf8.ValidString(reason) ||
		strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ErrReason
	}
	return nil
}

// Revoke withdraws the LBCERTs of an instance and ends it: from now on they are refused, for requests under way too, as
// are its role's credentials. by and reason are for the audit, which is on the disk when Revoke returns. The errors
// are ErrNotFound, ErrNoIdentity, ErrEnded and ErrReason.
func (s *Service) Revoke(ctx context.Context, instanceID, by, reason string) (Instance, error) {
	if err := CheckReason(reason); err != nil {
		return Instance{}, fmt.Errorf("reason of a revocation: %w", err)
	}
	var withdrawn []string
	inst, err := s.update(ctx, instanceID, func(_ *store.Tx, inst *Instance) error {
		if err := inst.checkIdentity(); err != nil {
			return err
		}
		withdrawn = inst.serials()
		inst.identity(s.images).Revoked = &Revocation{At: s.cfg.Clock().UTC(), By: by, Reason: reason}
		inst.shutDown(StateReason{Code: reasonServer, Message: "identity revoked by " + by + ": " + reason})
		return nil
	})
	if err != nil {
		return Instance{}, identityError("revoke LBCERT of", instanceID, err)
	}
	err = s.cfg.Journal.RecordSynced(ctx, journal.Event{Time: s.cfg.Clock(), Kind: eventRevoked, Subject: inst.ID,
		Attributes: map[string]string{"serials": strings.Join(withdrawn, " "), "by": by, "reason": reason,
			"node": inst.NodeID, "role": inst.RoleName}})
	s.recordState(ctx, inst)
	if err != nil {
		return inst, fmt.Errorf("LBCERT of %s is revoked, but the audit's record of it may be lost: %w", instanceID, err)
	}
	return inst, nil
}

// Renew has an instance's LBCERT renewed now, as if it ended soon. It returns when that is noted down; the guest gets
// its medium a moment later. The errors are those of Revoke.
func (s *Service) Renew(ctx context.Context, instanceID string) (Instance, error) {
	inst, err := s.update(ctx, instanceID, func(_ *store.Tx, inst *Instance) error {
		if err := inst.checkIdentity(); err != nil {
			return err
		}
		if id := inst.Identity; id == nil || id.Wanted || id.Next != nil {
			return errUnchanged // one is under way, or about to be
		}
		inst.identity(s.images).Wanted = true
		return nil
	})
	if err != nil {
		return Instance{}, identityError("renew LBCERT of", instanceID, err)
	}
	return inst, nil
}

func identityError(verb, instanceID string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNotFound
	}
	return fmt.Errorf("%s %s: %w", verb, instanceID, err)
}

// checkIdentity says why the instance has no LBCERT that is worth anything.
func (i *Instance) checkIdentity() error {
	switch {
	case !i.hasIdentity():
		return ErrNoIdentity
	case !i.State.live():
		return ErrEnded
	}
	return nil
}

// WhyRevoked says why an LBCERT that IAMCERT signed is refused, or returns an empty text when it is good: only one that
// the cloud issued to an instance that lives, and that no later one has replaced, is.
func (s *Service) WhyRevoked(ctx context.Context, cert *x509.Certificate) (string, error) {
	id := cert.Subject.CommonName
	e, known := s.view.get(id)
	if known && e.inst.whyRevoked(cert) == "" {
		return "", nil
	}
	// Another replica may have written what the view does not have yet: only the store's word refuses.
	inst, err := s.instances.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return "there is no such instance", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up instance of LBCERT: %w", err)
	}
	// A watch tells of a write a moment before it can be read.
	if known && inst.Version < e.inst.Version {
		inst = e.inst
	}
	return inst.whyRevoked(cert), nil
}

// SessionRevoked says whether role sessions of an instance are refused because the operator revoked its identity. The
// record of it outlives every session. Those of other instances that ended live to their own end, as on AWS.
func (s *Service) SessionRevoked(instanceID string) bool {
	e, ok := s.view.get(instanceID)
	return ok && e.inst.revoked()
}

func (i *Instance) revoked() bool { return i.Identity != nil && i.Identity.Revoked != nil }

// LBCertsOf counts the live instances with an LBCERT that iamCert signed, or that may be: what signed one that is not
// on record, nobody can tell.
func (s *Service) LBCertsOf(_ context.Context, iamCert *x509.Certificate) (int, error) {
	issuer, n := fingerprint(iamCert.Raw), 0
	for _, e := range s.view.everything() {
		if e.inst.State.live() && e.inst.hasIdentity() && e.inst.signedBy(issuer) {
			n++
		}
	}
	return n, nil
}

func (i *Instance) signedBy(issuer string) bool {
	if i.unrecorded() {
		return true
	}
	for _, c := range []*LBCert{i.Identity.Current, i.Identity.Next} {
		if c != nil && c.Issuer == issuer {
			return true
		}
	}
	return false
}
