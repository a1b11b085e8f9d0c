package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// maxAttached is how many managed policies a user, group or role can have.
const maxAttached = 10

// changeHolder changes what a user, group or role of the caller's account may, in a transaction. arn is the entity's.
func (s *Service) changeHolder(ctx context.Context, kind, name string,
	change func(tx *store.Tx, accountID string, h *holder) error,
) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	key := recordKey(id, name)
	switch kind {
	case kindUser:
		return noUser(changeRecord(ctx, s, s.users, key, func(tx *store.Tx, r *userRecord) error {
			if r.Name != name {
				return store.ErrNotFound
			}
			return change(tx, id, &r.holder)
		}), name)
	case kindGroup:
		return noGroup(changeRecord(ctx, s, s.groups, key, func(tx *store.Tx, r *groupRecord) error {
			if r.Name != name {
				return store.ErrNotFound
			}
			return change(tx, id, &r.holder)
		}), name)
	}
	return noRole(changeRecord(ctx, s, s.roles, key, func(tx *store.Tx, r *roleRecord) error {
		switch {
		case r.Name != name:
			return store.ErrNotFound
		case r.LinkedTo != "":
			return errLinked(r)
		}
		return change(tx, id, &r.holder)
	}), name)
}

// changeRecord reads a record, has it changed and writes it, with whatever else change does, in one transaction.
func changeRecord[T, V any](ctx context.Context, s *Service, t *table[T, V], key string,
	change func(*store.Tx, *T) error,
) error {
	return s.txn(ctx, func(tx *store.Tx) error {
		rec, err := t.In(tx).Get(key)
		if err != nil {
			return err
		}
		if err := change(tx, &rec); err != nil {
			return err
		}
		return t.In(tx).Put(key, rec)
	}, func() { t.cache.drop(key) })
}

// checkBoundary tests the ARN of a new user's or role's permissions boundary, if it is to have one.
func checkBoundary(arn *string) error {
	if arn == nil {
		return nil
	}
	return checkPolicyARN(*arn)
}

// createHolder writes a new user's or role's record with its permissions boundary, if any. h is rec's.
func createHolder[T, V any](ctx context.Context, s *Service, t *table[T, V], key string, rec *T, h *holder,
	who entity, boundary *string,
) error {
	if boundary == nil {
		return t.Create(ctx, key, *rec)
	}
	h.Boundary = *boundary
	accountID, _, _ := strings.Cut(key, "/")
	return s.txn(ctx, func(tx *store.Tx) error {
		if err := t.In(tx).Create(key, *rec); err != nil {
			return err
		}
		return s.countUse(tx, accountID, h.Boundary, who, 0, 1)
	}, func() { t.cache.drop(key) })
}

// countUse changes the count of a policy's uses by one that has it. Counting up needs the policy to be there until the
// commit.
func (s *Service) countUse(tx *store.Tx, accountID, arn string, who entity, attached, boundary int) error {
	if attached+boundary > 0 {
		if err := s.holdPolicy(tx, accountID, arn); err != nil {
			return err
		}
	}
	key := accountID + "/" + arn
	uses, err := s.policyUses.In(tx).Get(key)
	if err := ignoreMissing(err); err != nil {
		return err
	}
	indexed, ierr := s.indexUse(tx, accountID, arn, who, attached, boundary)
	if ierr != nil {
		return ierr
	}
	uses.Indexed += indexed
	uses.Attached, uses.Boundary = max(uses.Attached+attached, 0), max(uses.Boundary+boundary, 0)
	if uses == (policyUses{}) {
		if err != nil {
			return nil
		}
		return s.policyUses.In(tx).Delete(key)
	}
	return s.policyUses.In(tx).Put(key, uses)
}

// holdPolicy is NoSuchEntity unless the account can use the policy when the transaction commits.
func (s *Service) holdPolicy(tx *store.Tx, accountID, arn string) error {
	if _, ok := awsPolicy(arn); ok {
		return nil
	}
	owner, kind, _, name, ok := splitARN(arn)
	if ok && kind == kindPolicy && owner == accountID {
		rec, err := s.managed.In(tx).Get(recordKey(owner, name))
		if err == nil && rec.arn() == arn {
			return nil
		}
		if err := ignoreMissing(err); err != nil {
			return err
		}
	}
	return iammodel.ErrNoSuchEntity("Policy %s does not exist or is not attachable.", arn)
}

// attach gives a managed policy to a user, group or role; it is no error when it has it.
func (s *Service) attach(ctx context.Context, kind string, name, policyARN *string) error {
	arn := model.Val(policyARN)
	if err := checkPolicyARN(arn); err != nil {
		return err
	}
	return s.changeHolder(ctx, kind, model.Val(name), func(tx *store.Tx, accountID string, h *holder) error {
		at, have := slices.BinarySearch(h.Attached, arn)
		if have {
			return nil
		}
		if len(h.Attached) >= maxAttached {
			return errLimit("PoliciesPer"+strings.ToUpper(kind[:1])+kind[1:], maxAttached)
		}
		h.Attached = slices.Insert(h.Attached, at, arn)
		return s.countUse(tx, accountID, arn, entity{kind, model.Val(name)}, 1, 0)
	})
}

// detach takes a managed policy away. What it allowed ends with it at once.
func (s *Service) detach(ctx context.Context, kind string, name, policyARN *string) error {
	arn := model.Val(policyARN)
	if err := checkPolicyARN(arn); err != nil {
		return err
	}
	return s.changeHolder(ctx, kind, model.Val(name), func(tx *store.Tx, accountID string, h *holder) error {
		at, have := slices.BinarySearch(h.Attached, arn)
		if !have {
			return iammodel.ErrNoSuchEntity("Policy %s was not found.", arn)
		}
		h.Attached = slices.Delete(h.Attached, at, at+1)
		return s.countUse(tx, accountID, arn, entity{kind, model.Val(name)}, -1, 0)
	})
}

// AttachUserPolicy gives a managed policy to a user.
func (s *Service) AttachUserPolicy(
	ctx context.Context, in *iammodel.AttachUserPolicyInput,
) (*iammodel.AttachUserPolicyOutput, error) {
	return nil, s.attach(ctx, kindUser, in.UserName, in.PolicyArn)
}

// AttachGroupPolicy gives a managed policy to a group's members.
func (s *Service) AttachGroupPolicy(
	ctx context.Context, in *iammodel.AttachGroupPolicyInput,
) (*iammodel.AttachGroupPolicyOutput, error) {
	return nil, s.attach(ctx, kindGroup, in.GroupName, in.PolicyArn)
}

// AttachRolePolicy gives a managed policy to a role, and so to its sessions at once.
func (s *Service) AttachRolePolicy(
	ctx context.Context, in *iammodel.AttachRolePolicyInput,
) (*iammodel.AttachRolePolicyOutput, error) {
	return nil, s.attach(ctx, kindRole, in.RoleName, in.PolicyArn)
}

// DetachUserPolicy takes a managed policy from a user.
func (s *Service) DetachUserPolicy(
	ctx context.Context, in *iammodel.DetachUserPolicyInput,
) (*iammodel.DetachUserPolicyOutput, error) {
	return nil, s.detach(ctx, kindUser, in.UserName, in.PolicyArn)
}

// DetachGroupPolicy takes a managed policy from a group.
func (s *Service) DetachGroupPolicy(
	ctx context.Context, in *iammodel.DetachGroupPolicyInput,
) (*iammodel.DetachGroupPolicyOutput, error) {
	return nil, s.detach(ctx, kindGroup, in.GroupName, in.PolicyArn)
}

// DetachRolePolicy takes a managed policy from a role.
func (s *Service) DetachRolePolicy(
	ctx context.Context, in *iammodel.DetachRolePolicyInput,
) (*iammodel.DetachRolePolicyOutput, error) {
	return nil, s.detach(ctx, kindRole, in.RoleName, in.PolicyArn)
}

// attachedPage lists attached policies by name.
func attachedPage(arns []string, prefix, marker *string, maxItems *int64) (page[iammodel.AttachedPolicy], error) {
	all := []iammodel.AttachedPolicy{}
	for _, arn := range arns {
		_, rest, _ := strings.Cut(arn, ":"+kindPolicy)
		last := strings.LastIndexByte(rest, '/')
		if prefix != nil && !strings.HasPrefix(rest[:last+1], *prefix) {
			continue
		}
		all = append(all, iammodel.AttachedPolicy{PolicyArn: model.Ptr(arn), PolicyName: model.Ptr(rest[last+1:])})
	}
	order := func(p iammodel.AttachedPolicy) string { return strings.ToLower(*p.PolicyName) + " " + *p.PolicyArn }
	return paginate(sortedBy(all, order), order, marker, maxItems)
}

// ListAttachedUserPolicies lists a user's managed policies, not those of its groups.
func (s *Service) ListAttachedUserPolicies(
	ctx context.Context, in *iammodel.ListAttachedUserPoliciesInput,
) (*iammodel.ListAttachedUserPoliciesOutput, error) {
	u, err := s.callersUser(ctx, model.Val(in.UserName))
	if err != nil {
		return nil, err
	}
	p, err := attachedPage(u.Attached, in.PathPrefix, in.Marker, in.MaxItems)
	return &iammodel.ListAttachedUserPoliciesOutput{
		IsTruncated: p.truncated, Marker: p.marker, AttachedPolicies: p.items,
	}, err
}

// ListAttachedGroupPolicies lists a group's managed policies.
func (s *Service) ListAttachedGroupPolicies(
	ctx context.Context, in *iammodel.ListAttachedGroupPoliciesInput,
) (*iammodel.ListAttachedGroupPoliciesOutput, error) {
	g, err := s.callersGroup(ctx, model.Val(in.GroupName))
	if err != nil {
		return nil, err
	}
	p, err := attachedPage(g.Attached, in.PathPrefix, in.Marker, in.MaxItems)
	return &iammodel.ListAttachedGroupPoliciesOutput{
		IsTruncated: p.truncated, Marker: p.marker, AttachedPolicies: p.items,
	}, err
}

// ListAttachedRolePolicies lists a role's managed policies.
func (s *Service) ListAttachedRolePolicies(
	ctx context.Context, in *iammodel.ListAttachedRolePoliciesInput,
) (*iammodel.ListAttachedRolePoliciesOutput, error) {
	r, err := s.callersRole(ctx, model.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	p, err := attachedPage(r.Attached, in.PathPrefix, in.Marker, in.MaxItems)
	return &iammodel.ListAttachedRolePoliciesOutput{
		IsTruncated: p.truncated, Marker: p.marker, AttachedPolicies: p.items,
	}, err
}

// ListEntitiesForPolicy lists who has a managed policy, as permissions or as a boundary: groups, then roles, then
// users.
func (s *Service) ListEntitiesForPolicy(
	ctx context.Context, in *iammodel.ListEntitiesForPolicyInput,
) (*iammodel.ListEntitiesForPolicyOutput, error) {
	accountID, pol, err := s.callersPolicy(ctx, model.Val(in.PolicyArn))
	if err != nil {
		return nil, err
	}
	has := func(h *holder, path string) bool {
		usage := model.Val(in.PolicyUsageFilter)
		if in.PathPrefix != nil && !strings.HasPrefix(path, *in.PathPrefix) {
			return false
		}
		_, attached := slices.BinarySearch(h.Attached, pol.fullARN)
		return attached && usage != iammodel.PolicyUsageTypePermissionsBoundary ||
			h.Boundary == pol.fullARN && usage != iammodel.PolicyUsageTypePermissionsPolicy
	}
	filtered := in.PolicyUsageFilter != nil || len(model.Val(in.PathPrefix)) > 1
	parts, err := s.holders(ctx, accountID, pol.fullARN, model.Val(in.EntityFilter), filtered, has)
	if err != nil {
		return nil, err
	}
	p, err := chainPage(ctx, parts, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListEntitiesForPolicyOutput{
		IsTruncated: p.truncated, Marker: p.marker, PolicyGroups: []iammodel.PolicyGroup{},
		PolicyRoles: []iammodel.PolicyRole{}, PolicyUsers: []iammodel.PolicyUser{},
	}
	for _, h := range p.items {
		name, id := model.Ptr(h.name), model.Ptr(h.id)
		switch h.kind {
		case kindGroup:
			out.PolicyGroups = append(out.PolicyGroups, iammodel.PolicyGroup{GroupName: name, GroupId: id})
		case kindRole:
			out.PolicyRoles = append(out.PolicyRoles, iammodel.PolicyRole{RoleName: name, RoleId: id})
		case kindUser:
			out.PolicyUsers = append(out.PolicyUsers, iammodel.PolicyUser{UserName: name, UserId: id})
		}
	}
	return out, nil
}
