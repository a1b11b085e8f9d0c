package iam

import (
	"context"
	"net/http"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

const actionAssume = "sts:AssumeRole"

// AssumableRole is a role that a caller was found to be allowed to assume.
type AssumableRole struct {
	AccountID, Name, ARN, ID string
	MaxSession               int64 // seconds
}

// AuthorizeAssume decides whether the caller may do sts:AssumeRole on a role: the role's trust policy must allow it,
// and the caller's own policies too, unless the trust policy names the caller itself and not just its account.
// conditions are the request's own keys, such as sts:ExternalId. A role that does not exist is answered like one that
// does not trust the caller.
func (s *Service) AuthorizeAssume(ctx context.Context, caller authn.Caller, roleARN string,
	conditions map[string][]string,
) (AssumableRole, error) {
	if caller.Kind == authn.KindRoot {
		return AssumableRole{}, model.Errorf("AccessDenied", http.StatusForbidden,
			"Roles may not be assumed by root accounts.")
	}
	set, err := s.policiesOf(ctx, &caller)
	if err != nil {
		return AssumableRole{}, err
	}
	set.ResourceDecides = true
	var found AssumableRole
	accountID, kind, _, name, ok := splitARN(roleARN)
	if ok && kind == kindRole {
		r, err := s.role(ctx, accountID, name)
		if err := ignoreMissing(err); err != nil {
			return AssumableRole{}, err
		}
		if err == nil && r.fullARN == roleARN {
			set.Resource = &r.trust
			found = AssumableRole{AccountID: r.AccountID, Name: r.Name, ARN: r.fullARN, ID: r.ID, MaxSession: r.MaxSession}
		}
	}
	q := s.request(&caller, actionAssume, conditions)
	q.Resource, q.CrossAccount = roleARN, accountID != caller.AccountID
	if d := set.Evaluate(q); d.Allowed() && caller.Kind != "" && found.ID != "" {
		return found, nil
	}
	e := set.Explain(q)
	s.recordDenial(ctx, &caller, &e)
	denial := model.Errorf("AccessDenied", http.StatusForbidden,
		"User: %s is not authorized to perform: %s on resource: %s", caller.ARN, actionAssume, roleARN)
	denial.Cause = &Denied{Explanation: e}
	return AssumableRole{}, denial
}

// trusts decides whether a role's trust policy lets a service assume the role.
func (s *Service) trusts(r *role, service string) error {
	set := policy.Set{Resource: &r.trust, ResourceDecides: true}
	nobody := authn.Caller{}
	q := s.request(&nobody, actionAssume, nil)
	q.Resource, q.Principal = r.fullARN, policy.Principal{Service: service}
	if set.Evaluate(q).Allowed() {
		return nil
	}
	denial := model.Errorf("AccessDenied", http.StatusForbidden,
		"Service: %s is not authorized to perform: %s on resource: %s", service, actionAssume, r.fullARN)
	denial.Cause = &Denied{Explanation: set.Explain(q)}
	return denial
}

// InstanceCredentials makes a session of an instance's role for the instance: session name and InstanceID are the
// instance's id. This is the only way to a session with an InstanceID. The role must trust ec2.amazonaws.com.
func (s *Service) InstanceCredentials(
	ctx context.Context, accountID, roleName, instanceID string,
) (SessionCredentials, error) {
	r, err := s.role(ctx, accountID, roleName)
	if err != nil {
		return SessionCredentials{}, noRole(err, roleName)
	}
	if err := s.trusts(r, ServiceEC2); err != nil {
		return SessionCredentials{}, err
	}
	creds, _, err := s.mint(ctx, Session{
		AccountID: accountID, RoleName: roleName, Name: instanceID, Life: s.cfg.InstanceSessionLife,
	}, instanceID)
	return creds, err
}
