package iam

import (
	"context"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// useRecord is written by every transaction that has somebody name a certificate. Whoever deletes or renames the
// certificate reads it first, so that the two never pass each other: one of them is run again and sees the other.
// What it holds is for people.
type useRecord struct{ By string }

func (r *certificateRecord) useKey() string { return r.AccountID + "/" + r.ID }

// GrantMove is what a renaming does to a service role's grant: the policy OldName gives way to NewName. They may be
// the same.
type GrantMove struct {
	AccountID, Role  string
	OldName, NewName string
	Document         string // of NewName
}

// renameCheck rewrites, in the renaming's transaction, what names a certificate by its ARN.
type renameCheck func(ctx context.Context, tx *store.Tx, from, to string) ([]GrantMove, error)

// SetCertificateRename plugs in what a change of a certificate's ARN takes along, in the same transaction, so that no
// moment is without a grant: the other services' records, which follow writes itself, and the grants, which it
// returns. It may be run several times and must have no other effect.
func (s *Service) SetCertificateRename(
	follow func(ctx context.Context, tx *store.Tx, from, to string) ([]GrantMove, error),
) {
	f := renameCheck(follow)
	s.renames.Store(&f)
}

// HoldCertificate is for a transaction that makes a record name the certificate: the certificate is there when the
// transaction commits, or the error is NoSuchEntity. A deletion or renaming at the same time either comes first, or
// finds the record, whatever process it runs in. by names the record, for people.
func (s *Service) HoldCertificate(tx *store.Tx, arn, by string) error {
	accountID, kind, _, name, ok := splitARN(arn)
	err := store.ErrNotFound
	var rec certificateRecord
	if ok && kind == kindCertificate {
		rec, err = s.certificates.In(tx).Get(recordKey(accountID, name))
	}
	if err == nil && rec.arn() != arn {
		err = store.ErrNotFound
	}
	if err != nil {
		return missing(err, "The Server Certificate with ARN %s cannot be found.", arn)
	}
	return s.uses.In(tx).Put(rec.useKey(), useRecord{By: by})
}

// takeAlong has everything that names the certificate follow it to its new ARN. It returns the keys of the roles that
// it wrote.
func (s *Service) takeAlong(ctx context.Context, tx *store.Tx, rec *certificateRecord, from string) ([]string, error) {
	follow := s.renames.Load()
	if follow == nil || from == rec.arn() {
		return nil, nil
	}
	if err := s.readUse(tx, rec); err != nil {
		return nil, err
	}
	moves, err := (*follow)(ctx, tx, from, rec.arn())
	if err != nil {
		return nil, err
	}
	var roles []string
	for _, m := range moves {
		key := recordKey(m.AccountID, m.Role)
		moved, err := s.moveGrant(tx, key, m)
		if err != nil {
			return nil, err
		}
		if moved {
			roles = append(roles, key)
		}
	}
	return roles, nil
}

// readUse makes the transaction run again when somebody begins to use the certificate before it commits.
func (s *Service) readUse(tx *store.Tx, rec *certificateRecord) error {
	_, err := s.uses.In(tx).Get(rec.useKey())
	return ignoreMissing(err)
}

// moveGrant replaces a policy of a service role. A role or policy that is not there yet is made by its service later,
// by the new name.
func (s *Service) moveGrant(tx *store.Tx, key string, m GrantMove) (bool, error) {
	rec, err := s.roles.In(tx).Get(key)
	if err != nil {
		return false, ignoreMissing(err)
	}
	has := slices.ContainsFunc(rec.Policies, func(p inlinePolicy) bool { return p.Name == m.OldName })
	if !has || rec.Name != m.Role {
		return false, nil
	}
	if _, err := s.checkDocument(m.Document, policy.Identity); err != nil {
		return false, err
	}
	rec.Policies = slices.DeleteFunc(rec.Policies, func(p inlinePolicy) bool { return p.Name == m.OldName })
	rec.Policies, err = putInline(rec.Policies, inlinePolicy{Name: m.NewName, Document: m.Document}, "role "+m.Role, 0)
	if err != nil {
		return false, err
	}
	return true, s.roles.In(tx).Put(key, rec)
}
