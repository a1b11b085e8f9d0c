package iam

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// maxGroups is how many groups a user can be in.
const maxGroups = 10

func noGroup(err error, name string) error {
	return missing(err, "The group with name %s cannot be found.", name)
}

// group returns a group by the exact name, or store.ErrNotFound.
func (s *Service) group(ctx context.Context, accountID, name string) (*group, error) {
	g, err := s.groups.cached(ctx, recordKey(accountID, name))
	if err == nil && g.Name != name {
		return nil, store.ErrNotFound
	}
	return g, err
}

// groupByID returns a group by its id, or store.ErrNotFound.
func (s *Service) groupByID(ctx context.Context, accountID, id string) (*group, error) {
	ref, err := s.groupIDs.cached(ctx, accountID+"/"+id)
	if err != nil {
		return nil, err
	}
	g, err := s.group(ctx, accountID, ref.Name)
	if err == nil && g.ID != id {
		return nil, store.ErrNotFound
	}
	return g, err
}

func (s *Service) callersGroup(ctx context.Context, name string) (*group, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	g, err := s.group(ctx, id, name)
	return g, noGroup(err, name)
}

// CreateGroup makes a group without members or permissions.
func (s *Service) CreateGroup(
	ctx context.Context, in *iammodel.CreateGroupInput,
) (*iammodel.CreateGroupOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.GroupName)
	path, perr := checkPath("path", in.Path)
	if err := errors.Join(checkName("groupName", name, 128, "_"), perr); err != nil {
		return nil, firstOf(err)
	}
	if err := belowLimit(ctx, s.groups.Count, id, "GroupsPerAccount", s.cfg.Quotas.Groups); err != nil {
		return nil, err
	}
	rec := groupRecord{AccountID: id, Name: name, Path: path, ID: newID("AGPA"), Created: s.now()}
	err = s.txn(ctx, func(tx *store.Tx) error {
		if err := s.groupIDs.In(tx).Put(id+"/"+rec.ID, groupIDRecord{Name: name}); err != nil {
			return err
		}
		return s.groups.In(tx).Create(recordKey(id, name), rec)
	}, s.dropGroup(id, name, rec.ID))
	if err != nil {
		return nil, taken(err, "Group with name %s already exists.", name)
	}
	return &iammodel.CreateGroupOutput{Group: rec.view()}, nil
}

func (s *Service) dropGroup(accountID, name, id string) func() {
	return func() {
		s.groups.cache.drop(recordKey(accountID, name))
		s.groupIDs.cache.drop(accountID + "/" + id)
	}
}

// GetGroup returns a group with its members by name.
func (s *Service) GetGroup(ctx context.Context, in *iammodel.GetGroupInput) (*iammodel.GetGroupOutput, error) {
	g, err := s.callersGroup(ctx, model.Val(in.GroupName))
	if err != nil {
		return nil, err
	}
	p, err := listPage(ctx, s.members, g.AccountID+"/"+g.ID+"/", nil, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.GetGroupOutput{
		Group: g.view(), IsTruncated: p.truncated, Marker: p.marker, Users: []iammodel.User{},
	}
	for _, m := range p.items {
		u, err := s.user(ctx, g.AccountID, m.UserName)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out.Users = append(out.Users, *u.view())
	}
	return out, nil
}

// ListGroups lists the account's groups by name.
func (s *Service) ListGroups(ctx context.Context, in *iammodel.ListGroupsInput) (*iammodel.ListGroupsOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	p, err := listPage(ctx, s.groups, id+"/", below(in.PathPrefix, func(r *groupRecord) string { return r.Path }),
		in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListGroupsOutput{IsTruncated: p.truncated, Marker: p.marker,
		Groups: make([]iammodel.Group, 0, len(p.items))}
	for i := range p.items {
		out.Groups = append(out.Groups, *p.items[i].view())
	}
	return out, nil
}

// ListGroupsForUser lists the groups that a user is in, by name.
func (s *Service) ListGroupsForUser(
	ctx context.Context, in *iammodel.ListGroupsForUserInput,
) (*iammodel.ListGroupsForUserOutput, error) {
	u, err := s.callersUser(ctx, model.Val(in.UserName))
	if err != nil {
		return nil, err
	}
	groups, err := s.groupsOf(ctx, &u.userRecord)
	if err != nil {
		return nil, err
	}
	p, err := paginate(groups, func(g *group) string { return strings.ToLower(g.Name) }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListGroupsForUserOutput{IsTruncated: p.truncated, Marker: p.marker, Groups: []iammodel.Group{}}
	for _, g := range p.items {
		out.Groups = append(out.Groups, *g.view())
	}
	return out, nil
}

// groupsOf returns the groups that a user is in, by name. One that is gone has lost its members before.
func (s *Service) groupsOf(ctx context.Context, u *userRecord) ([]*group, error) {
	var out []*group
	for _, id := range u.Groups {
		g, err := s.groupByID(ctx, u.AccountID, id)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return sortedBy(out, func(g *group) string { return strings.ToLower(g.Name) }), nil
}

// UpdateGroup renames a group or moves it to another path. Its members and policies stay.
func (s *Service) UpdateGroup(
	ctx context.Context, in *iammodel.UpdateGroupInput,
) (*iammodel.UpdateGroupOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.GroupName)
	newName, newPath := name, ""
	if in.NewGroupName != nil {
		newName = *in.NewGroupName
		err = checkName("newGroupName", newName, 128, "_")
	}
	if in.NewPath != nil && err == nil {
		newPath, err = checkPath("newPath", in.NewPath)
	}
	if err != nil {
		return nil, err
	}
	from, to := recordKey(id, name), recordKey(id, newName)
	groupID := ""
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.groups.In(tx).Get(from)
		if err != nil || rec.Name != name {
			return orMissing(err)
		}
		groupID, rec.Name = rec.ID, newName
		if newPath != "" {
			rec.Path = newPath
		}
		if err := s.groupIDs.In(tx).Put(id+"/"+rec.ID, groupIDRecord{Name: newName}); err != nil {
			return err
		}
		if from == to {
			return s.groups.In(tx).Put(to, rec)
		}
		return errors.Join(s.groups.In(tx).Create(to, rec), s.groups.In(tx).Delete(from),
			s.moveUses(tx, id, &rec.holder, entity{kindGroup, name}, entity{kindGroup, newName}))
	}, func() { s.dropGroup(id, name, groupID)() }, func() { s.dropGroup(id, newName, groupID)() })
	if err != nil {
		return nil, taken(noGroup(err, name), "Group with name %s already exists.", newName)
	}
	return &iammodel.UpdateGroupOutput{}, nil
}

// DeleteGroup deletes a group that has neither members nor policies.
func (s *Service) DeleteGroup(
	ctx context.Context, in *iammodel.DeleteGroupInput,
) (*iammodel.DeleteGroupOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name, groupID := model.Val(in.GroupName), ""
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.groups.In(tx).Get(recordKey(id, name))
		switch {
		case err != nil || rec.Name != name:
			return orMissing(err)
		case rec.Members > 0:
			return iammodel.ErrDeleteConflict("Cannot delete entity, must remove users from group first.")
		}
		if err := rec.removable(); err != nil {
			return err
		}
		groupID = rec.ID
		return errors.Join(s.groups.In(tx).Delete(recordKey(id, name)), s.groupIDs.In(tx).Delete(id+"/"+rec.ID))
	}, func() { s.dropGroup(id, name, groupID)() })
	return &iammodel.DeleteGroupOutput{}, noGroup(err, name)
}

// removable says why an entity cannot be deleted for the policies that it has.
func (h *holder) removable() error {
	switch {
	case len(h.Attached) > 0:
		return iammodel.ErrDeleteConflict("Cannot delete entity, must detach all policies first.")
	case len(h.Policies) > 0:
		return iammodel.ErrDeleteConflict("Cannot delete entity, must delete policies first.")
	}
	return nil
}

func (r *groupRecord) memberKey(userName string) string {
	return r.AccountID + "/" + r.ID + "/" + strings.ToLower(userName)
}

// AddUserToGroup makes a user a member of a group; it is no error when it is one.
func (s *Service) AddUserToGroup(
	ctx context.Context, in *iammodel.AddUserToGroupInput,
) (*iammodel.AddUserToGroupOutput, error) {
	return &iammodel.AddUserToGroupOutput{}, s.changeMembership(ctx, model.Val(in.GroupName), model.Val(in.UserName),
		func(tx *store.Tx, g *groupRecord, u *userRecord) error {
			if slices.Contains(u.Groups, g.ID) {
				return nil
			}
			if len(u.Groups) >= maxGroups {
				return errLimit("GroupsPerUser", maxGroups)
			}
			u.Groups = append(u.Groups, g.ID)
			g.Members++
			return s.members.In(tx).Put(g.memberKey(u.Name), memberRecord{UserName: u.Name})
		})
}

// RemoveUserFromGroup ends a membership. What the group allowed ends with it at once.
func (s *Service) RemoveUserFromGroup(
	ctx context.Context, in *iammodel.RemoveUserFromGroupInput,
) (*iammodel.RemoveUserFromGroupOutput, error) {
	return &iammodel.RemoveUserFromGroupOutput{}, s.changeMembership(ctx, model.Val(in.GroupName),
		model.Val(in.UserName), func(tx *store.Tx, g *groupRecord, u *userRecord) error {
			i := slices.Index(u.Groups, g.ID)
			if i < 0 {
				return iammodel.ErrNoSuchEntity("User %s is not in group %s.", u.Name, g.Name)
			}
			u.Groups = slices.Delete(u.Groups, i, i+1)
			g.Members--
			return s.members.In(tx).Delete(g.memberKey(u.Name))
		})
}

// changeMembership changes a group and a user together.
func (s *Service) changeMembership(ctx context.Context, groupName, userName string,
	change func(*store.Tx, *groupRecord, *userRecord) error,
) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	groupKey, userKey := recordKey(id, groupName), recordKey(id, userName)
	return s.txn(ctx, func(tx *store.Tx) error {
		g, err := s.groups.In(tx).Get(groupKey)
		if err != nil || g.Name != groupName {
			return noGroup(orMissing(err), groupName)
		}
		u, err := s.users.In(tx).Get(userKey)
		if err != nil || u.Name != userName {
			return noUser(orMissing(err), userName)
		}
		if err := change(tx, &g, &u); err != nil {
			return err
		}
		return errors.Join(s.groups.In(tx).Put(groupKey, g), s.users.In(tx).Put(userKey, u))
	}, func() { s.groups.cache.drop(groupKey) }, func() { s.users.cache.drop(userKey) })
}

// updateGroup changes a group's record.
func (s *Service) updateGroup(ctx context.Context, name string, change func(*groupRecord) error) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	_, err = s.groups.Update(ctx, recordKey(id, name), func(rec *groupRecord) error {
		if rec.Name != name {
			return store.ErrNotFound
		}
		return change(rec)
	})
	return noGroup(err, name)
}

// PutGroupPolicy adds or replaces an inline policy of a group.
func (s *Service) PutGroupPolicy(
	ctx context.Context, in *iammodel.PutGroupPolicyInput,
) (*iammodel.PutGroupPolicyOutput, error) {
	p := inlinePolicy{Name: model.Val(in.PolicyName), Document: model.Val(in.PolicyDocument)}
	if err := checkName("policyName", p.Name, 128, "_"); err != nil {
		return nil, err
	}
	if _, err := s.checkDocument(p.Document, policy.Identity); err != nil {
		return nil, err
	}
	name := model.Val(in.GroupName)
	return &iammodel.PutGroupPolicyOutput{}, s.updateGroup(ctx, name, func(rec *groupRecord) (err error) {
		rec.Policies, err = putInline(rec.Policies, p, "group "+name, maxGroupPolicy)
		return err
	})
}

// GetGroupPolicy returns an inline policy of a group, its document percent-encoded.
func (s *Service) GetGroupPolicy(
	ctx context.Context, in *iammodel.GetGroupPolicyInput,
) (*iammodel.GetGroupPolicyOutput, error) {
	g, err := s.callersGroup(ctx, model.Val(in.GroupName))
	if err != nil {
		return nil, err
	}
	i, err := findInline(g.Policies, model.Val(in.PolicyName), kindGroup)
	if err != nil {
		return nil, err
	}
	return &iammodel.GetGroupPolicyOutput{
		GroupName: model.Ptr(g.Name), PolicyName: model.Ptr(g.Policies[i].Name),
		PolicyDocument: model.Ptr(escapeDocument(g.Policies[i].Document)),
	}, nil
}

// ListGroupPolicies lists the names of a group's inline policies.
func (s *Service) ListGroupPolicies(
	ctx context.Context, in *iammodel.ListGroupPoliciesInput,
) (*iammodel.ListGroupPoliciesOutput, error) {
	g, err := s.callersGroup(ctx, model.Val(in.GroupName))
	if err != nil {
		return nil, err
	}
	p, err := paginate(inlineNames(g.Policies), sameText, in.Marker, in.MaxItems)
	return &iammodel.ListGroupPoliciesOutput{IsTruncated: p.truncated, Marker: p.marker, PolicyNames: p.items}, err
}

// DeleteGroupPolicy removes an inline policy of a group.
func (s *Service) DeleteGroupPolicy(
	ctx context.Context, in *iammodel.DeleteGroupPolicyInput,
) (*iammodel.DeleteGroupPolicyOutput, error) {
	return &iammodel.DeleteGroupPolicyOutput{}, s.updateGroup(ctx, model.Val(in.GroupName),
		func(rec *groupRecord) error {
			i, err := findInline(rec.Policies, model.Val(in.PolicyName), kindGroup)
			if err != nil {
				return err
			}
			rec.Policies = slices.Delete(rec.Policies, i, i+1)
			return nil
		})
}
