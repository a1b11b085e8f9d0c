package iam

import (
	"context"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// resolver names the ARNs that one operation's input is about.
type resolver func(ctx context.Context, s *Service, c authn.Caller, input any) ([]string, error)

// Resources names the ARNs that an operation touches, for the front door's authorisation. Names are looked up, so
// that an ARN has the entity's own path whatever the caller wrote; a name that does not exist gives the ARN at "/".
func (s *Service) Resources(
	ctx context.Context, operation string, caller authn.Caller, input any,
) ([]string, error) {
	r, ok := s.targets[operation]
	if !ok {
		return nil, nil
	}
	return r(ctx, s, caller, input)
}

// SelfAuthorized names the operations that need no permission.
func (s *Service) SelfAuthorized() map[string]bool { return nil }

func (s *Service) resolvers() map[string]resolver {
	all := make(map[string]resolver)
	userResolvers(all)
	keyResolvers(all)
	roleResolvers(all)
	profileResolvers(all)
	certificateResolvers(all)
	tableResolvers(all)
	return all
}

// on makes a resolver of a function on the operation's own input type.
func on[I any](f func(context.Context, *Service, authn.Caller, *I) ([]string, error)) resolver {
	return func(ctx context.Context, s *Service, c authn.Caller, input any) ([]string, error) {
		in, ok := input.(*I)
		if !ok {
			return nil, fmt.Errorf("name resources: input is %T, want %T", input, in)
		}
		return f(ctx, s, c, in)
	}
}

// created resolves an operation that makes an entity at a path.
func created[I any](kind string, of func(*I) (path, name *string)) resolver {
	return on(func(_ context.Context, _ *Service, c authn.Caller, in *I) ([]string, error) {
		path, name := of(in)
		return []string{entityARN(c.AccountID, kind, model.Val(path), model.Val(name))}, nil
	})
}

// listed resolves an operation that lists the entities below a path.
func listed[I any](kind string, of func(*I) *string) resolver {
	return on(func(_ context.Context, _ *Service, c authn.Caller, in *I) ([]string, error) {
		return []string{entityARN(c.AccountID, kind, model.Val(of(in)), "")}, nil
	})
}

// named resolves an operation on one entity that should exist.
func named[I any](kind string, of func(*I) *string) resolver {
	return on(func(ctx context.Context, s *Service, c authn.Caller, in *I) ([]string, error) {
		arn, err := s.arnOf(ctx, kind, c.AccountID, model.Val(of(in)))
		return []string{arn}, err
	})
}

// arnOf looks an entity's ARN up.
func (s *Service) arnOf(ctx context.Context, kind, accountID, name string) (string, error) {
	var arn string
	var err error
	switch kind {
	case kindUser:
		var u *user
		if u, err = s.user(ctx, accountID, name); err == nil {
			arn = u.fullARN
		}
	case kindGroup:
		var g *group
		if g, err = s.group(ctx, accountID, name); err == nil {
			arn = g.arn()
		}
	case kindRole:
		var r *role
		if r, err = s.role(ctx, accountID, name); err == nil {
			arn = r.fullARN
		}
	case kindProfile:
		var p *profileRecord
		if p, err = s.profiles.cached(ctx, recordKey(accountID, name)); err == nil {
			arn = p.arn()
		}
	case kindCertificate:
		var r *certificateRecord
		if r, err = s.certificate(ctx, accountID, name); err == nil {
			arn = r.arn()
		}
	}
	if isMissing(err) {
		return entityARN(accountID, kind, "/", name), nil
	}
	return arn, err
}

// own resolves an operation on a named user, or on the caller itself when no name is given.
func own[I any](of func(*I) *string) resolver {
	return on(func(ctx context.Context, s *Service, c authn.Caller, in *I) ([]string, error) {
		name := model.Val(of(in))
		if name == "" {
			if c.Kind == authn.KindUser || c.Kind == authn.KindRoot {
				return []string{c.ARN}, nil
			}
			return []string{entityARN(c.AccountID, kindUser, "/", "*")}, nil
		}
		arn, err := s.arnOf(ctx, kindUser, c.AccountID, name)
		return []string{arn}, err
	})
}

// moved resolves an operation that renames an entity: both ends need the permission.
func moved[I any](kind string, of func(*I) (name, newPath, newName *string)) resolver {
	return on(func(ctx context.Context, s *Service, c authn.Caller, in *I) ([]string, error) {
		name, newPath, newName := of(in)
		from, err := s.arnOf(ctx, kind, c.AccountID, model.Val(name))
		if err != nil {
			return nil, err
		}
		_, _, path, final, _ := splitARN(from)
		if newPath != nil {
			path = *newPath
		}
		if newName != nil {
			final = *newName
		}
		if to := entityARN(c.AccountID, kind, path, final); to != from {
			return []string{from, to}, nil
		}
		return []string{from}, nil
	})
}

func userResolvers(all map[string]resolver) {
	all["CreateUser"] = created(kindUser,
		func(in *iammodel.CreateUserInput) (*string, *string) { return in.Path, in.UserName })
	all["GetUser"] = own(func(in *iammodel.GetUserInput) *string { return in.UserName })
	all["ListUsers"] = listed(kindUser, func(in *iammodel.ListUsersInput) *string { return in.PathPrefix })
	all["DeleteUser"] = named(kindUser, func(in *iammodel.DeleteUserInput) *string { return in.UserName })
	all["UpdateUser"] = moved(kindUser, func(in *iammodel.UpdateUserInput) (*string, *string, *string) {
		return in.UserName, in.NewPath, in.NewUserName
	})
	all["PutUserPolicy"] = named(kindUser, func(in *iammodel.PutUserPolicyInput) *string { return in.UserName })
	all["GetUserPolicy"] = named(kindUser, func(in *iammodel.GetUserPolicyInput) *string { return in.UserName })
	all["ListUserPolicies"] = named(kindUser, func(in *iammodel.ListUserPoliciesInput) *string { return in.UserName })
	all["DeleteUserPolicy"] = named(kindUser, func(in *iammodel.DeleteUserPolicyInput) *string { return in.UserName })
}

func keyResolvers(all map[string]resolver) {
	all["CreateAccessKey"] = own(func(in *iammodel.CreateAccessKeyInput) *string { return in.UserName })
	all["ListAccessKeys"] = own(func(in *iammodel.ListAccessKeysInput) *string { return in.UserName })
	all["UpdateAccessKey"] = own(func(in *iammodel.UpdateAccessKeyInput) *string { return in.UserName })
	all["DeleteAccessKey"] = own(func(in *iammodel.DeleteAccessKeyInput) *string { return in.UserName })
}

func roleResolvers(all map[string]resolver) {
	all["CreateRole"] = created(kindRole,
		func(in *iammodel.CreateRoleInput) (*string, *string) { return in.Path, in.RoleName })
	all["GetRole"] = named(kindRole, func(in *iammodel.GetRoleInput) *string { return in.RoleName })
	all["ListRoles"] = listed(kindRole, func(in *iammodel.ListRolesInput) *string { return in.PathPrefix })
	all["DeleteRole"] = named(kindRole, func(in *iammodel.DeleteRoleInput) *string { return in.RoleName })
	all["UpdateRole"] = named(kindRole, func(in *iammodel.UpdateRoleInput) *string { return in.RoleName })
	all["UpdateAssumeRolePolicy"] = named(kindRole,
		func(in *iammodel.UpdateAssumeRolePolicyInput) *string { return in.RoleName })
	all["PutRolePolicy"] = named(kindRole, func(in *iammodel.PutRolePolicyInput) *string { return in.RoleName })
	all["GetRolePolicy"] = named(kindRole, func(in *iammodel.GetRolePolicyInput) *string { return in.RoleName })
	all["ListRolePolicies"] = named(kindRole, func(in *iammodel.ListRolePoliciesInput) *string { return in.RoleName })
	all["DeleteRolePolicy"] = named(kindRole, func(in *iammodel.DeleteRolePolicyInput) *string { return in.RoleName })
	all["ListInstanceProfilesForRole"] = named(kindRole,
		func(in *iammodel.ListInstanceProfilesForRoleInput) *string { return in.RoleName })
}

func profileResolvers(all map[string]resolver) {
	all["CreateInstanceProfile"] = created(kindProfile,
		func(in *iammodel.CreateInstanceProfileInput) (*string, *string) {
			return in.Path, in.InstanceProfileName
		})
	all["GetInstanceProfile"] = named(kindProfile,
		func(in *iammodel.GetInstanceProfileInput) *string { return in.InstanceProfileName })
	all["ListInstanceProfiles"] = listed(kindProfile,
		func(in *iammodel.ListInstanceProfilesInput) *string { return in.PathPrefix })
	all["DeleteInstanceProfile"] = named(kindProfile,
		func(in *iammodel.DeleteInstanceProfileInput) *string { return in.InstanceProfileName })
	all["AddRoleToInstanceProfile"] = named(kindProfile,
		func(in *iammodel.AddRoleToInstanceProfileInput) *string { return in.InstanceProfileName })
	all["RemoveRoleFromInstanceProfile"] = named(kindProfile,
		func(in *iammodel.RemoveRoleFromInstanceProfileInput) *string { return in.InstanceProfileName })
}

func certificateResolvers(all map[string]resolver) {
	all["UploadServerCertificate"] = created(kindCertificate,
		func(in *iammodel.UploadServerCertificateInput) (*string, *string) {
			return in.Path, in.ServerCertificateName
		})
	all["GetServerCertificate"] = named(kindCertificate,
		func(in *iammodel.GetServerCertificateInput) *string { return in.ServerCertificateName })
	all["ListServerCertificates"] = listed(kindCertificate,
		func(in *iammodel.ListServerCertificatesInput) *string { return in.PathPrefix })
	all["UpdateServerCertificate"] = moved(kindCertificate,
		func(in *iammodel.UpdateServerCertificateInput) (*string, *string, *string) {
			return in.ServerCertificateName, in.NewPath, in.NewServerCertificateName
		})
	all["DeleteServerCertificate"] = named(kindCertificate,
		func(in *iammodel.DeleteServerCertificateInput) *string { return in.ServerCertificateName })
}
