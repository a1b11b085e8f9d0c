package iam

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// maxSigningCerts is how many signing certificates a user can have.
const maxSigningCerts = 2

// signingRecord is an X.509 certificate by which a user signs requests. It lies under account and id.
type signingRecord struct {
	AccountID string
	UserID    string // AIDA…: a successor of the same name is somebody else
	ID        string // 32 letters and digits
	Body      string // PEM
	Uploaded  time.Time
	Active    bool
}

func (r *signingRecord) view(userName string) *iammodel.SigningCertificate {
	status := statusInactive
	if r.Active {
		status = statusActive
	}
	var user *string // none for the root user
	if userName != "" {
		user = model.Ptr(userName)
	}
	return &iammodel.SigningCertificate{
		CertificateBody: model.Ptr(r.Body), CertificateId: model.Ptr(r.ID), Status: model.Ptr(status),
		UploadDate: model.Ptr(r.Uploaded), UserName: user,
	}
}

func noSigning(err error, id string) error {
	return missing(err, "The Certificate with id %s cannot be found.", id)
}

// UploadSigningCertificate adds a certificate to a user.
func (s *Service) UploadSigningCertificate(
	ctx context.Context, in *iammodel.UploadSigningCertificateInput,
) (*iammodel.UploadSigningCertificateOutput, error) {
	id, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	body := strings.TrimSpace(model.Val(in.CertificateBody))
	certs, err := readCertificates(body)
	if err != nil {
		return nil, iammodel.ErrMalformedCertificate("CertificateBody: %s", err)
	}
	if len(certs) != 1 {
		return nil, iammodel.ErrMalformedCertificate("CertificateBody: it must hold one certificate")
	}
	if now := s.cfg.Clock(); now.Before(certs[0].NotBefore) || now.After(certs[0].NotAfter) {
		return nil, iammodel.ErrInvalidCertificate("CertificateBody: the certificate is valid from %s to %s only.",
			certs[0].NotBefore.UTC().Format(time.RFC3339), certs[0].NotAfter.UTC().Format(time.RFC3339))
	}
	rec := signingRecord{AccountID: id, ID: randomText(32), Body: body, Uploaded: s.now(), Active: true}
	err = s.changeSigning(ctx, id, name, func(tx *store.Tx, ids *[]string, userID string) error {
		for _, other := range *ids {
			have, err := s.signing.In(tx).Get(id + "/" + other)
			if err != nil {
				return err
			}
			if have.Body == body {
				return iammodel.ErrDuplicateCertificate("The certificate is already uploaded as %s.", other)
			}
		}
		if len(*ids) >= maxSigningCerts {
			return errLimit("SigningCertificatesPerUser", maxSigningCerts)
		}
		rec.UserID = userID
		*ids = append(*ids, rec.ID)
		return s.signing.In(tx).Create(id+"/"+rec.ID, rec)
	})
	if err != nil {
		return nil, err
	}
	return &iammodel.UploadSigningCertificateOutput{Certificate: rec.view(name)}, nil
}

// changeSigning changes a user's list of certificates, or with an empty name the root user's, together with them.
func (s *Service) changeSigning(ctx context.Context, accountID, name string,
	change func(tx *store.Tx, ids *[]string, userID string) error,
) error {
	if name == "" {
		return changeRecord(ctx, s, s.accounts, accountID, func(tx *store.Tx, a *accountRecord) error {
			return change(tx, &a.SigningCerts, accountID)
		})
	}
	return noUser(changeRecord(ctx, s, s.users, recordKey(accountID, name), func(tx *store.Tx, u *userRecord) error {
		if u.Name != name {
			return store.ErrNotFound
		}
		return change(tx, &u.SigningCerts, u.ID)
	}), name)
}

// signingCerts are the ids of a user's certificates; with an empty name, the root user's.
func (s *Service) signingCerts(ctx context.Context, accountID, name string) ([]string, error) {
	if name == "" {
		a, err := s.accounts.cached(ctx, accountID)
		if err != nil {
			return nil, err
		}
		return a.SigningCerts, nil
	}
	u, err := s.user(ctx, accountID, name)
	if err != nil {
		return nil, noUser(err, name)
	}
	return u.SigningCerts, nil
}

// ListSigningCertificates lists a user's certificates.
func (s *Service) ListSigningCertificates(
	ctx context.Context, in *iammodel.ListSigningCertificatesInput,
) (*iammodel.ListSigningCertificatesOutput, error) {
	id, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	ids, err := s.signingCerts(ctx, id, name)
	if err != nil {
		return nil, err
	}
	p, err := paginate(slices.Sorted(slices.Values(ids)), sameText, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListSigningCertificatesOutput{
		IsTruncated: p.truncated, Marker: p.marker, Certificates: []iammodel.SigningCertificate{},
	}
	for _, certID := range p.items {
		rec, err := s.signing.Get(ctx, id+"/"+certID)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out.Certificates = append(out.Certificates, *rec.view(name))
	}
	return out, nil
}

// UpdateSigningCertificate makes a certificate active or inactive.
func (s *Service) UpdateSigningCertificate(
	ctx context.Context, in *iammodel.UpdateSigningCertificateInput,
) (*iammodel.UpdateSigningCertificateOutput, error) {
	id, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	certID := model.Val(in.CertificateId)
	return nil, s.changeSigning(ctx, id, name, func(tx *store.Tx, ids *[]string, _ string) error {
		if !slices.Contains(*ids, certID) {
			return noSigning(store.ErrNotFound, certID)
		}
		rec, err := s.signing.In(tx).Get(id + "/" + certID)
		if err != nil {
			return err
		}
		rec.Active = model.Val(in.Status) == statusActive
		return s.signing.In(tx).Put(id+"/"+certID, rec)
	})
}

// DeleteSigningCertificate deletes a certificate.
func (s *Service) DeleteSigningCertificate(
	ctx context.Context, in *iammodel.DeleteSigningCertificateInput,
) (*iammodel.DeleteSigningCertificateOutput, error) {
	id, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	certID := model.Val(in.CertificateId)
	return nil, s.changeSigning(ctx, id, name, func(tx *store.Tx, ids *[]string, _ string) error {
		i := slices.Index(*ids, certID)
		if i < 0 {
			return noSigning(store.ErrNotFound, certID)
		}
		*ids = slices.Delete(slices.Clone(*ids), i, i+1)
		return s.signing.In(tx).Delete(id + "/" + certID)
	})
}
