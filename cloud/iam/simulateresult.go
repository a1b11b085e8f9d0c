package iam

import (
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// one answers one action on one resource.
func (sim *simulation) one(action, resource string) iammodel.EvaluationResult {
	r := &policy.Request{Action: action, Resource: resource, Principal: sim.principal, Context: sim.context}
	owner := sim.owner
	if owner == "" {
		owner = accountOf(resource)
	}
	r.CrossAccount = owner != "" && sim.principal.AccountID != "" && owner != sim.principal.AccountID
	decision := model.Ptr(decisionType(sim.set.Evaluate(r)))
	out := iammodel.EvaluationResult{
		EvalActionName: model.Ptr(action), EvalResourceName: model.Ptr(resource), EvalDecision: decision,
		EvalDecisionDetails: sim.details(r),
		MatchedStatements:   []iammodel.Statement{}, MissingContextValues: sim.set.MissingKeys(r),
		PermissionsBoundaryDecisionDetail: sim.byBoundary(r),
	}
	if len(sim.set.Control) > 0 {
		out.OrganizationsDecisionDetail = &iammodel.OrganizationsDecisionDetail{
			AllowedByOrganizations: model.Ptr(alone(sim.set.Control, r).Allowed()),
		}
	}
	for _, m := range sim.set.Matched(r) {
		if m.Stage == policy.StageControl { // not its account's to see
			continue
		}
		out.MatchedStatements = append(out.MatchedStatements, iammodel.Statement{
			SourcePolicyId: model.Ptr(m.ID), SourcePolicyType: model.Ptr(m.Type),
			StartPosition: viewPosition(m.Start), EndPosition: viewPosition(m.End),
		})
	}
	if len(sim.resources) > 0 && resource != "*" {
		out.ResourceSpecificResults = []iammodel.ResourceSpecificResult{{
			EvalResourceName: out.EvalResourceName, EvalResourceDecision: decision,
			EvalDecisionDetails: out.EvalDecisionDetails, MatchedStatements: out.MatchedStatements,
			MissingContextValues:              out.MissingContextValues,
			PermissionsBoundaryDecisionDetail: out.PermissionsBoundaryDecisionDetail,
		}}
	}
	return out
}

func decisionType(d policy.Decision) string {
	switch d.Verdict {
	case policy.Allowed:
		return iammodel.PolicyEvaluationDecisionTypeAllowed
	case policy.ExplicitDeny:
		return iammodel.PolicyEvaluationDecisionTypeExplicitDeny
	case policy.ImplicitDeny:
	}
	return iammodel.PolicyEvaluationDecisionTypeImplicitDeny
}

// alone is what one stage's policies say for themselves.
func alone(sources []policy.Source, r *policy.Request) policy.Decision {
	question := *r
	question.CrossAccount = false
	set := policy.Set{Identity: sources}
	return set.Evaluate(&question)
}

// details tell what either side of a request across accounts says; inside one account there is nothing to tell, and
// about all resources nobody knows whose they are (API reference, EvaluationResult).
func (sim *simulation) details(r *policy.Request) map[string]string {
	switch {
	case r.Resource == "*":
		return nil
	case !r.CrossAccount:
		return map[string]string{}
	}
	byResource := policy.Decision{}
	if sim.set.Resource != nil {
		set := policy.Set{Resource: sim.set.Resource, Unlimited: true, ResourceDecides: true}
		byResource = set.Evaluate(r)
	}
	return map[string]string{
		"IAM Policy": decisionType(alone(sim.set.Identity, r)), "Resource Policy": decisionType(byResource),
	}
}

func (sim *simulation) byBoundary(r *policy.Request) *iammodel.PermissionsBoundaryDecisionDetail {
	if !sim.boundary {
		return nil
	}
	return &iammodel.PermissionsBoundaryDecisionDetail{
		AllowedByPermissionsBoundary: model.Ptr(alone(sim.set.Boundary, r).Allowed()),
	}
}
