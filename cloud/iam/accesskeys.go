package iam

import (
	"context"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

const (
	statusActive   = "Active"
	statusInactive = "Inactive"
)

// accessKey is an accessKeyRecord with its secret opened, for the check of signatures.
type accessKey struct {
	accessKeyRecord
	secret string
}

func (k *accessKeyRecord) status() string {
	if k.Active {
		return statusActive
	}
	return statusInactive
}

func accessKeyPurpose(id string) string { return "access-key/" + id }

func (s *Service) compileAccessKey(rec *accessKeyRecord) (*accessKey, error) {
	secret, err := s.keys.root.open(accessKeyPurpose(rec.ID), rec.Secret)
	if err != nil {
		return nil, err
	}
	return &accessKey{accessKeyRecord: *rec, secret: string(secret)}, nil
}

// createAccessKey makes a key for a user, or for the root user when userName is empty.
func (s *Service) createAccessKey(ctx context.Context, accountID, userName string) (accessKeyRecord, string, error) {
	secret := newSecret()
	rec := accessKeyRecord{
		ID: newAccessKeyID("AKIA", accountID), AccountID: accountID, UserName: userName, Active: true, Created: s.now(),
	}
	var err error
	if rec.Secret, err = s.keys.root.seal(accessKeyPurpose(rec.ID), []byte(secret)); err != nil {
		return rec, "", err
	}
	err = s.changeKeys(ctx, accountID, userName, func(tx *store.Tx, keys []string) ([]string, error) {
		if len(keys) >= s.cfg.Quotas.AccessKeysPerUser {
			return nil, errLimit("AccessKeysPerUser", s.cfg.Quotas.AccessKeysPerUser)
		}
		return append(slices.Clone(keys), rec.ID), s.accessKeys.In(tx).Create(rec.ID, rec)
	})
	return rec, secret, err
}

// changeKeys runs change on the list of a user's or root user's access keys in a transaction.
func (s *Service) changeKeys(ctx context.Context, accountID, userName string,
	change func(tx *store.Tx, keys []string) ([]string, error),
) error {
	var touched []string
	dropKeys := func() {
		for _, id := range touched {
			s.accessKeys.cache.drop(id)
		}
	}
	if userName == "" {
		return s.txn(ctx, func(tx *store.Tx) error {
			rec, err := s.accounts.In(tx).Get(accountID)
			if err != nil {
				return err
			}
			touched = rec.RootKeys
			if rec.RootKeys, err = change(tx, rec.RootKeys); err != nil {
				return err
			}
			touched = append(touched, rec.RootKeys...)
			return s.accounts.In(tx).Put(accountID, rec)
		}, func() { s.accounts.cache.drop(accountID) }, dropKeys)
	}
	key := recordKey(accountID, userName)
	return s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.users.In(tx).Get(key)
		if err != nil || rec.Name != userName {
			return orMissing(err)
		}
		touched = rec.AccessKeys
		if rec.AccessKeys, err = change(tx, rec.AccessKeys); err != nil {
			return err
		}
		touched = append(touched, rec.AccessKeys...)
		return s.users.In(tx).Put(key, rec)
	}, func() { s.users.cache.drop(key) }, dropKeys)
}

// keyOwner is whose keys an operation is about: the named user's, or the caller's own when no name is given. An
// empty name with a nil error is the root user.
func keyOwner(ctx context.Context, userName *string) (accountID, name string, err error) {
	c := authn.CallerFrom(ctx)
	if c.AccountID == "" {
		return "", "", errNobody()
	}
	if userName != nil {
		return c.AccountID, *userName, nil
	}
	if c.Kind == authn.KindRole {
		return "", "", invalid("userName", "Must specify userName when calling with non-User credentials")
	}
	return c.AccountID, c.UserName, nil
}

// CreateAccessKey makes an access key. Its secret is shown this once.
func (s *Service) CreateAccessKey(
	ctx context.Context, in *iammodel.CreateAccessKeyInput,
) (*iammodel.CreateAccessKeyOutput, error) {
	id, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	rec, secret, err := s.createAccessKey(ctx, id, name)
	if err != nil {
		return nil, noUser(err, name)
	}
	return &iammodel.CreateAccessKeyOutput{AccessKey: &iammodel.AccessKey{
		AccessKeyId: model.Ptr(rec.ID), SecretAccessKey: model.Ptr(secret), Status: model.Ptr(rec.status()),
		UserName: model.Ptr(name), CreateDate: model.Ptr(rec.Created),
	}}, nil
}

// ListAccessKeys lists a user's access keys, without their secrets.
func (s *Service) ListAccessKeys(
	ctx context.Context, in *iammodel.ListAccessKeysInput,
) (*iammodel.ListAccessKeysOutput, error) {
	accountID, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	ids, err := s.keysOf(ctx, accountID, name)
	if err != nil {
		return nil, noUser(err, name)
	}
	slices.Sort(ids)
	p, err := paginate(ids, sameText, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListAccessKeysOutput{
		IsTruncated: p.truncated, Marker: p.marker, AccessKeyMetadata: []iammodel.AccessKeyMetadata{},
	}
	for _, id := range p.items {
		k, err := s.accessKeys.cached(ctx, id)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m := iammodel.AccessKeyMetadata{
			AccessKeyId: model.Ptr(id), Status: model.Ptr(k.status()), CreateDate: model.Ptr(k.Created),
		}
		if name != "" {
			m.UserName = model.Ptr(name)
		}
		out.AccessKeyMetadata = append(out.AccessKeyMetadata, m)
	}
	return out, nil
}

func (s *Service) keysOf(ctx context.Context, accountID, name string) ([]string, error) {
	if name == "" {
		rec, err := s.accounts.cached(ctx, accountID)
		if err != nil {
			return nil, err
		}
		return slices.Clone(rec.RootKeys), nil
	}
	u, err := s.user(ctx, accountID, name)
	if err != nil {
		return nil, err
	}
	return slices.Clone(u.AccessKeys), nil
}

// UpdateAccessKey makes a key active or inactive. An inactive key signs nothing from the moment of the answer.
func (s *Service) UpdateAccessKey(
	ctx context.Context, in *iammodel.UpdateAccessKeyInput,
) (*iammodel.UpdateAccessKeyOutput, error) {
	status := model.Val(in.Status)
	if status != statusActive && status != statusInactive {
		return nil, invalid("status", "It must be %s or %s", statusActive, statusInactive)
	}
	accountID, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	id := model.Val(in.AccessKeyId)
	_, err = s.accessKeys.Update(ctx, id, func(rec *accessKeyRecord) error {
		if rec.AccountID != accountID || rec.UserName != name {
			return store.ErrNotFound
		}
		rec.Active = status == statusActive
		return nil
	})
	return &iammodel.UpdateAccessKeyOutput{}, noKey(err, id)
}

// DeleteAccessKey deletes a key. It signs nothing from the moment of the answer.
func (s *Service) DeleteAccessKey(
	ctx context.Context, in *iammodel.DeleteAccessKeyInput,
) (*iammodel.DeleteAccessKeyOutput, error) {
	accountID, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	id := model.Val(in.AccessKeyId)
	err = s.changeKeys(ctx, accountID, name, func(tx *store.Tx, keys []string) ([]string, error) {
		if !slices.Contains(keys, id) {
			return nil, noKey(store.ErrNotFound, id)
		}
		rest := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == id })
		return rest, s.accessKeys.In(tx).Delete(id)
	})
	return &iammodel.DeleteAccessKeyOutput{}, noUser(err, name)
}

func noKey(err error, id string) error {
	return missing(err, "The Access Key with id %s cannot be found.", id)
}

// AccessKeyAccount returns the account that an access key belongs to, or a NoSuchEntity error. Keys that were made
// before their ids told the account are found when they are in the store, or were used here.
func (s *Service) AccessKeyAccount(ctx context.Context, id string) (string, error) {
	if accountID, ok := s.sessions.account(id); ok {
		return accountID, nil
	}
	key, err := s.accessKeys.cached(ctx, id)
	if err == nil {
		return key.AccountID, nil
	}
	if accountID, ok := keyAccount(id); ok && isMissing(err) {
		if _, there := s.accounts.cached(ctx, accountID); there == nil {
			return accountID, nil
		}
	}
	return "", noKey(err, id)
}
