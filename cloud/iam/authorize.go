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
	r := s.request(ctx, &caller, action, conditions)
	for _, resource := range resources {
		r.Resource = resource
		owner := accountOf(resource)
		r.CrossAccount = owner != "" && owner != caller.AccountID
		if err := s.decide(ctx, &caller, set, r); err != nil {
			return err
		}
	}
	s.NoteUse(&caller, action)
	return nil
}

func (s *Service) decide(ctx context.Context, caller *authn.Caller, set *policy.Set, r *policy.Request) error {
	if s.sessionRevoked(caller) || limitedSession(caller, r.Action) {
		set = &policy.Set{}
	}
	d := set.Evaluate(r)
	if d.Allowed() && caller.Kind != "" {
		s.recordAllowed(ctx, caller, r)
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
	if strings.HasPrefix(r.Action, "ec2:") {
		// EC2 has a code of its own, and is the one that hands out encoded messages.
		encoded, err := s.encodeMessage(caller, &e)
		if err != nil {
			return err
		}
		denial.Code = "UnauthorizedOperation"
		denial.Message = "You are not authorized to perform this operation. " + denial.Message +
			". Encoded authorization failure message: " + encoded
	}
	denial.Cause = &Denied{Explanation: e}
	return denial
}

// limitedSession reports whether the action is closed to credentials of GetSessionToken and GetFederationToken, which
// on AWS call neither IAM, unless they were made with an MFA code, nor, but for two operations, STS.
func limitedSession(c *authn.Caller, action string) bool {
	if c.Kind == authn.KindRole || c.Session == nil {
		return false
	}
	vendor, name, _ := strings.Cut(action, ":")
	switch vendor {
	case "iam":
		return c.Kind == authn.KindFederated || !c.MFA()
	case "sts":
		return name != "GetCallerIdentity" && (name != "AssumeRole" || c.Kind == authn.KindFederated)
	}
	return false
}

// request makes the question's part that is the same for all resources.
func (s *Service) request(ctx context.Context, caller *authn.Caller, action string, conditions map[string][]string,
) *policy.Request {
	r := &policy.Request{
		Action: action,
		Principal: policy.Principal{
			ARN: caller.ARN, AccountID: caller.AccountID, RoleARN: caller.RoleARN, Root: caller.Kind == authn.KindRoot,
		},
	}
	r.Context = &conditionContext{
		ctx: ctx, service: s, caller: caller, now: s.cfg.Clock(), region: s.cfg.Region, request: r, extra: conditions,
	}
	return r
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
	attributes := map[string]string{
		"requestId": c.RequestID, "accessKeyId": c.AccessKeyID, "action": e.Action, "resource": e.Resource,
		"verdict": e.Decision.Verdict.String(), "explanation": string(why),
	}
	if s.sessionRevoked(c) {
		attributes["detail"] = "the identity of the session's instance, " + c.InstanceID + ", was revoked"
		attributes["wanted"] = "credentials of an instance whose identity is good; no policy counts for this one"
	}
	s.cfg.Journal.Record(ctx, journal.Event{Time: s.cfg.Clock(), Kind: "policy.denied", Subject: c.ARN,
		Attributes: attributes})
}

// sessionRevoked says whether the caller's credentials are those of an instance whose identity was revoked.
func (s *Service) sessionRevoked(c *authn.Caller) bool {
	return c.InstanceID != "" && s.cfg.SessionRevoked != nil && s.cfg.SessionRevoked(c.InstanceID)
}

// AuthorizePassRole decides whether the caller may hand a role of its own account to a service, such as ServiceEC2.
// resourceARN is what the service will use the role for, such as an instance; empty when that is nothing in particular.
func (s *Service) AuthorizePassRole(ctx context.Context, caller authn.Caller, roleARN, service, resourceARN string,
) error {
	keys := map[string][]string{"iam:PassedToService": {service}}
	if resourceARN != "" {
		keys["iam:AssociatedResourceArn"] = []string{resourceARN}
	}
	return s.Authorize(ctx, caller, "iam:PassRole", []string{roleARN}, keys)
}
