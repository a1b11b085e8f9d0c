package iam

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// linkedServices are the services that have a role of their own in every account, with the role's name and the AWS
// managed policy that it holds.
func linkedServices() map[string]struct{ role, policyARN string } {
	return map[string]struct{ role, policyARN string }{
		"elasticloadbalancing.amazonaws.com": {
			"AWSServiceRoleForElasticLoadBalancing",
			awsPolicyPrefix + "aws-service-role/AWSElasticLoadBalancingServiceRolePolicy",
		},
	}
}

func errLinked(r *roleRecord) error {
	return iammodel.ErrUnmodifiableEntity("Cannot perform the operation on the protected role '%s' - this role is only "+
		"modifiable by AWS", r.Name)
}

// CreateServiceLinkedRole makes the role that a service of the cloud uses in the account. Only that service assumes it.
func (s *Service) CreateServiceLinkedRole(
	ctx context.Context, in *iammodel.CreateServiceLinkedRoleInput,
) (*iammodel.CreateServiceLinkedRoleOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	service := model.Val(in.AWSServiceName)
	linked, ok := linkedServices()[service]
	if !ok {
		return nil, iammodel.ErrInvalidInput("Service %s has no service-linked role here; the one that has is "+
			"elasticloadbalancing.amazonaws.com", service)
	}
	if in.CustomSuffix != nil {
		return nil, iammodel.ErrInvalidInput("Custom suffix is not allowed for %s", service)
	}
	trust, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []map[string]any{{
			"Effect": "Allow", "Principal": map[string]string{"Service": service}, "Action": actionAssume,
		}},
	})
	if err != nil {
		return nil, err
	}
	rec := roleRecord{
		AccountID: id, Name: linked.role, Path: "/aws-service-role/" + service + "/", ID: newID("AROA"),
		Created: s.now(), Trust: string(trust), MaxSession: 3600, Description: model.Val(in.Description),
		LinkedTo: service, holder: holder{Attached: []string{linked.policyARN}},
	}
	key := recordKey(id, linked.role)
	err = s.txn(ctx, func(tx *store.Tx) error {
		if err := s.roles.In(tx).Create(key, rec); err != nil {
			return err
		}
		return s.countUse(tx, id, linked.policyARN, entity{kindRole, linked.role}, 1, 0)
	}, func() { s.roles.cache.drop(key) })
	if err != nil {
		return nil, takenInput(err, "Service role name %s has been taken in this account, please try a different suffix.",
			linked.role)
	}
	return &iammodel.CreateServiceLinkedRoleOutput{Role: rec.view()}, nil
}

// takenInput turns the store's ErrExists into AWS's InvalidInput.
func takenInput(err error, format string, args ...any) error {
	if taken(err, "") != err { //nolint:errorlint // asks whether it was translated
		return iammodel.ErrInvalidInput(format, args...)
	}
	return err
}

// LinkedRoleUse tells what of a service uses its role in an account, as ARNs, so that the role cannot go.
type LinkedRoleUse func(ctx context.Context, accountID string) (arns []string, err error)

// SetLinkedRoleUse plugs in what DeleteServiceLinkedRole asks about elastic load balancing's role. Nil, and never
// called, mean that nothing uses it.
func (s *Service) SetLinkedRoleUse(use LinkedRoleUse) { s.linkedUse.Store(&use) }

// linkedRoleUse lists what uses an account's role.
func (s *Service) linkedRoleUse(ctx context.Context, accountID string) ([]string, error) {
	use := s.linkedUse.Load()
	if use == nil || *use == nil {
		return nil, nil
	}
	return (*use)(ctx, accountID)
}

// DeleteServiceLinkedRole deletes such a role, unless its service uses it: that is the task's to tell, whose id is for
// GetServiceLinkedRoleDeletionStatus. The task is over when the answer comes.
func (s *Service) DeleteServiceLinkedRole(
	ctx context.Context, in *iammodel.DeleteServiceLinkedRoleInput,
) (*iammodel.DeleteServiceLinkedRoleOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	used, err := s.linkedRoleUse(ctx, id)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.RoleName)
	key := recordKey(id, name)
	var rec roleRecord
	err = s.txn(ctx, func(tx *store.Tx) (err error) {
		if rec, err = s.roles.In(tx).Get(key); err != nil || rec.Name != name {
			return orMissing(err)
		}
		if rec.LinkedTo == "" {
			return iammodel.ErrInvalidInput("Role %s is not a service-linked role.", name)
		}
		if len(used) > 0 {
			return nil
		}
		for _, arn := range rec.Attached {
			if err := s.countUse(tx, id, arn, entity{kindRole, name}, -1, 0); err != nil {
				return err
			}
		}
		return s.roles.In(tx).Delete(key)
	}, func() { s.roles.cache.drop(key) })
	if err != nil {
		return nil, noRole(err, name)
	}
	return &iammodel.DeleteServiceLinkedRoleOutput{
		DeletionTaskId: model.Ptr("task" + rec.Path + rec.Name + "/" + rec.ID),
	}, nil
}

// GetServiceLinkedRoleDeletionStatus tells how a deletion ended: a role that is still there was in use. There are no
// deletions that take time.
func (s *Service) GetServiceLinkedRoleDeletionStatus(
	ctx context.Context, in *iammodel.GetServiceLinkedRoleDeletionStatusInput,
) (*iammodel.GetServiceLinkedRoleDeletionStatusOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	task := model.Val(in.DeletionTaskId)
	parts := strings.Split(task, "/")
	const wanted = 5 // task/aws-service-role/SERVICE/NAME/ID
	if len(parts) != wanted || parts[0] != "task" {
		return nil, iammodel.ErrNoSuchEntity("The deletion task %s cannot be found.", task)
	}
	r, err := s.role(ctx, id, parts[3])
	if err := ignoreMissing(err); err != nil {
		return nil, err
	}
	if err != nil || r.ID != parts[4] {
		return &iammodel.GetServiceLinkedRoleDeletionStatusOutput{
			Status: model.Ptr(iammodel.DeletionTaskStatusTypeSUCCEEDED),
		}, nil
	}
	used, err := s.linkedRoleUse(ctx, id)
	if err != nil {
		return nil, err
	}
	return &iammodel.GetServiceLinkedRoleDeletionStatusOutput{
		Status: model.Ptr(iammodel.DeletionTaskStatusTypeFAILED),
		Reason: &iammodel.DeletionTaskFailureReasonType{
			Reason: model.Ptr("A service-linked role cannot be deleted while there are resources that use it. Delete " +
				"the load balancers of the account first, then delete the role again."),
			RoleUsageList: []iammodel.RoleUsageType{{Region: model.Ptr(s.cfg.Region), Resources: used}},
		},
	}, nil
}
