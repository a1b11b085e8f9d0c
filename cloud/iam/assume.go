package iam

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"time"

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

// Assumption is the question whether a role may be assumed.
type Assumption struct {
	// Action is what the trust policy must allow; empty means sts:AssumeRole.
	Action  string
	RoleARN string
	// Provider is the ARN of the identity provider that vouches for a caller without AWS credentials.
	Provider string
	// Conditions are the request's own keys, such as sts:ExternalId.
	Conditions map[string][]string
	// MFA says that the request came with a good code of the caller's MFA device.
	MFA bool
}

// AuthorizeAssume is AuthorizeAssumption for sts:AssumeRole.
func (s *Service) AuthorizeAssume(ctx context.Context, caller authn.Caller, roleARN string,
	conditions map[string][]string,
) (AssumableRole, error) {
	return s.AuthorizeAssumption(ctx, caller, Assumption{RoleARN: roleARN, Conditions: conditions})
}

// AuthorizeAssumption decides whether the caller may assume a role: the role's trust policy must allow it, and the
// caller's own policies too, unless the trust policy names the caller itself and not just its account. Whom an
// identity provider vouches for has no policies of its own. A role that does not exist is answered like one that does
// not trust the caller.
func (s *Service) AuthorizeAssumption(ctx context.Context, caller authn.Caller, in Assumption) (AssumableRole, error) {
	action := cmp.Or(in.Action, actionAssume)
	if caller.Kind == authn.KindRoot {
		return AssumableRole{}, model.Errorf("AccessDenied", http.StatusForbidden,
			"Roles may not be assumed by root accounts.")
	}
	if in.MFA {
		showMFA(&caller, &in, s.now())
	}
	set, err := s.policiesOf(ctx, &caller)
	if err != nil {
		return AssumableRole{}, err
	}
	set.ResourceDecides = true
	accountID, _, _, _, _ := splitARN(in.RoleARN)
	found, trust, err := s.assumable(ctx, in.RoleARN)
	if err != nil {
		return AssumableRole{}, err
	}
	set.Resource = trust
	q := s.request(ctx, &caller, action, in.Conditions)
	q.Resource, q.CrossAccount = in.RoleARN, accountID != caller.AccountID
	known := caller.Kind != "" && !limitedSession(&caller, action)
	if in.Provider != "" {
		known, q.CrossAccount, q.Principal = true, false, policy.Principal{Federated: in.Provider}
	}
	if d := set.Evaluate(q); d.Allowed() && known && found.ID != "" && !s.sessionRevoked(&caller) {
		s.NoteUse(&caller, action)
		return found, nil
	}
	e := set.Explain(q)
	s.recordDenial(ctx, &caller, &e)
	denial := model.Errorf("AccessDenied", http.StatusForbidden,
		"User: %s is not authorized to perform: %s on resource: %s", caller.ARN, action, in.RoleARN)
	if in.Provider != "" {
		denial.Message = "Not authorized to perform " + action
	}
	denial.Cause = &Denied{Explanation: e}
	return AssumableRole{}, denial
}

// showMFA makes the request's own code count, whatever the caller's credentials were made with.
func showMFA(caller *authn.Caller, in *Assumption, now time.Time) {
	if caller.Session != nil {
		session := *caller.Session
		session.MFA = now
		caller.Session = &session
		return
	}
	keys := make(map[string][]string)
	maps.Copy(keys, in.Conditions)
	keys["aws:MultiFactorAuthPresent"], keys["aws:MultiFactorAuthAge"] = []string{"true"}, []string{"0"}
	in.Conditions = keys
}

// assumable finds a role and its trust policy; both are empty when the ARN is no role's.
func (s *Service) assumable(ctx context.Context, roleARN string) (AssumableRole, *policy.Source, error) {
	accountID, kind, _, name, ok := splitARN(roleARN)
	if !ok || kind != kindRole {
		return AssumableRole{}, nil, nil
	}
	r, err := s.role(ctx, accountID, name)
	if err != nil || r.fullARN != roleARN {
		return AssumableRole{}, nil, ignoreMissing(err)
	}
	return AssumableRole{
		AccountID: r.AccountID, Name: r.Name, ARN: r.fullARN, ID: r.ID, MaxSession: r.MaxSession,
	}, &r.trust, nil
}

// trusts decides whether a role's trust policy lets a service assume the role.
func (s *Service) trusts(ctx context.Context, r *role, service string) error {
	set := policy.Set{Resource: &r.trust, ResourceDecides: true}
	nobody := authn.Caller{}
	q := s.request(ctx, &nobody, actionAssume, nil)
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
	if err := s.trusts(ctx, r, ServiceEC2); err != nil {
		return SessionCredentials{}, err
	}
	life := s.cfg.InstanceSessionLife
	if s.cfg.Shorten != nil {
		life = cmp.Or(s.cfg.Shorten(instanceID, roleName), life)
	}
	creds, _, err := s.mint(ctx, Session{
		AccountID: accountID, RoleName: roleName, Name: instanceID, Life: life,
	}, instanceID)
	return creds, err
}
