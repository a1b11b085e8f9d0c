package iam

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// InstanceProfile is an instance profile as ec2 needs it. RoleName and RoleARN are empty when it holds no role.
type InstanceProfile struct {
	ARN, ID, Name     string
	RoleName, RoleARN string
}

func noProfile(err error, name string) error {
	return missing(err, "Instance Profile %s cannot be found.", name)
}

// profile returns an instance profile by the exact name with its role, nil when it has none.
func (s *Service) profile(ctx context.Context, accountID, name string) (*profileRecord, *roleRecord, error) {
	p, err := s.profiles.cached(ctx, recordKey(accountID, name))
	if err == nil && p.Name != name {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, nil, noProfile(err, name)
	}
	if p.RoleName == "" {
		return p, nil, nil
	}
	r, err := s.role(ctx, accountID, p.RoleName)
	if err != nil {
		return nil, nil, err
	}
	return p, &r.roleRecord, nil
}

// InstanceProfile finds an instance profile of the account by name or ARN; the error is NoSuchEntity when there is
// none, or when the ARN is another account's.
func (s *Service) InstanceProfile(ctx context.Context, accountID, nameOrARN string) (InstanceProfile, error) {
	name := nameOrARN
	if strings.HasPrefix(nameOrARN, "arn:") {
		owner, kind, _, n, ok := splitARN(nameOrARN)
		if !ok || owner != accountID || kind != kindProfile {
			return InstanceProfile{}, noProfile(store.ErrNotFound, nameOrARN)
		}
		name = n
	}
	p, r, err := s.profile(ctx, accountID, name)
	if err != nil {
		return InstanceProfile{}, err
	}
	if name != nameOrARN && p.arn() != nameOrARN {
		return InstanceProfile{}, noProfile(store.ErrNotFound, nameOrARN)
	}
	out := InstanceProfile{ARN: p.arn(), ID: p.ID, Name: p.Name}
	if r != nil {
		out.RoleName, out.RoleARN = r.Name, r.arn()
	}
	return out, nil
}

// CreateInstanceProfile makes an instance profile without a role.
func (s *Service) CreateInstanceProfile(
	ctx context.Context, in *iammodel.CreateInstanceProfileInput,
) (*iammodel.CreateInstanceProfileOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.InstanceProfileName)
	path, perr := checkPath("path", in.Path)
	tags, terr := readTags(in.Tags)
	if err := errors.Join(checkName("instanceProfileName", name, 128, "_"), perr, terr); err != nil {
		return nil, firstOf(err)
	}
	if err := belowLimit(ctx, s.profiles.Count, id, "InstanceProfilesPerAccount",
		s.cfg.Quotas.InstanceProfiles); err != nil {
		return nil, err
	}
	rec := profileRecord{AccountID: id, Name: name, Path: path, ID: newID("AIPA"), Created: s.now(), Tags: tags}
	if err := s.profiles.Create(ctx, recordKey(id, name), rec); err != nil {
		return nil, taken(err, "Instance Profile %s already exists.", name)
	}
	return &iammodel.CreateInstanceProfileOutput{InstanceProfile: rec.view(nil)}, nil
}

// GetInstanceProfile returns an instance profile with its role.
func (s *Service) GetInstanceProfile(
	ctx context.Context, in *iammodel.GetInstanceProfileInput,
) (*iammodel.GetInstanceProfileOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	p, r, err := s.profile(ctx, id, model.Val(in.InstanceProfileName))
	if err != nil {
		return nil, err
	}
	return &iammodel.GetInstanceProfileOutput{InstanceProfile: p.view(r)}, nil
}

// ListInstanceProfiles lists the account's instance profiles by name.
func (s *Service) ListInstanceProfiles(
	ctx context.Context, in *iammodel.ListInstanceProfilesInput,
) (*iammodel.ListInstanceProfilesOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	p, err := listPage(ctx, s.profiles, id+"/",
		below(in.PathPrefix, func(r *profileRecord) string { return r.Path }), in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	views, err := s.profileViews(ctx, p.items)
	return &iammodel.ListInstanceProfilesOutput{
		IsTruncated: p.truncated, Marker: p.marker, InstanceProfiles: views,
	}, err
}

func (s *Service) profileViews(ctx context.Context, recs []*profileRecord) ([]iammodel.InstanceProfile, error) {
	views := make([]iammodel.InstanceProfile, 0, len(recs))
	for i := range recs {
		var r *roleRecord
		if recs[i].RoleName != "" {
			have, err := s.role(ctx, recs[i].AccountID, recs[i].RoleName)
			if err != nil && !isMissing(err) {
				return nil, err
			}
			if err == nil {
				r = &have.roleRecord
			}
		}
		views = append(views, *recs[i].view(r))
	}
	return views, nil
}

// ListInstanceProfilesForRole lists the instance profiles that hold a role.
func (s *Service) ListInstanceProfilesForRole(
	ctx context.Context, in *iammodel.ListInstanceProfilesForRoleInput,
) (*iammodel.ListInstanceProfilesForRoleOutput, error) {
	r, err := s.callersRole(ctx, model.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	p, err := paginate(r.InstanceProfiles, sameText, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	var recs []*profileRecord
	for _, name := range p.items {
		rec, _, err := s.profile(ctx, r.AccountID, name)
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	views, err := s.profileViews(ctx, recs)
	return &iammodel.ListInstanceProfilesForRoleOutput{
		IsTruncated: p.truncated, Marker: p.marker, InstanceProfiles: views,
	}, err
}

// DeleteInstanceProfile deletes an instance profile that holds no role.
func (s *Service) DeleteInstanceProfile(
	ctx context.Context, in *iammodel.DeleteInstanceProfileInput,
) (*iammodel.DeleteInstanceProfileOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.InstanceProfileName)
	key := recordKey(id, name)
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.profiles.In(tx).Get(key)
		if err != nil || rec.Name != name {
			return orMissing(err)
		}
		if rec.RoleName != "" {
			return iammodel.ErrDeleteConflict("Cannot delete entity, must remove roles from instance profile first.")
		}
		return s.profiles.In(tx).Delete(key)
	}, func() { s.profiles.cache.drop(key) })
	if err != nil {
		return nil, noProfile(err, name)
	}
	return &iammodel.DeleteInstanceProfileOutput{}, nil
}

// AddRoleToInstanceProfile puts a role into an instance profile, which holds at most one. The caller also needs
// iam:PassRole on the role.
func (s *Service) AddRoleToInstanceProfile(
	ctx context.Context, in *iammodel.AddRoleToInstanceProfileInput,
) (*iammodel.AddRoleToInstanceProfileOutput, error) {
	r, err := s.callersRole(ctx, model.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	if err := s.AuthorizePassRole(ctx, authn.CallerFrom(ctx), r.fullARN, ServiceEC2, ""); err != nil {
		return nil, err
	}
	err = s.changeProfile(ctx, r.AccountID, model.Val(in.InstanceProfileName), r.Name,
		func(p *profileRecord, r *roleRecord) error {
			if p.RoleName != "" {
				return errLimit("InstanceSessionsPerInstanceProfile", 1) // AWS's name
			}
			p.RoleName = r.Name
			r.InstanceProfiles = append(r.InstanceProfiles, p.Name)
			slices.Sort(r.InstanceProfiles)
			return nil
		})
	return &iammodel.AddRoleToInstanceProfileOutput{}, err
}

// RemoveRoleFromInstanceProfile takes a role out. Instances that run with the profile get no new credentials.
func (s *Service) RemoveRoleFromInstanceProfile(
	ctx context.Context, in *iammodel.RemoveRoleFromInstanceProfileInput,
) (*iammodel.RemoveRoleFromInstanceProfileOutput, error) {
	r, err := s.callersRole(ctx, model.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	err = s.changeProfile(ctx, r.AccountID, model.Val(in.InstanceProfileName), r.Name,
		func(p *profileRecord, r *roleRecord) error {
			if p.RoleName != r.Name {
				return iammodel.ErrNoSuchEntity("Role %s is not in Instance Profile %s.", r.Name, p.Name)
			}
			p.RoleName = ""
			r.InstanceProfiles = slices.DeleteFunc(r.InstanceProfiles, func(n string) bool { return n == p.Name })
			return nil
		})
	return &iammodel.RemoveRoleFromInstanceProfileOutput{}, err
}

// changeProfile changes a profile and a role together.
func (s *Service) changeProfile(ctx context.Context, accountID, profileName, roleName string,
	change func(*profileRecord, *roleRecord) error,
) error {
	profileKey, roleKey := recordKey(accountID, profileName), recordKey(accountID, roleName)
	return s.txn(ctx, func(tx *store.Tx) error {
		p, err := s.profiles.In(tx).Get(profileKey)
		if err != nil || p.Name != profileName {
			return noProfile(orMissing(err), profileName)
		}
		r, err := s.roles.In(tx).Get(roleKey)
		if err != nil || r.Name != roleName {
			return noRole(orMissing(err), roleName)
		}
		if err := change(&p, &r); err != nil {
			return err
		}
		if err := s.profiles.In(tx).Put(profileKey, p); err != nil {
			return err
		}
		return s.roles.In(tx).Put(roleKey, r)
	}, func() { s.profiles.cache.drop(profileKey) }, func() { s.roles.cache.drop(roleKey) })
}
