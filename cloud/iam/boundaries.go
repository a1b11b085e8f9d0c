package iam

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// setBoundary makes a managed policy the permissions boundary of a user or role; an empty ARN takes the boundary away.
func (s *Service) setBoundary(ctx context.Context, kind string, name *string, arn string) error {
	if arn != "" {
		if err := checkPolicyARN(arn); err != nil {
			return err
		}
	}
	return s.changeHolder(ctx, kind, model.Val(name), func(tx *store.Tx, accountID string, h *holder) error {
		if arn == "" && h.Boundary == "" {
			return iammodel.ErrNoSuchEntity("The %s %s has no permissions boundary.", kind, model.Val(name))
		}
		return s.moveBoundary(tx, accountID, entity{kind, model.Val(name)}, h, arn)
	})
}

// moveBoundary changes a boundary and the counts of both policies.
func (s *Service) moveBoundary(tx *store.Tx, accountID string, who entity, h *holder, arn string) error {
	if h.Boundary == arn {
		return nil
	}
	if h.Boundary != "" {
		if err := s.countUse(tx, accountID, h.Boundary, who, 0, -1); err != nil {
			return err
		}
	}
	h.Boundary = arn
	if arn == "" {
		return nil
	}
	return s.countUse(tx, accountID, arn, who, 0, 1)
}

// PutUserPermissionsBoundary limits a user to what a managed policy allows. It holds at once.
func (s *Service) PutUserPermissionsBoundary(
	ctx context.Context, in *iammodel.PutUserPermissionsBoundaryInput,
) (*iammodel.PutUserPermissionsBoundaryOutput, error) {
	return nil, s.setBoundary(ctx, kindUser, in.UserName, model.Val(in.PermissionsBoundary))
}

// DeleteUserPermissionsBoundary takes a user's boundary away.
func (s *Service) DeleteUserPermissionsBoundary(
	ctx context.Context, in *iammodel.DeleteUserPermissionsBoundaryInput,
) (*iammodel.DeleteUserPermissionsBoundaryOutput, error) {
	return nil, s.setBoundary(ctx, kindUser, in.UserName, "")
}

// PutRolePermissionsBoundary limits a role and its sessions to what a managed policy allows. It holds at once.
func (s *Service) PutRolePermissionsBoundary(
	ctx context.Context, in *iammodel.PutRolePermissionsBoundaryInput,
) (*iammodel.PutRolePermissionsBoundaryOutput, error) {
	return nil, s.setBoundary(ctx, kindRole, in.RoleName, model.Val(in.PermissionsBoundary))
}

// DeleteRolePermissionsBoundary takes a role's boundary away.
func (s *Service) DeleteRolePermissionsBoundary(
	ctx context.Context, in *iammodel.DeleteRolePermissionsBoundaryInput,
) (*iammodel.DeleteRolePermissionsBoundaryOutput, error) {
	return nil, s.setBoundary(ctx, kindRole, in.RoleName, "")
}
