package iam

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// ServiceEC2 is the service principal that hands roles to instances.
const ServiceEC2 = "ec2.amazonaws.com"

// Denied is the operator's side of a denial. It is the Cause of the model.Error that the caller gets.
type Denied struct{ Explanation policy.Explanation }

func (d *Denied) Error() string { return d.Explanation.String() }

// Authorize decides whether the caller may do action on every one of resources; none means "*". The root user may do
// everything inside its own account. A resource of another account is refused: no resource-based policies exist yet,
// and without one AWS refuses too. conditions are the request's own condition keys, such as iam:PassedToService.
//
// The error is a *model.Error AccessDenied with AWS's message; its Cause is a *Denied. The denial is recorded.
func (s *Service) Authorize(ctx context.Context, caller authn.Caller, action string, resources []string,
	conditions map[string][]string,
) error {
	var star [1]string
	if len(resources) == 0 {
		star[0] = "*"
		resources = star[:]
	}
	set, err := s.policiesOf(ctx, &caller)
	if err != nil {
		return err
	}
	r := s.request(&caller, action, conditions)
	for _, resource := range resources {
		r.Resource = resource
		owner := accountOf(resource)
		r.CrossAccount = owner != "" && owner != caller.AccountID
		if caller.Kind == authn.KindRoot && caller.AccountID != "" && !r.CrossAccount && !limitedSession(&caller, action) {
			continue
		}
		if err := s.decide(ctx, &caller, set, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) decide(ctx context.Context, caller *authn.Caller, set *policy.Set, r *policy.Request) error {
	if limitedSession(caller, r.Action) {
		set = &policy.Set{}
	}
	d := set.Evaluate(r)
	if d.Allowed() && caller.Kind != "" {
		return nil
	}
	e := set.Explain(r)
	s.recordDenial(ctx, caller, &e)
	who := caller.ARN
	if who == "" {
		who = "anonymous"
	}
	denial := model.Errorf("AccessDenied", http.StatusForbidden,
		"User: %s is not authorized to perform: %s on resource: %s %s", who, r.Action, r.Resource, d.Because(r.Action))
	denial.Cause = &Denied{Explanation: e}
	return denial
}

// limitedSession reports whether the action is closed to credentials of GetSessionToken, which on AWS call neither
// IAM nor, but for two operations, STS.
func limitedSession(c *authn.Caller, action string) bool {
	if c.Kind == authn.KindRole || !strings.HasPrefix(c.AccessKeyID, "ASIA") {
		return false
	}
	vendor, name, _ := strings.Cut(action, ":")
	switch vendor {
	case "iam":
		return true
	case "sts":
		return name != "AssumeRole" && name != "GetCallerIdentity"
	}
	return false
}

// request makes the question's part that is the same for all resources.
func (s *Service) request(caller *authn.Caller, action string, conditions map[string][]string) *policy.Request {
	return &policy.Request{
		Action: action,
		Principal: policy.Principal{
			ARN: caller.ARN, AccountID: caller.AccountID, RoleARN: caller.RoleARN, Root: caller.Kind == authn.KindRoot,
		},
		Context: &conditionContext{
			caller: caller, now: s.cfg.Clock(), region: s.cfg.Region, sessions: s.sessions, extra: conditions,
		},
	}
}

// policiesOf gathers the policies of the caller as they are now. A caller whose user or role is gone has none.
func (s *Service) policiesOf(ctx context.Context, c *authn.Caller) (*policy.Set, error) {
	set := &policy.Set{}
	switch c.Kind {
	case authn.KindUser:
		u, err := s.user(ctx, c.AccountID, c.UserName)
		if err == nil && u.ID == c.UserID {
			set.Identity = u.policies
		}
		return set, ignoreMissing(err)
	case authn.KindRole:
		r, err := s.role(ctx, c.AccountID, c.RoleName)
		if err != nil {
			return set, ignoreMissing(err)
		}
		if strings.HasPrefix(c.UserID, r.ID+":") {
			set.Identity = r.policies
		}
		if c.SessionPolicy != "" {
			doc, err := s.checkDocument(c.SessionPolicy, policy.Identity)
			if err != nil {
				return nil, err
			}
			set.Session = []policy.Source{{Name: "session policy of " + c.ARN, Document: doc}}
		}
		return set, nil
	case authn.KindRoot:
	}
	return set, nil
}

func ignoreMissing(err error) error {
	if isMissing(err) {
		return nil
	}
	return err
}

func (s *Service) recordDenial(ctx context.Context, c *authn.Caller, e *policy.Explanation) {
	if s.cfg.Journal == nil {
		return
	}
	why, err := json.Marshal(e)
	if err != nil {
		why = []byte(err.Error())
	}
	s.cfg.Journal.Record(ctx, journal.Event{
		Time: s.cfg.Clock(), Kind: "policy.denied", Subject: c.ARN,
		Attributes: map[string]string{
			"requestId": c.RequestID, "accessKeyId": c.AccessKeyID, "action": e.Action, "resource": e.Resource,
			"verdict": e.Decision.Verdict.String(), "explanation": string(why),
		},
	})
}

// AuthorizePassRole decides whether the caller may hand a role of its own account to a service, such as ServiceEC2.
func (s *Service) AuthorizePassRole(ctx context.Context, caller authn.Caller, roleARN, service string) error {
	return s.Authorize(ctx, caller, "iam:PassRole", []string{roleARN},
		map[string][]string{"iam:PassedToService": {service}})
}
