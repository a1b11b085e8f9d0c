package iam

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// identitySet is the IAM identities of one profile at one instant. It does not change; a rotation makes another one.
type identitySet struct {
	profile  keydelivery.Profile
	created  time.Time
	current  *keydelivery.Authority
	former   []formerIdentity // newest first
	retired  []retiredKey
	accepted []*x509.Certificate // of current and former, in this order
	gone     []*x509.Certificate // of retired
}

type formerIdentity struct {
	*keydelivery.Authority
	created, replaced time.Time
}

// recordOf names the record of a profile's identities, which is also what their keys are sealed for.
func recordOf(p keydelivery.Profile) string {
	if p == keydelivery.Profile1 {
		return rsaAuthorityRecord
	}
	return authorityRecord
}

// profilesOf returns the profiles that have identities.
func profilesOf(cfg Config) []keydelivery.Profile {
	if cfg.MinDeliveryProfile == keydelivery.Profile1 {
		return []keydelivery.Profile{keydelivery.Profile2, keydelivery.Profile1}
	}
	return []keydelivery.Profile{keydelivery.Profile2}
}

// newIdentity makes an identity of a profile, with its key sealed for the profile's record.
func (k *keyring) newIdentity(p keydelivery.Profile, now time.Time) (keyRecord, error) {
	create := keydelivery.NewAuthority
	if p == keydelivery.Profile1 {
		create = keydelivery.NewRSAAuthority
	}
	a, err := create(now)
	if err != nil {
		return keyRecord{}, err
	}
	key, err := a.KeyPEM()
	if err != nil {
		return keyRecord{}, err
	}
	defer key.Wipe()
	sealed, err := k.root.seal(recordOf(p), key)
	return keyRecord{CertPEM: string(a.CertificatePEM()), Sealed: sealed, Created: now.UTC()}, err
}

// loadIdentities takes up what the store has of a profile, or makes the first identity.
func (k *keyring) loadIdentities(ctx context.Context, cfg Config, p keydelivery.Profile) error {
	rec, err := shared(ctx, k.table, recordOf(p), func() (keyRecord, error) { return k.newIdentity(p, cfg.Clock()) })
	if err != nil {
		return fmt.Errorf("load IAM identity: %w", err)
	}
	set, err := k.openIdentities(cfg, p, rec)
	if err != nil {
		return err
	}
	k.identities[p].Store(set)
	return nil
}

// openIdentities opens the keys of a record. An identity that is in hand already is kept.
func (k *keyring) openIdentities(cfg Config, p keydelivery.Profile, rec keyRecord) (*identitySet, error) {
	set := &identitySet{profile: p, created: rec.Created, retired: rec.Retired}
	var err error
	if set.current, err = k.openIdentity(cfg, p, rec.CertPEM, rec.Sealed); err != nil {
		return nil, err
	}
	set.accepted = []*x509.Certificate{set.current.Certificate()}
	for _, f := range rec.Former {
		a, err := k.openIdentity(cfg, p, f.CertPEM, f.Sealed)
		if err != nil {
			return nil, err
		}
		set.former = append(set.former, formerIdentity{Authority: a, created: f.Created, replaced: f.Replaced})
		set.accepted = append(set.accepted, a.Certificate())
	}
	for _, r := range rec.Retired {
		cert, err := keydelivery.Identity{CertPEM: []byte(r.CertPEM)}.Certificate()
		if err != nil {
			return nil, fmt.Errorf("load retired IAM identity: %w", err)
		}
		set.gone = append(set.gone, cert)
	}
	return set, nil
}

func (k *keyring) openIdentity(cfg Config, p keydelivery.Profile, certPEM, sealed string) (
	*keydelivery.Authority, error) {
	if set := k.set(p); set != nil {
		for _, a := range set.all() {
			if string(a.CertificatePEM()) == certPEM {
				return a, nil
			}
		}
	}
	key, err := k.openSealed(cfg, recordOf(p), sealed)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	authority, err := keydelivery.LoadAuthority([]byte(certPEM), key)
	if err != nil {
		return nil, fmt.Errorf("load IAM identity: %w", err)
	}
	return authority, nil
}

// all returns the identities that are accepted, the one that signs first.
func (s *identitySet) all() []*keydelivery.Authority {
	list := []*keydelivery.Authority{s.current}
	for _, f := range s.former {
		list = append(list, f.Authority)
	}
	return list
}

// holding returns the identity whose IAMCERT this is; nil when it is not accepted.
func (s *identitySet) holding(iamCert *x509.Certificate) *keydelivery.Authority {
	for _, a := range s.all() {
		if a.Certificate().Equal(iamCert) {
			return a
		}
	}
	return nil
}

// bySerial returns the identity of that serial number in hex; nil when it is not accepted.
func (s *identitySet) bySerial(serial string) *keydelivery.Authority {
	for _, a := range s.all() {
		if a.Serial() == serial {
			return a
		}
	}
	return nil
}

// newChecker returns what makes checks 3 to 7, by the identities that are accepted when it is asked.
func newChecker(keys *keyring, cfg Config) *keydelivery.Checker {
	of := func(list func(*identitySet) []*x509.Certificate) func(keydelivery.Profile) []*x509.Certificate {
		return func(p keydelivery.Profile) []*x509.Certificate {
			if set := keys.set(p); set != nil {
				return list(set)
			}
			return nil
		}
	}
	return keydelivery.NewChecker(keydelivery.CheckerConfig{
		Now: cfg.Clock, Revoked: cfg.Revoked,
		IAMCerts:        of(func(s *identitySet) []*x509.Certificate { return s.accepted }),
		RetiredIAMCerts: of(func(s *identitySet) []*x509.Certificate { return s.gone }),
	})
}

// reloadKeys takes up identities that another replica, or this one, has written. It reports whether there are any
// former ones.
func (s *Service) reloadKeys(ctx context.Context) (former bool, err error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	var errs []error
	rotated := false
	for _, p := range profilesOf(s.cfg) {
		before := s.keys.authorityOf(p)
		errs = append(errs, s.keys.loadIdentities(ctx, s.cfg, p))
		rotated = rotated || s.keys.authorityOf(p) != before
		former = former || len(s.keys.set(p).former) > 0
	}
	if told := s.onRotation.Load(); rotated && told != nil {
		(*told)()
	}
	return former, errors.Join(errs...)
}

// isRotated says whether the identity that a caller went by is no longer the one that signs, as a transaction has it.
func (s *Service) isRotated(tx *store.Tx, a *keydelivery.Authority) (bool, error) {
	rec, err := s.keys.table.In(tx).Get(recordOf(a.Profile()))
	if err != nil {
		return false, fmt.Errorf("look for IAM identity: %w", err)
	}
	return rec.CertPEM != string(a.CertificatePEM()), nil
}

// withoutFormer returns the record's former identities without one.
func withoutFormer(list []formerKey, certPEM string) []formerKey {
	return slices.DeleteFunc(slices.Clone(list), func(f formerKey) bool { return f.CertPEM == certPEM })
}
