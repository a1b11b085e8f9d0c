package iam

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// EnsureAccount makes the account unless it is there. id has twelve digits. An account that is there keeps its name;
// whether it is the system's cannot change.
func (s *Service) EnsureAccount(ctx context.Context, id, name string, system bool) (Account, error) {
	if !isAccountID(id) {
		return Account{}, fmt.Errorf("ensure account %q: an account id has twelve digits", id)
	}
	rec := accountRecord{Account: Account{ID: id, Name: name, System: system, Created: s.now()}}
	err := s.accounts.Create(ctx, id, rec)
	if err == nil {
		return rec.Account, nil
	}
	if !errors.Is(err, store.ErrExists) {
		return Account{}, fmt.Errorf("ensure account %s: %w", id, err)
	}
	have, err := s.accounts.cached(ctx, id)
	if err != nil {
		return Account{}, fmt.Errorf("ensure account %s: %w", id, err)
	}
	if have.System != system {
		return Account{}, fmt.Errorf("ensure account %s: it exists with system=%t", id, have.System)
	}
	return have.Account, nil
}

// Account returns an account, or a NoSuchEntity error.
func (s *Service) Account(ctx context.Context, id string) (Account, error) {
	rec, err := s.accounts.cached(ctx, id)
	if err != nil {
		return Account{}, missing(err, "The account %s cannot be found.", id)
	}
	return rec.Account, nil
}

// Accounts returns all accounts in the order of their ids.
func (s *Service) Accounts(ctx context.Context) ([]Account, error) {
	recs, err := s.accounts.List(ctx, "")
	if err != nil {
		return nil, err
	}
	out := make([]Account, len(recs))
	for i := range recs {
		out[i] = recs[i].Account
	}
	return out, nil
}

// EnsureRootKey returns an active access key of the account's root user, and makes one if there is none.
func (s *Service) EnsureRootKey(ctx context.Context, accountID string) (string, keydelivery.Secret, error) {
	rec, err := s.accounts.Get(ctx, accountID)
	if err != nil {
		return "", nil, fmt.Errorf("ensure root key of %s: %w", accountID, err)
	}
	for _, id := range rec.RootKeys {
		key, err := s.accessKeys.cached(ctx, id)
		if err != nil {
			return "", nil, fmt.Errorf("read root key of %s: %w", accountID, err)
		}
		if key.Active {
			return id, keydelivery.Secret(key.secret), nil
		}
	}
	key, secret, err := s.createAccessKey(ctx, accountID, "")
	if err != nil {
		return "", nil, fmt.Errorf("make root key of %s: %w", accountID, err)
	}
	return key.ID, keydelivery.Secret(secret), nil
}

// rootView is the root user as GetUser shows it.
func (s *Service) rootView(ctx context.Context, c authn.Caller) (*iammodel.User, error) {
	rec, err := s.accounts.cached(ctx, c.AccountID)
	if err != nil {
		return nil, err
	}
	return &iammodel.User{
		Arn: model.Ptr(c.ARN), UserId: model.Ptr(c.AccountID), CreateDate: model.Ptr(rec.Created),
		Path: model.Ptr("/"),
	}, nil
}
