package iam

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// checkCertificateName follows the seed (000, "Design Constraints"): unlike other entities' names, a server
// certificate's has no underscore.
func checkCertificateName(field, name string) error { return checkName(field, name, 128, "") }

// UploadServerCertificate keeps a certificate, its chain and its key. The key is sealed to IAMCERT before it is
// stored, for this very certificate.
func (s *Service) UploadServerCertificate(
	ctx context.Context, in *iammodel.UploadServerCertificateInput,
) (*iammodel.UploadServerCertificateOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.ServerCertificateName)
	path, perr := checkPath("path", in.Path)
	tags, terr := readTags(in.Tags)
	if err := errors.Join(checkCertificateName("serverCertificateName", name), perr, terr); err != nil {
		return nil, firstOf(err)
	}
	key := keydelivery.Secret(strings.TrimSpace(model.Val(in.PrivateKey)) + "\n")
	defer key.Wipe()
	leaf, err := checkCertificate(model.Val(in.CertificateBody), model.Val(in.CertificateChain), key, s.cfg.Clock())
	if err != nil {
		return nil, err
	}
	if err := belowLimit(ctx, s.certificates.Count, id, "ServerCertificatesPerAccount",
		s.cfg.Quotas.ServerCertificates); err != nil {
		return nil, err
	}
	rec := certificateRecord{
		AccountID: id, Name: name, Path: path, ID: newID("ASCA"), Uploaded: s.now(), Expires: leaf.NotAfter.UTC(),
		Body: strings.TrimSpace(model.Val(in.CertificateBody)), Chain: strings.TrimSpace(model.Val(in.CertificateChain)),
		Tags: tags,
	}
	if err := s.putSealed(ctx, &rec, key, func(tx *store.Tx) error {
		return s.certificates.In(tx).Create(recordKey(id, name), rec)
	}); err != nil {
		return nil, taken(err, "The Server Certificate with name %s already exists.", name)
	}
	return &iammodel.UploadServerCertificateOutput{
		ServerCertificateMetadata: rec.metadata(), Tags: viewTags(rec.Tags),
	}, nil
}

func noCertificate(err error, name string) error {
	return missing(err, "The Server Certificate with name %s cannot be found.", name)
}

// certificate returns a certificate by the exact name, or store.ErrNotFound.
func (s *Service) certificate(ctx context.Context, accountID, name string) (*certificateRecord, error) {
	rec, err := s.certificates.cached(ctx, recordKey(accountID, name))
	if err == nil && rec.Name != name {
		return nil, store.ErrNotFound
	}
	return rec, err
}

// certificateByARN returns a certificate by its exact ARN, path included, or store.ErrNotFound.
func (s *Service) certificateByARN(ctx context.Context, arn string) (*certificateRecord, error) {
	accountID, kind, _, name, ok := splitARN(arn)
	if !ok || kind != kindCertificate {
		return nil, store.ErrNotFound
	}
	rec, err := s.certificate(ctx, accountID, name)
	if err == nil && rec.arn() != arn {
		return nil, store.ErrNotFound
	}
	return rec, err
}

// GetServerCertificate returns a certificate with its chain; never its key.
func (s *Service) GetServerCertificate(
	ctx context.Context, in *iammodel.GetServerCertificateInput,
) (*iammodel.GetServerCertificateOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.ServerCertificateName)
	rec, err := s.certificate(ctx, id, name)
	if err != nil {
		return nil, noCertificate(err, name)
	}
	out := &iammodel.ServerCertificate{
		ServerCertificateMetadata: rec.metadata(), CertificateBody: model.Ptr(rec.Body), Tags: viewTags(rec.Tags),
	}
	if rec.Chain != "" {
		out.CertificateChain = model.Ptr(rec.Chain)
	}
	return &iammodel.GetServerCertificateOutput{ServerCertificate: out}, nil
}

// ListServerCertificates lists the account's certificates by name.
func (s *Service) ListServerCertificates(
	ctx context.Context, in *iammodel.ListServerCertificatesInput,
) (*iammodel.ListServerCertificatesOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	p, err := listPage(ctx, s.certificates, id+"/",
		below(in.PathPrefix, func(r *certificateRecord) string { return r.Path }), in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListServerCertificatesOutput{
		IsTruncated: p.truncated, Marker: p.marker, ServerCertificateMetadataList: []iammodel.ServerCertificateMetadata{},
	}
	for i := range p.items {
		out.ServerCertificateMetadataList = append(out.ServerCertificateMetadataList, *p.items[i].metadata())
	}
	return out, nil
}

// UpdateServerCertificate renames a certificate or moves it to another path, which changes its ARN.
func (s *Service) UpdateServerCertificate(
	ctx context.Context, in *iammodel.UpdateServerCertificateInput,
) (*iammodel.UpdateServerCertificateOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.ServerCertificateName)
	newName, newPath := name, ""
	if in.NewServerCertificateName != nil {
		newName = *in.NewServerCertificateName
		err = checkCertificateName("newServerCertificateName", newName)
	}
	if in.NewPath != nil && err == nil {
		newPath, err = checkPath("newPath", in.NewPath)
	}
	if err != nil {
		return nil, err
	}
	if err := s.rename(ctx, id, name, newName, newPath); err != nil {
		return nil, taken(noCertificate(err, name), "The Server Certificate with name %s already exists.", newName)
	}
	return &iammodel.UpdateServerCertificateOutput{}, nil
}

// rename gives a certificate another name and, unless it is empty, another path. Listeners and grants follow in the
// same transaction.
func (s *Service) rename(ctx context.Context, accountID, name, newName, newPath string) error {
	from, to := recordKey(accountID, name), recordKey(accountID, newName)
	var roles []string
	var oldARN, newARN string
	err := s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.certificates.In(tx).Get(from)
		if err != nil || rec.Name != name {
			return orMissing(err)
		}
		oldARN = rec.arn()
		rec.Name = newName
		if newPath != "" {
			rec.Path = newPath
		}
		newARN = rec.arn()
		if roles, err = s.takeAlong(ctx, tx, &rec, oldARN); err != nil {
			return err
		}
		if from == to {
			return s.certificates.In(tx).Put(to, rec)
		}
		if err := s.certificates.In(tx).Create(to, rec); err != nil {
			return err
		}
		return s.certificates.In(tx).Delete(from)
	}, func() {
		for _, key := range append(roles, from, to) {
			s.certificates.cache.drop(key)
			s.roles.cache.drop(key)
		}
	})
	if err == nil && oldARN != newARN {
		s.cfg.Journal.Record(ctx, journal.Event{
			Time: s.cfg.Clock(), Kind: "iam.server_certificate_renamed", Subject: newARN,
			Attributes: map[string]string{"from": oldARN, "grants": strconv.Itoa(len(roles))},
		})
	}
	return err
}

// DeleteServerCertificate deletes a certificate that no listener uses.
func (s *Service) DeleteServerCertificate(
	ctx context.Context, in *iammodel.DeleteServerCertificateInput,
) (*iammodel.DeleteServerCertificateOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.ServerCertificateName)
	key := recordKey(id, name)
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.certificates.In(tx).Get(key)
		if err != nil || rec.Name != name {
			return orMissing(err)
		}
		if err := s.refuseUsed(ctx, tx, &rec); err != nil {
			return err
		}
		if err := s.certificates.In(tx).Delete(key); err != nil {
			return err
		}
		return ignoreMissing(s.uses.In(tx).Delete(rec.useKey()))
	}, func() { s.certificates.cache.drop(key) })
	if err != nil {
		return nil, noCertificate(err, name)
	}
	return &iammodel.DeleteServerCertificateOutput{}, nil
}

// refuseUsed is DeleteConflict when somebody uses the certificate. Whoever begins to between the question and the
// transaction's end has it asked again.
func (s *Service) refuseUsed(ctx context.Context, tx *store.Tx, rec *certificateRecord) error {
	check := s.useCheck.Load()
	if check == nil {
		return nil
	}
	// Read before the question: a use that the answer misses was written after this.
	if err := s.readUse(tx, rec); err != nil {
		return err
	}
	user, inUse, err := (*check)(ctx, rec.arn())
	if err == nil && inUse {
		err = iammodel.ErrDeleteConflict("Certificate: %s is currently in use by %s. "+
			"Please remove it first before deleting it from IAM.", rec.ID, user)
	}
	return err
}

// ServerCertificateRevision returns a text that changes whenever another key or certificate stands behind the ARN.
// The error is NoSuchEntity when nothing does.
func (s *Service) ServerCertificateRevision(ctx context.Context, arn string) (string, error) {
	rec, err := s.certificateByARN(ctx, arn)
	if err != nil {
		return "", missing(err, "The Server Certificate with ARN %s cannot be found.", arn)
	}
	return rec.revision(), nil
}

// CertificateExists reports whether something stands behind the ARN.
func (s *Service) CertificateExists(ctx context.Context, arn string) (bool, error) {
	_, err := s.certificateByARN(ctx, arn)
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// WatchServerCertificates sends the ARN of every certificate that is made, replaced, renamed or removed after the
// call, until ctx ends, when the channel is closed. It is also closed when changes were lost: call again then, and
// take every ARN as changed.
func (s *Service) WatchServerCertificates(ctx context.Context) (<-chan string, error) {
	initial, changes, err := s.certificates.Watch(ctx, "")
	if err != nil {
		return nil, err
	}
	// A deletion names only the record's key.
	arns := make(map[string]string, len(initial))
	for i := range initial {
		arns[recordKey(initial[i].AccountID, initial[i].Name)] = initial[i].arn()
	}
	out := make(chan string)
	go func() {
		defer close(out)
		for c := range changes {
			// Whoever hears of a change must not read the record of before it.
			s.certificates.cache.drop(c.Key)
			for _, arn := range changedARNs(arns, c) {
				select {
				case out <- arn:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// changedARNs brings arns up to date and returns what the change touched: the old ARN, the new one, or both.
func changedARNs(arns map[string]string, c store.Change[certificateRecord]) []string {
	old, had := arns[c.Key]
	if c.Value == nil {
		delete(arns, c.Key)
		if !had {
			return nil
		}
		return []string{old}
	}
	arn := c.Value.arn()
	arns[c.Key] = arn
	if had && old != arn {
		return []string{old, arn}
	}
	return []string{arn}
}
