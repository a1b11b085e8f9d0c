package iam

import (
	"context"
	"errors"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// checkTrust parses a trust policy and looks up whom it names.
func (s *Service) checkTrust(ctx context.Context, text, owner string) error {
	doc, err := s.checkDocument(text, policy.Trust)
	if err != nil {
		return err
	}
	if err := checkPolicySize(text, owner, maxTrustPolicy); err != nil {
		return err
	}
	return s.checkTrustPrincipals(ctx, doc)
}

func checkMaxSession(seconds *int64) (int64, error) {
	if seconds == nil {
		return 3600, nil
	}
	if *seconds < 3600 || *seconds > 43_200 {
		return 0, invalid("maxSessionDuration", "It must be between 3600 and 43200 seconds")
	}
	return *seconds, nil
}

// CreateRole makes a role without any permission.
func (s *Service) CreateRole(
	ctx context.Context, in *iammodel.CreateRoleInput,
) (*iammodel.CreateRoleOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.RoleName)
	path, perr := checkPath("path", in.Path)
	tags, terr := readTags(in.Tags)
	life, lerr := checkMaxSession(in.MaxSessionDuration)
	if err := errors.Join(checkName("roleName", name, 64, "_"), perr, terr, lerr,
		checkBoundary(in.PermissionsBoundary)); err != nil {
		return nil, firstOf(err)
	}
	trust := model.Val(in.AssumeRolePolicyDocument)
	if err := s.checkTrust(ctx, trust, "role "+name); err != nil {
		return nil, err
	}
	if err := belowLimit(ctx, s.roles.Count, id, "RolesPerAccount", s.cfg.Quotas.Roles); err != nil {
		return nil, err
	}
	rec := roleRecord{
		AccountID: id, Name: name, Path: path, ID: newID("AROA"), Created: s.now(), Trust: trust, MaxSession: life,
		Description: model.Val(in.Description), Tags: tags,
	}
	if err := createHolder(ctx, s, s.roles, recordKey(id, name), &rec, &rec.holder, entity{kindRole, name},
		in.PermissionsBoundary); err != nil {
		return nil, taken(err, "Role with name %s already exists.", name)
	}
	return &iammodel.CreateRoleOutput{Role: rec.view()}, nil
}

// GetRole returns a role, its trust policy percent-encoded.
func (s *Service) GetRole(ctx context.Context, in *iammodel.GetRoleInput) (*iammodel.GetRoleOutput, error) {
	r, err := s.callersRole(ctx, model.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	v := r.view()
	v.RoleLastUsed, err = s.roleLastUsed(ctx, &r.roleRecord)
	return &iammodel.GetRoleOutput{Role: v}, err
}

func (s *Service) callersRole(ctx context.Context, name string) (*role, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.role(ctx, id, name)
	return r, noRole(err, name)
}

// ListRoles lists the account's roles by name.
func (s *Service) ListRoles(ctx context.Context, in *iammodel.ListRolesInput) (*iammodel.ListRolesOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	p, err := listPage(ctx, s.roles, id+"/", below(in.PathPrefix, func(r *roleRecord) string { return r.Path }),
		in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListRolesOutput{IsTruncated: p.truncated, Marker: p.marker,
		Roles: make([]iammodel.Role, 0, len(p.items))}
	for i := range p.items {
		out.Roles = append(out.Roles, *p.items[i].view())
	}
	return out, nil
}

// DeleteRole deletes a role that has no policy and is in no instance profile. Its sessions end with it.
func (s *Service) DeleteRole(
	ctx context.Context, in *iammodel.DeleteRoleInput,
) (*iammodel.DeleteRoleOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.RoleName)
	key := recordKey(id, name)
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.roles.In(tx).Get(key)
		switch {
		case err != nil || rec.Name != name:
			return orMissing(err)
		case len(rec.InstanceProfiles) > 0:
			return iammodel.ErrDeleteConflict("Cannot delete entity, must remove roles from instance profile first.")
		case rec.LinkedTo != "":
			return errLinked(&rec)
		}
		if err := rec.removable(); err != nil {
			return err
		}
		if err := s.moveBoundary(tx, id, entity{kindRole, name}, &rec.holder, ""); err != nil {
			return err
		}
		return s.roles.In(tx).Delete(key)
	}, func() { s.roles.cache.drop(key) })
	if err != nil {
		return nil, noRole(err, name)
	}
	return &iammodel.DeleteRoleOutput{}, nil
}

// updateRole changes a role's record.
func (s *Service) updateRole(ctx context.Context, accountID, name string, change func(*roleRecord) error) error {
	_, err := s.roles.Update(ctx, recordKey(accountID, name), func(rec *roleRecord) error {
		if rec.Name != name {
			return store.ErrNotFound
		}
		return change(rec)
	})
	return noRole(err, name)
}

func (s *Service) updateCallersRole(ctx context.Context, name string, change func(*roleRecord) error) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	return s.updateRole(ctx, id, name, func(rec *roleRecord) error {
		if rec.LinkedTo != "" {
			return errLinked(rec)
		}
		return change(rec)
	})
}

// UpdateRole changes a role's description and longest session. What is not given is reset, as on AWS.
func (s *Service) UpdateRole(
	ctx context.Context, in *iammodel.UpdateRoleInput,
) (*iammodel.UpdateRoleOutput, error) {
	life, err := checkMaxSession(in.MaxSessionDuration)
	if err != nil {
		return nil, err
	}
	return &iammodel.UpdateRoleOutput{}, s.updateCallersRole(ctx, model.Val(in.RoleName), func(rec *roleRecord) error {
		rec.MaxSession, rec.Description = life, model.Val(in.Description)
		return nil
	})
}

// UpdateRoleDescription changes a role's description alone.
func (s *Service) UpdateRoleDescription(
	ctx context.Context, in *iammodel.UpdateRoleDescriptionInput,
) (*iammodel.UpdateRoleDescriptionOutput, error) {
	var v *iammodel.Role
	err := s.updateCallersRole(ctx, model.Val(in.RoleName), func(rec *roleRecord) error {
		rec.Description = model.Val(in.Description)
		v = rec.view()
		return nil
	})
	return &iammodel.UpdateRoleDescriptionOutput{Role: v}, err
}

// UpdateAssumeRolePolicy replaces a role's trust policy.
func (s *Service) UpdateAssumeRolePolicy(
	ctx context.Context, in *iammodel.UpdateAssumeRolePolicyInput,
) (*iammodel.UpdateAssumeRolePolicyOutput, error) {
	name, trust := model.Val(in.RoleName), model.Val(in.PolicyDocument)
	if err := s.checkTrust(ctx, trust, "role "+name); err != nil {
		return nil, err
	}
	return &iammodel.UpdateAssumeRolePolicyOutput{}, s.updateCallersRole(ctx, name, func(rec *roleRecord) error {
		rec.Trust = trust
		return nil
	})
}

// PutRolePolicy adds or replaces an inline policy of a role. It holds for the role's sessions at once.
func (s *Service) PutRolePolicy(
	ctx context.Context, in *iammodel.PutRolePolicyInput,
) (*iammodel.PutRolePolicyOutput, error) {
	p := inlinePolicy{Name: model.Val(in.PolicyName), Document: model.Val(in.PolicyDocument)}
	if err := checkName("policyName", p.Name, 128, "_"); err != nil {
		return nil, err
	}
	if _, err := s.checkDocument(p.Document, policy.Identity); err != nil {
		return nil, err
	}
	name := model.Val(in.RoleName)
	return &iammodel.PutRolePolicyOutput{}, s.updateCallersRole(ctx, name, func(rec *roleRecord) (err error) {
		rec.Policies, err = putInline(rec.Policies, p, "role "+name, maxRolePolicy)
		return err
	})
}

// GetRolePolicy returns an inline policy of a role, its document percent-encoded.
func (s *Service) GetRolePolicy(
	ctx context.Context, in *iammodel.GetRolePolicyInput,
) (*iammodel.GetRolePolicyOutput, error) {
	r, err := s.callersRole(ctx, model.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	i, err := findInline(r.Policies, model.Val(in.PolicyName), "role")
	if err != nil {
		return nil, err
	}
	return &iammodel.GetRolePolicyOutput{
		RoleName: model.Ptr(r.Name), PolicyName: model.Ptr(r.Policies[i].Name),
		PolicyDocument: model.Ptr(escapeDocument(r.Policies[i].Document)),
	}, nil
}

// ListRolePolicies lists the names of a role's inline policies.
func (s *Service) ListRolePolicies(
	ctx context.Context, in *iammodel.ListRolePoliciesInput,
) (*iammodel.ListRolePoliciesOutput, error) {
	r, err := s.callersRole(ctx, model.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	p, err := paginate(inlineNames(r.Policies), sameText, in.Marker, in.MaxItems)
	return &iammodel.ListRolePoliciesOutput{IsTruncated: p.truncated, Marker: p.marker, PolicyNames: p.items}, err
}

// DeleteRolePolicy removes an inline policy of a role.
func (s *Service) DeleteRolePolicy(
	ctx context.Context, in *iammodel.DeleteRolePolicyInput,
) (*iammodel.DeleteRolePolicyOutput, error) {
	return &iammodel.DeleteRolePolicyOutput{}, s.updateCallersRole(ctx, model.Val(in.RoleName),
		func(rec *roleRecord) error { return removeInline(rec, model.Val(in.PolicyName)) })
}

func removeInline(rec *roleRecord, name string) error {
	i, err := findInline(rec.Policies, name, "role")
	if err != nil {
		return err
	}
	rec.Policies = slices.Delete(rec.Policies, i, i+1)
	return nil
}
