package iam

import (
	"context"
	"errors"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func isMissing(err error) bool { return errors.Is(err, store.ErrNotFound) }

// CreateUser makes a user without any permission.
func (s *Service) CreateUser(
	ctx context.Context, in *iammodel.CreateUserInput,
) (*iammodel.CreateUserOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.UserName)
	path, perr := checkPath("path", in.Path)
	tags, terr := readTags(in.Tags)
	if err := errors.Join(checkName("userName", name, 64, "_"), perr, terr,
		checkBoundary(in.PermissionsBoundary)); err != nil {
		return nil, firstOf(err)
	}
	if err := belowLimit(ctx, s.users.Count, id, "UsersPerAccount", s.cfg.Quotas.Users); err != nil {
		return nil, err
	}
	rec := userRecord{AccountID: id, Name: name, Path: path, ID: newID("AIDA"), Created: s.now(), Tags: tags}
	if err := createHolder(ctx, s, s.users, recordKey(id, name), &rec, &rec.holder, entity{kindUser, name},
		in.PermissionsBoundary); err != nil {
		return nil, taken(err, "User with name %s already exists.", name)
	}
	return &iammodel.CreateUserOutput{User: rec.view()}, nil
}

// firstOf returns the first of joined errors: a client gets one code.
func firstOf(err error) error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()[0]
	}
	return err
}

// GetUser returns a user; without a name, the caller itself.
func (s *Service) GetUser(ctx context.Context, in *iammodel.GetUserInput) (*iammodel.GetUserOutput, error) {
	c := authn.CallerFrom(ctx)
	name := model.Val(in.UserName)
	if name == "" {
		switch c.Kind {
		case authn.KindRoot:
			v, err := s.rootView(ctx, c)
			return &iammodel.GetUserOutput{User: v}, err
		case authn.KindUser:
			name = c.UserName
		case authn.KindRole:
			return nil, invalid("userName", "Must specify userName when calling with non-User credentials")
		default:
			return nil, errNobody()
		}
	}
	u, err := s.user(ctx, c.AccountID, name)
	if err != nil {
		return nil, noUser(err, name)
	}
	return &iammodel.GetUserOutput{User: u.view()}, nil
}

// ListUsers lists the account's users by name.
func (s *Service) ListUsers(ctx context.Context, in *iammodel.ListUsersInput) (*iammodel.ListUsersOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	p, err := listPage(ctx, s.users, id+"/", below(in.PathPrefix, func(r *userRecord) string { return r.Path }),
		in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListUsersOutput{IsTruncated: p.truncated, Marker: p.marker,
		Users: make([]iammodel.User, 0, len(p.items))}
	for i := range p.items {
		out.Users = append(out.Users, *p.items[i].view())
	}
	return out, nil
}

// UpdateUser renames a user or moves it to another path. Its access keys and policies stay.
func (s *Service) UpdateUser(
	ctx context.Context, in *iammodel.UpdateUserInput,
) (*iammodel.UpdateUserOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.UserName)
	newName, newPath := name, ""
	if in.NewUserName != nil {
		newName = *in.NewUserName
		err = checkName("newUserName", newName, 64, "_")
	}
	if in.NewPath != nil && err == nil {
		newPath, err = checkPath("newPath", in.NewPath)
	}
	if err != nil {
		return nil, err
	}
	var keys []string
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.users.In(tx).Get(recordKey(id, name))
		if err != nil || rec.Name != name {
			return orMissing(err)
		}
		keys = rec.AccessKeys
		rec.Name = newName
		if newPath != "" {
			rec.Path = newPath
		}
		return s.moveUser(tx, id, name, rec)
	}, func() { s.users.cache.drop(recordKey(id, name)) }, func() { s.users.cache.drop(recordKey(id, newName)) },
		func() {
			for _, k := range keys {
				s.accessKeys.cache.drop(k)
			}
		})
	if err != nil {
		return nil, taken(noUser(err, name), "User with name %s already exists.", newName)
	}
	return &iammodel.UpdateUserOutput{}, nil
}

// moveUser writes the record under its new name and turns its access keys to it.
func (s *Service) moveUser(tx *store.Tx, accountID, oldName string, rec userRecord) error {
	from, to := recordKey(accountID, oldName), recordKey(accountID, rec.Name)
	if from == to {
		if err := s.users.In(tx).Put(to, rec); err != nil {
			return err
		}
	} else {
		if err := s.users.In(tx).Create(to, rec); err != nil {
			return err
		}
		if err := s.users.In(tx).Delete(from); err != nil {
			return err
		}
		if err := s.moveMember(tx, oldName, &rec); err != nil {
			return err
		}
		err := s.moveUses(tx, accountID, &rec.holder, entity{kindUser, oldName}, entity{kindUser, rec.Name})
		if err != nil {
			return err
		}
	}
	for _, serial := range rec.MFADevices {
		if err := s.setDeviceUser(tx, serial, rec.Name); err != nil {
			return err
		}
	}
	for _, k := range rec.AccessKeys {
		key, err := s.accessKeys.In(tx).Get(k)
		if err != nil {
			return err
		}
		key.UserName = rec.Name
		if err := s.accessKeys.In(tx).Put(k, key); err != nil {
			return err
		}
	}
	return nil
}

// moveMember renames a user in its groups' lists of members.
func (s *Service) moveMember(tx *store.Tx, oldName string, rec *userRecord) error {
	for _, id := range rec.Groups {
		g := groupRecord{AccountID: rec.AccountID, ID: id}
		if err := s.members.In(tx).Delete(g.memberKey(oldName)); err != nil {
			return err
		}
		if err := s.members.In(tx).Put(g.memberKey(rec.Name), memberRecord{UserName: rec.Name}); err != nil {
			return err
		}
	}
	return nil
}

// orMissing is err, or ErrNotFound when a record was found under a name of other case.
func orMissing(err error) error {
	if err == nil {
		return store.ErrNotFound
	}
	return err
}

// DeleteUser deletes a user that has neither keys, certificates, devices, groups nor policies.
func (s *Service) DeleteUser(
	ctx context.Context, in *iammodel.DeleteUserInput,
) (*iammodel.DeleteUserOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.UserName)
	key := recordKey(id, name)
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.users.In(tx).Get(key)
		switch {
		case err != nil || rec.Name != name:
			return orMissing(err)
		case len(rec.AccessKeys) > 0:
			return iammodel.ErrDeleteConflict("Cannot delete entity, must remove access keys first.")
		case len(rec.Groups) > 0:
			return iammodel.ErrDeleteConflict("Cannot delete entity, must remove users from group first.")
		case len(rec.MFADevices) > 0:
			return iammodel.ErrDeleteConflict("Cannot delete entity, must delete MFA device first.")
		case len(rec.SigningCerts) > 0:
			return iammodel.ErrDeleteConflict("Cannot delete entity, must remove signing certificates first.")
		}
		if err := rec.removable(); err != nil {
			return err
		}
		if err := s.moveBoundary(tx, id, entity{kindUser, name}, &rec.holder, ""); err != nil {
			return err
		}
		return s.users.In(tx).Delete(key)
	}, func() { s.users.cache.drop(key) })
	if err != nil {
		return nil, noUser(err, name)
	}
	return &iammodel.DeleteUserOutput{}, nil
}

// updateUser changes a user's record.
func (s *Service) updateUser(ctx context.Context, name string, change func(*userRecord) error) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	_, err = s.users.Update(ctx, recordKey(id, name), func(rec *userRecord) error {
		if rec.Name != name {
			return store.ErrNotFound
		}
		return change(rec)
	})
	return noUser(err, name)
}

// PutUserPolicy adds or replaces an inline policy of a user.
func (s *Service) PutUserPolicy(
	ctx context.Context, in *iammodel.PutUserPolicyInput,
) (*iammodel.PutUserPolicyOutput, error) {
	p := inlinePolicy{Name: model.Val(in.PolicyName), Document: model.Val(in.PolicyDocument)}
	if err := checkName("policyName", p.Name, 128, "_"); err != nil {
		return nil, err
	}
	if _, err := s.checkDocument(p.Document, policy.Identity); err != nil {
		return nil, err
	}
	name := model.Val(in.UserName)
	return &iammodel.PutUserPolicyOutput{}, s.updateUser(ctx, name, func(rec *userRecord) (err error) {
		rec.Policies, err = putInline(rec.Policies, p, "user "+name, maxUserPolicy)
		return err
	})
}

// GetUserPolicy returns an inline policy of a user, its document percent-encoded.
func (s *Service) GetUserPolicy(
	ctx context.Context, in *iammodel.GetUserPolicyInput,
) (*iammodel.GetUserPolicyOutput, error) {
	u, err := s.callersUser(ctx, model.Val(in.UserName))
	if err != nil {
		return nil, err
	}
	i, err := findInline(u.Policies, model.Val(in.PolicyName), "user")
	if err != nil {
		return nil, err
	}
	return &iammodel.GetUserPolicyOutput{
		UserName: model.Ptr(u.Name), PolicyName: model.Ptr(u.Policies[i].Name),
		PolicyDocument: model.Ptr(escapeDocument(u.Policies[i].Document)),
	}, nil
}

// ListUserPolicies lists the names of a user's inline policies.
func (s *Service) ListUserPolicies(
	ctx context.Context, in *iammodel.ListUserPoliciesInput,
) (*iammodel.ListUserPoliciesOutput, error) {
	u, err := s.callersUser(ctx, model.Val(in.UserName))
	if err != nil {
		return nil, err
	}
	p, err := paginate(inlineNames(u.Policies), sameText, in.Marker, in.MaxItems)
	return &iammodel.ListUserPoliciesOutput{IsTruncated: p.truncated, Marker: p.marker, PolicyNames: p.items}, err
}

// DeleteUserPolicy removes an inline policy of a user.
func (s *Service) DeleteUserPolicy(
	ctx context.Context, in *iammodel.DeleteUserPolicyInput,
) (*iammodel.DeleteUserPolicyOutput, error) {
	return &iammodel.DeleteUserPolicyOutput{}, s.updateUser(ctx, model.Val(in.UserName), func(rec *userRecord) error {
		i, err := findInline(rec.Policies, model.Val(in.PolicyName), "user")
		if err != nil {
			return err
		}
		rec.Policies = slices.Delete(rec.Policies, i, i+1)
		return nil
	})
}

// callersUser returns a user of the caller's account, or NoSuchEntity.
func (s *Service) callersUser(ctx context.Context, name string) (*user, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	u, err := s.user(ctx, id, name)
	return u, noUser(err, name)
}
