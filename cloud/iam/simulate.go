package iam

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func noARN(arn string) error {
	return iammodel.ErrInvalidInput("Invalid Entity Arn: %s does not clearly define entity type and name.", arn)
}

// sourcesOf returns the policies of a user with its groups, of a group or of a role, or a policy itself.
func (s *Service) sourcesOf(ctx context.Context, accountID, arn string) ([]policy.Source, error) {
	set, err := s.setOf(ctx, accountID, arn)
	if err != nil {
		return nil, err
	}
	return set.Identity, nil
}

func (s *Service) setOf(ctx context.Context, accountID, arn string) (*policy.Set, error) {
	set := &policy.Set{}
	if p, ok := awsPolicy(arn); ok {
		set.Identity = []policy.Source{p.source}
		return set, nil
	}
	owner, kind, _, name, ok := splitARN(arn)
	if !ok {
		return nil, noARN(arn)
	}
	if owner != accountID {
		return nil, noEntity(store.ErrNotFound, kind, name)
	}
	switch kind {
	case kindUser:
		if _, err := s.user(ctx, owner, name); err != nil {
			return nil, noUser(err, name)
		}
		return set, s.gatherUser(ctx, set, owner, name, "")
	case kindGroup:
		g, err := s.group(ctx, owner, name)
		if err != nil {
			return nil, noGroup(err, name)
		}
		set.Identity = append([]policy.Source{}, g.policies...)
		return set, s.gatherAttached(ctx, &set.Identity, owner, g.Attached)
	case kindRole:
		r, err := s.role(ctx, owner, name)
		if err != nil {
			return nil, noRole(err, name)
		}
		return set, s.gatherRole(ctx, set, &authn.Caller{AccountID: owner, RoleName: name, UserID: r.ID + ":"})
	case kindPolicy:
		p, err := s.managedPolicy(ctx, owner, arn)
		if err != nil {
			return nil, noPolicy(err, arn)
		}
		set.Identity = []policy.Source{p.source}
		return set, nil
	}
	return nil, noARN(arn)
}

// simulation is what both operations of policy simulation have in common.
type simulation struct {
	set       *policy.Set
	actions   []string
	resources []string
	principal policy.Principal
	owner     string // account of the resources; empty means the ARN's own
	context   policy.ContextMap
	boundary  bool
	role      string // ARN of the role whose session asks, if it is one
}

// inputPolicies compiles policies that a simulation was given.
func (s *Service) inputPolicies(texts []string, list string) ([]policy.Source, error) {
	var out []policy.Source
	for i, text := range texts {
		doc, err := s.policies.Parse(text, policy.Identity)
		if err != nil {
			return nil, iammodel.ErrInvalidInput("Invalid %s: policy %d: %w", list, i+1, err)
		}
		name := list + "." + strconv.Itoa(i+1)
		out = append(out, policy.Source{Name: name, Document: doc, ID: name, Type: iammodel.PolicySourceTypeNone})
	}
	return out, nil
}

// SimulateCustomPolicy tells what given policies would allow.
func (s *Service) SimulateCustomPolicy(
	ctx context.Context, in *iammodel.SimulateCustomPolicyInput,
) (*iammodel.SimulateCustomPolicyOutput, error) {
	if _, err := account(ctx); err != nil {
		return nil, err
	}
	sim := &simulation{set: &policy.Set{}, actions: in.ActionNames, resources: in.ResourceArns}
	return s.simulate(sim, in.CallerArn, in.PolicyInputList, in.PermissionsBoundaryPolicyInputList, in.ResourcePolicy,
		in.ResourceOwner, in.ContextEntries, in.Marker, in.MaxItems)
}

// SimulatePrincipalPolicy tells what the policies of a user, group or role, and given ones, would allow.
func (s *Service) SimulatePrincipalPolicy(
	ctx context.Context, in *iammodel.SimulatePrincipalPolicyInput,
) (*iammodel.SimulatePrincipalPolicyOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	source := model.Val(in.PolicySourceArn)
	set, err := s.setOf(ctx, id, source)
	if err != nil {
		return nil, err
	}
	own := *set
	own.Identity = append([]policy.Source{}, set.Identity...)
	if own.Control, err = s.controlOf(ctx, &authn.Caller{AccountID: id}); err != nil {
		return nil, err
	}
	sim := &simulation{set: &own, actions: in.ActionNames, resources: in.ResourceArns, boundary: len(set.Boundary) > 0}
	caller := in.CallerArn
	if caller == nil && strings.Contains(source, ":"+kindUser+"/") {
		caller = in.PolicySourceArn
	}
	if caller == nil && strings.Contains(source, ":"+kindRole+"/") {
		sim.role = source
	}
	return s.simulate(sim, caller, in.PolicyInputList, in.PermissionsBoundaryPolicyInputList, in.ResourcePolicy,
		in.ResourceOwner, in.ContextEntries, in.Marker, in.MaxItems)
}

func (s *Service) simulate(sim *simulation, caller *string, policies, boundaries []string, resource, owner *string,
	entries []iammodel.ContextEntry, marker *string, maxItems *int64,
) (*iammodel.SimulatePolicyResponse, error) {
	more, err := s.inputPolicies(policies, "PolicyInputList")
	if err != nil {
		return nil, err
	}
	sim.set.Identity = append(sim.set.Identity, more...)
	limits, err := s.inputPolicies(boundaries, "PermissionsBoundaryPolicyInputList")
	if err != nil {
		return nil, err
	}
	if len(limits) > 0 {
		sim.set.Boundary, sim.boundary = limits, true
	}
	if resource != nil {
		doc, err := s.policies.Parse(*resource, policy.Resource)
		if err != nil {
			return nil, iammodel.ErrInvalidInput("Invalid ResourcePolicy: %w", err)
		}
		sim.set.Resource = &policy.Source{
			Name: "ResourcePolicy", Document: doc, ID: "ResourcePolicy", Type: iammodel.PolicySourceTypeResource,
		}
		if caller == nil {
			return nil, iammodel.ErrInvalidInput("CallerArn is required with ResourcePolicy")
		}
	}
	if caller != nil {
		if _, kind, _, _, ok := splitARN(*caller); !ok || kind != kindUser {
			return nil, iammodel.ErrInvalidInput("Invalid CallerArn: %s is not the ARN of a user", *caller)
		}
		sim.principal = policy.Principal{ARN: *caller, AccountID: accountOf(*caller)}
	}
	sim.owner = accountOf(model.Val(owner))
	sim.context = make(policy.ContextMap)
	for _, e := range entries {
		sim.context[strings.ToLower(model.Val(e.ContextKeyName))] = e.ContextKeyValues
	}
	sim.addPrincipal()
	return sim.run(marker, maxItems)
}

// addPrincipal adds the keys that the simulated caller answers, unless the request gave them.
func (sim *simulation) addPrincipal() {
	var keys map[string]string
	switch {
	case sim.principal.ARN != "":
		_, _, _, name, _ := splitARN(sim.principal.ARN)
		keys = map[string]string{
			"aws:username": name, "aws:principalarn": sim.principal.ARN, "aws:principalaccount": sim.principal.AccountID,
			"aws:principaltype": principalType(authn.KindUser),
		}
	case sim.role != "":
		keys = map[string]string{
			"aws:principalarn": sim.role, "aws:principalaccount": accountOf(sim.role),
			"aws:principaltype": principalType(authn.KindRole),
		}
	}
	for key, value := range keys {
		if _, ok := sim.context[key]; !ok {
			sim.context[key] = []string{value}
		}
	}
}

// run answers every action on every resource; results of one action come together.
func (sim *simulation) run(marker *string, maxItems *int64) (*iammodel.SimulatePolicyResponse, error) {
	resources := sim.resources
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	type pair struct {
		action, resource string
		order            string
	}
	var pairs []pair
	for _, a := range sim.actions {
		if vendor, name, ok := strings.Cut(a, ":"); a != "*" && (!ok || vendor == "" || name == "") {
			return nil, iammodel.ErrInvalidInput("Invalid ActionNames: %s is not prefaced by a vendor", a)
		}
		for _, r := range resources {
			pairs = append(pairs, pair{a, r, fmt.Sprintf("%08d", len(pairs))})
		}
	}
	p, err := paginate(pairs, func(p pair) string { return p.order }, marker, maxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.SimulatePolicyResponse{
		IsTruncated: p.truncated, Marker: p.marker, EvaluationResults: []iammodel.EvaluationResult{},
	}
	for _, q := range p.items {
		out.EvaluationResults = append(out.EvaluationResults, sim.one(q.action, q.resource))
	}
	return out, nil
}

func viewPosition(p policy.Position) *iammodel.Position {
	return &iammodel.Position{Line: model.Ptr(int64(p.Line)), Column: model.Ptr(int64(p.Column))}
}

// GetContextKeysForCustomPolicy lists the condition keys that given policies ask for.
func (s *Service) GetContextKeysForCustomPolicy(
	_ context.Context, in *iammodel.GetContextKeysForCustomPolicyInput,
) (*iammodel.GetContextKeysForCustomPolicyOutput, error) {
	sources, err := s.inputPolicies(in.PolicyInputList, "PolicyInputList")
	return &iammodel.GetContextKeysForPolicyResponse{ContextKeyNames: contextKeys(sources)}, err
}

// GetContextKeysForPrincipalPolicy lists the condition keys that an entity's policies, and given ones, ask for.
func (s *Service) GetContextKeysForPrincipalPolicy(
	ctx context.Context, in *iammodel.GetContextKeysForPrincipalPolicyInput,
) (*iammodel.GetContextKeysForPrincipalPolicyOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	have, err := s.sourcesOf(ctx, id, model.Val(in.PolicySourceArn))
	if err != nil {
		return nil, err
	}
	more, err := s.inputPolicies(in.PolicyInputList, "PolicyInputList")
	keys := contextKeys(append(append([]policy.Source{}, have...), more...))
	return &iammodel.GetContextKeysForPolicyResponse{ContextKeyNames: keys}, err
}

func contextKeys(sources []policy.Source) []string {
	keys := []string{}
	seen := make(map[string]bool)
	for _, src := range sources {
		for _, k := range src.Document.ContextKeys() {
			if !seen[strings.ToLower(k)] {
				seen[strings.ToLower(k)] = true
				keys = append(keys, k)
			}
		}
	}
	return sortedBy(keys, sameText)
}
