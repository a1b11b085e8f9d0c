package iam

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// IAMCertificateState says what an IAM identity still does.
type IAMCertificateState string

// The states of an IAM identity. It only ever goes forward.
const (
	// IAMCurrent signs LBCERTs, and USERPKs are sealed to it.
	IAMCurrent IAMCertificateState = "current"
	// IAMFormer was replaced; LBCERTs that it signed are still good.
	IAMFormer IAMCertificateState = "former"
	// IAMRetired is accepted no more, and its key is gone.
	IAMRetired IAMCertificateState = "retired"
)

// IAMCertificate is an IAMCERT for whoever runs the cloud; it holds no key.
type IAMCertificate struct {
	Serial   string // hex
	Profile  keydelivery.Profile
	State    IAMCertificateState
	Created  time.Time
	NotAfter time.Time
	Replaced time.Time // zero for the current one
	Retired  time.Time // zero until it is
	// Users is how many live instances have an LBCERT that it signed; -1 where nobody can tell.
	Users int
	// SealedKeys is how many server certificates' keys are sealed to it.
	SealedKeys int
}

// Errors of what an operator asked for; the wrapping error says what is wrong with it.
var (
	ErrNoIAMCertificate      = errors.New("no such IAMCERT")
	ErrIAMCertificateInUse   = errors.New("IAMCERT is in use")
	ErrTooManyIAMCertificate = errors.New("too many IAMCERTs are accepted")
)

const (
	// maxFormer bounds the identities that are accepted beside the current one: each costs every request whose LBCERT
	// is of none a signature check.
	maxFormer = 4
	// maxRetired bounds those that are remembered for the operator.
	maxRetired = 16
)

// SetIAMCertificateUse plugs in what a retirement asks first: how many live instances have an LBCERT that the
// IAMCERT signed.
func (s *Service) SetIAMCertificateUse(count func(ctx context.Context, iamCert *x509.Certificate) (int, error)) {
	s.iamCertUse.Store(&count)
	s.wakeSettling()
}

// OnRotation plugs in what is told, in every replica, when another IAMCERT signs from now on. It must not wait.
func (s *Service) OnRotation(told func()) { s.onRotation.Store(&told) }

// RotateIAMCertificate makes a new IAM identity for a profile: it signs LBCERTs from now on, and USERPKs are sealed to
// it, those at rest by the time SettleKeys is done. The one before stays good for the LBCERTs that it signed until it
// is retired. by names who asked, for the audit. The error is ErrProfileRefused or ErrTooManyIAMCertificate when it is
// the caller's.
func (s *Service) RotateIAMCertificate(ctx context.Context, p keydelivery.Profile, by string) (IAMCertificate, error) {
	if s.keys.set(p) == nil {
		return IAMCertificate{}, fmt.Errorf("rotate IAMCERT of profile %d: %w", p, ErrProfileRefused)
	}
	now := s.cfg.Clock()
	fresh, err := s.keys.newIdentity(p, now)
	if err != nil {
		return IAMCertificate{}, fmt.Errorf("rotate IAMCERT of profile %d: %w", p, err)
	}
	var before string
	_, err = s.keys.table.Update(ctx, recordOf(p), func(rec *keyRecord) error {
		if len(rec.Former) >= maxFormer {
			return fmt.Errorf("%w: %d beside the current one; retire them first", ErrTooManyIAMCertificate, len(rec.Former))
		}
		before = rec.CertPEM
		former := formerKey{CertPEM: rec.CertPEM, Sealed: rec.Sealed, Created: rec.Created, Replaced: now.UTC()}
		rec.Former = slices.Insert(slices.Clone(rec.Former), 0, former)
		rec.CertPEM, rec.Sealed, rec.Created = fresh.CertPEM, fresh.Sealed, fresh.Created
		return nil
	})
	if err != nil {
		return IAMCertificate{}, fmt.Errorf("rotate IAMCERT of profile %d: %w", p, err)
	}
	serial := serialOf(fresh.CertPEM)
	s.recordIAMCertificate(ctx, "iam.iamcert_rotated", p, serial, map[string]string{
		"replaced": serialOf(before), "by": by,
	})
	// The rotation is in the store: whoever asked must not see it half.
	ctx = context.WithoutCancel(ctx)
	if _, err := s.reloadKeys(ctx); err != nil {
		return IAMCertificate{}, err
	}
	s.wakeSettling()
	return s.iamCertificate(ctx, serial)
}

// RetireIAMCertificate has a former IAMCERT accepted no more and removes its key. Without force it refuses while live
// instances have an LBCERT that it signed (ErrIAMCertificateInUse); with force these get no key until they are
// renewed. The USERPKs that are still sealed to it are sealed to the current one first, always. by names who asked, for
// the audit.
func (s *Service) RetireIAMCertificate(ctx context.Context, serial string, force bool, by string) (
	IAMCertificate, error) {
	cert, err := s.iamCertificate(ctx, serial)
	switch {
	case err != nil:
		return cert, err
	case cert.State == IAMCurrent:
		return cert, fmt.Errorf("%w: %s signs now; rotate first", ErrIAMCertificateInUse, serial)
	case cert.State == IAMRetired:
		return cert, nil
	case cert.Users != 0 && !force:
		users := strconv.Itoa(cert.Users) + " live instances have an LBCERT that it signed"
		if cert.Users < 0 {
			users = "nobody can tell whether a live instance has an LBCERT that it signed"
		}
		return cert, fmt.Errorf("%w: %s, and %s; wait until they are renewed, or force it", ErrIAMCertificateInUse, serial,
			users)
	}
	if err := s.retire(ctx, cert, force, by); err != nil {
		return cert, fmt.Errorf("retire IAMCERT %s: %w", serial, err)
	}
	return s.iamCertificate(ctx, serial)
}

// retire removes a former identity that is there, after the last USERPK that is sealed to it.
func (s *Service) retire(ctx context.Context, cert IAMCertificate, force bool, by string) error {
	// No key can be sealed to a former identity any more (see putSealed), so what is resealed here stays so.
	if err := s.reseal(ctx); err != nil {
		return err
	}
	now, retired, p, serial := s.cfg.Clock().UTC(), false, cert.Profile, cert.Serial
	_, err := s.keys.table.Update(ctx, recordOf(p), func(rec *keyRecord) error {
		i := slices.IndexFunc(rec.Former, func(f formerKey) bool { return serialOf(f.CertPEM) == serial })
		if retired = i >= 0; !retired {
			return nil // another replica was sooner
		}
		f := rec.Former[i]
		rec.Retired = slices.Insert(slices.Clone(rec.Retired), 0, retiredKey{
			CertPEM: f.CertPEM, Created: f.Created, Replaced: f.Replaced, Retired: now, Forced: force,
		})
		rec.Retired = rec.Retired[:min(len(rec.Retired), maxRetired)]
		rec.Former = withoutFormer(rec.Former, f.CertPEM)
		return nil
	})
	if err != nil {
		return err
	}
	if retired {
		s.recordIAMCertificate(ctx, "iam.iamcert_retired", p, serial, map[string]string{
			"forced": strconv.FormatBool(force), "by": by,
		})
	}
	_, err = s.reloadKeys(context.WithoutCancel(ctx))
	return err
}

// IAMCertificates lists the cloud's IAMCERTs, profile 2 first, newest first.
func (s *Service) IAMCertificates(ctx context.Context) ([]IAMCertificate, error) {
	sealed, err := s.sealedTo(ctx)
	if err != nil {
		return nil, err
	}
	var list []IAMCertificate
	for _, p := range profilesOf(s.cfg) {
		set := s.keys.set(p)
		add := func(c IAMCertificate, cert *x509.Certificate) {
			c.Profile, c.Serial, c.NotAfter = p, cert.SerialNumber.Text(16), cert.NotAfter.UTC()
			c.SealedKeys = sealed[c.Serial]
			list = append(list, c)
		}
		users := make([]int, 0, len(set.accepted))
		for _, cert := range set.accepted {
			n, err := s.iamCertUsers(ctx, cert)
			if err != nil {
				return nil, err
			}
			users = append(users, n)
		}
		add(IAMCertificate{State: IAMCurrent, Created: set.created, Users: users[0]}, set.current.Certificate())
		for i, f := range set.former {
			add(IAMCertificate{State: IAMFormer, Created: f.created, Replaced: f.replaced, Users: users[i+1]}, f.Certificate())
		}
		for i, r := range set.retired {
			add(IAMCertificate{State: IAMRetired, Created: r.Created, Replaced: r.Replaced, Retired: r.Retired}, set.gone[i])
		}
	}
	return list, nil
}

func (s *Service) iamCertificate(ctx context.Context, serial string) (IAMCertificate, error) {
	list, err := s.IAMCertificates(ctx)
	if err != nil {
		return IAMCertificate{}, err
	}
	for _, c := range list {
		if c.Serial == strings.ToLower(serial) {
			return c, nil
		}
	}
	return IAMCertificate{}, fmt.Errorf("%w: %q is not the serial number of one", ErrNoIAMCertificate, serial)
}

// iamCertUsers returns how many live instances have an LBCERT that iamCert signed, -1 when nobody can tell.
func (s *Service) iamCertUsers(ctx context.Context, iamCert *x509.Certificate) (int, error) {
	count := s.iamCertUse.Load()
	if count == nil {
		return -1, nil
	}
	n, err := (*count)(ctx, iamCert)
	if err != nil {
		return 0, fmt.Errorf("count LBCERTs of IAMCERT %x: %w", iamCert.SerialNumber, err)
	}
	return n, nil
}

func (s *Service) recordIAMCertificate(ctx context.Context, kind string, p keydelivery.Profile, serial string,
	attributes map[string]string) {
	attributes["profile"] = strconv.Itoa(int(p))
	s.cfg.Journal.Record(ctx, journal.Event{Time: s.cfg.Clock(), Kind: kind, Subject: serial, Attributes: attributes})
}

// serialOf returns the serial number of a certificate that this package wrote, in hex.
func serialOf(certPEM string) string {
	cert, err := keydelivery.Identity{CertPEM: []byte(certPEM)}.Certificate()
	if err != nil {
		return ""
	}
	return cert.SerialNumber.Text(16)
}
