package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// allDetails is the answer that details are put into.
type allDetails = iammodel.GetAccountAuthorizationDetailsOutput

// detail puts one entity into GetAccountAuthorizationDetails' answer.
type detail func(*allDetails) error

// GetAccountAuthorizationDetails tells of all users, groups, roles and policies of the account, in this order and by
// name.
func (s *Service) GetAccountAuthorizationDetails(
	ctx context.Context, in *iammodel.GetAccountAuthorizationDetailsInput,
) (*iammodel.GetAccountAuthorizationDetailsOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	prefix := id + "/"
	kinds := []string{iammodel.EntityTypeUser, iammodel.EntityTypeGroup, iammodel.EntityTypeRole,
		iammodel.EntityTypeLocalManagedPolicy, iammodel.EntityTypeAWSManagedPolicy}
	all := []part[detail]{
		tablePart("1", s.users, prefix, nil, s.userDetail(ctx)), tablePart("2", s.groups, prefix, nil, groupDetail),
		tablePart("3", s.roles, prefix, nil, s.roleDetail(ctx)),
		tablePart("4", s.managed, prefix, nil, s.policyDetail(ctx, id)), s.awsDetails(ctx, id),
	}
	var parts []part[detail]
	for i, kind := range kinds {
		if len(in.Filter) == 0 || slices.Contains(in.Filter, kind) {
			parts = append(parts, all[i])
		}
	}
	p, err := chainPage(ctx, parts, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.GetAccountAuthorizationDetailsOutput{
		IsTruncated: p.truncated, Marker: p.marker, UserDetailList: []iammodel.UserDetail{},
		GroupDetailList: []iammodel.GroupDetail{}, RoleDetailList: []iammodel.RoleDetail{},
		Policies: []iammodel.ManagedPolicyDetail{},
	}
	for _, put := range p.items {
		if err := put(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (h *holder) inlineDetails() []iammodel.PolicyDetail {
	out := []iammodel.PolicyDetail{}
	for _, p := range h.Policies {
		out = append(out, iammodel.PolicyDetail{
			PolicyName: model.Ptr(p.Name), PolicyDocument: model.Ptr(escapeDocument(p.Document)),
		})
	}
	return out
}

func (h *holder) attachedViews() []iammodel.AttachedPolicy {
	p, err := attachedPage(h.Attached, nil, nil, nil)
	if err != nil {
		return nil
	}
	return p.items
}

// detailed makes a detail for tablePart.
func detailed(d detail) (detail, error) { return d, nil }

func (s *Service) userDetail(ctx context.Context) func(*userRecord) (detail, error) {
	return func(r *userRecord) (detail, error) {
		return detailed(func(o *allDetails) error {
			groups, err := s.groupsOf(ctx, r)
			names := []string{}
			for _, g := range groups {
				names = append(names, g.Name)
			}
			o.UserDetailList = append(o.UserDetailList, iammodel.UserDetail{
				Arn: model.Ptr(r.arn()), Path: model.Ptr(r.Path), UserName: model.Ptr(r.Name), UserId: model.Ptr(r.ID),
				CreateDate: model.Ptr(r.Created), GroupList: names, UserPolicyList: r.inlineDetails(),
				AttachedManagedPolicies: r.attachedViews(), PermissionsBoundary: r.boundaryView(), Tags: viewTags(r.Tags),
			})
			return err
		})
	}
}

func groupDetail(r *groupRecord) (detail, error) {
	return detailed(func(o *allDetails) error {
		o.GroupDetailList = append(o.GroupDetailList, iammodel.GroupDetail{
			Arn: model.Ptr(r.arn()), Path: model.Ptr(r.Path), GroupName: model.Ptr(r.Name), GroupId: model.Ptr(r.ID),
			CreateDate: model.Ptr(r.Created), GroupPolicyList: r.inlineDetails(),
			AttachedManagedPolicies: r.attachedViews(),
		})
		return nil
	})
}

func (s *Service) roleDetail(ctx context.Context) func(*roleRecord) (detail, error) {
	return func(r *roleRecord) (detail, error) {
		return detailed(func(o *allDetails) error {
			used, err := s.roleLastUsed(ctx, r)
			if err != nil {
				return err
			}
			var profiles []*profileRecord
			for _, name := range r.InstanceProfiles {
				p, err := s.profiles.cached(ctx, recordKey(r.AccountID, name))
				if err := ignoreMissing(err); err != nil {
					return err
				}
				if err == nil {
					profiles = append(profiles, p)
				}
			}
			views, err := s.profileViews(ctx, profiles)
			o.RoleDetailList = append(o.RoleDetailList, iammodel.RoleDetail{
				Arn: model.Ptr(r.arn()), Path: model.Ptr(r.Path), RoleName: model.Ptr(r.Name), RoleId: model.Ptr(r.ID),
				CreateDate: model.Ptr(r.Created), AssumeRolePolicyDocument: model.Ptr(escapeDocument(r.Trust)),
				RolePolicyList: r.inlineDetails(), AttachedManagedPolicies: r.attachedViews(), InstanceProfileList: views,
				PermissionsBoundary: r.boundaryView(), Tags: viewTags(r.Tags), RoleLastUsed: used,
			})
			return err
		})
	}
}

// awsDetails are of those of AWS's policies that somebody has, as on AWS.
func (s *Service) awsDetails(ctx context.Context, accountID string) part[detail] {
	all := tablePart("5", awsTable{}, accountID+"/", nil, same[managedRecord])
	read := func(ctx context.Context, after string, limit int) (b batch[detail], err error) {
		recs, err := all.read(ctx, after, limit)
		if err != nil {
			return b, err
		}
		uses, err := s.usesOf(ctx, accountID, recs.items)
		b.last, b.more = recs.last, recs.more
		for i, rec := range recs.items {
			if uses[rec.arn()].Attached > 0 {
				b.items, b.keys = append(b.items, s.managedDetail(ctx, accountID, rec)), append(b.keys, recs.keys[i])
			}
		}
		return b, err
	}
	return part[detail]{name: all.name, prefix: all.prefix, filtered: true, read: read}
}

func (s *Service) policyDetail(ctx context.Context, accountID string) func(*managedRecord) (detail, error) {
	return func(r *managedRecord) (detail, error) { return detailed(s.managedDetail(ctx, accountID, r)) }
}

func (s *Service) managedDetail(ctx context.Context, accountID string, r *managedRecord) detail {
	return func(o *allDetails) error {
		v, err := s.policyView(ctx, accountID, r)
		if err != nil {
			return err
		}
		d := iammodel.ManagedPolicyDetail{
			Arn: v.Arn, AttachmentCount: v.AttachmentCount, CreateDate: v.CreateDate, Description: v.Description,
			DefaultVersionId: v.DefaultVersionId, IsAttachable: v.IsAttachable, Path: v.Path, PolicyId: v.PolicyId,
			PermissionsBoundaryUsageCount: v.PermissionsBoundaryUsageCount, PolicyName: v.PolicyName,
			UpdateDate: v.UpdateDate, PolicyVersionList: []iammodel.PolicyVersion{},
		}
		for _, version := range r.Versions {
			d.PolicyVersionList = append(d.PolicyVersionList, *version.view(version.Number == r.Default, true))
		}
		o.Policies = append(o.Policies, d)
		return nil
	}
}

// ListPoliciesGrantingServiceAccess lists, service by service, which policies of a user, group or role let it use the
// service.
func (s *Service) ListPoliciesGrantingServiceAccess(
	ctx context.Context, in *iammodel.ListPoliciesGrantingServiceAccessInput,
) (*iammodel.ListPoliciesGrantingServiceAccessOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	arn := model.Val(in.Arn)
	sources, err := s.sourcesOf(ctx, id, arn)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListPoliciesGrantingServiceAccessOutput{
		IsTruncated:                   model.Ptr(false),
		PoliciesGrantingServiceAccess: []iammodel.ListPoliciesGrantingServiceAccessEntry{},
	}
	for _, namespace := range in.ServiceNamespaces {
		e := iammodel.ListPoliciesGrantingServiceAccessEntry{ServiceNamespace: model.Ptr(namespace)}
		for _, src := range sources {
			if src.Document == nil || !src.Document.GrantsService(namespace) {
				continue
			}
			e.Policies = append(e.Policies, s.grantingView(ctx, id, &src))
		}
		out.PoliciesGrantingServiceAccess = append(out.PoliciesGrantingServiceAccess, e)
	}
	return out, nil
}

// grantingView shows a policy by its Source.
func (s *Service) grantingView(ctx context.Context, accountID string, src *policy.Source,
) iammodel.PolicyGrantingServiceAccess {
	id := src.ID
	switch src.Type {
	case iammodel.PolicySourceTypeAwsManaged:
		return iammodel.PolicyGrantingServiceAccess{
			PolicyName: model.Ptr(id), PolicyType: model.Ptr(iammodel.PolicyTypeMANAGED),
			PolicyArn: model.Ptr(awsPolicyPrefix + id),
		}
	case iammodel.PolicySourceTypeUserManaged:
		p, err := s.managed.cached(ctx, recordKey(accountID, id))
		v := iammodel.PolicyGrantingServiceAccess{
			PolicyName: model.Ptr(id), PolicyType: model.Ptr(iammodel.PolicyTypeMANAGED),
		}
		if err == nil {
			v.PolicyArn = model.Ptr(p.fullARN)
		}
		return v
	}
	return iammodel.PolicyGrantingServiceAccess{
		PolicyName: model.Ptr(strings.TrimPrefix(id, src.Type+"_"+src.Owner+"_")),
		PolicyType: model.Ptr(iammodel.PolicyTypeINLINE), EntityName: model.Ptr(src.Owner),
		EntityType: model.Ptr(strings.ToUpper(src.Type)),
	}
}
