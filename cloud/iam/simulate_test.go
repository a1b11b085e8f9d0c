package iam_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestSimulationCountsServiceControl: what limits the account limits its simulated principals, and is told as AWS
// Organizations' part.
func TestSimulationCountsServiceControl(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	w.user(t, "alice", allow("*", "*"))
	in := &iammodel.SimulatePrincipalPolicyInput{
		PolicySourceArn: model.Ptr("arn:aws:iam::" + demoAccount + ":user/alice"),
		ActionNames:     []string{"s3:GetObject", "s3:DeleteObject", "ec2:RunInstances"},
	}
	for _, r := range must(ctx, t, w.SimulatePrincipalPolicy, in).EvaluationResults {
		if *r.EvalDecision != "allowed" || r.OrganizationsDecisionDetail != nil {
			t.Errorf("without a limit: %s is %s, %v", *r.EvalActionName, *r.EvalDecision, r.OrganizationsDecisionDetail)
		}
	}
	const limit = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"},` +
		`{"Effect":"Deny","Action":"s3:Delete*","Resource":"*"}]}`
	if err := w.SetServiceControl(t.Context(), demoAccount, []iam.ControlPolicy{{Name: "limit", Document: limit}}); err !=
		nil {
		t.Fatal(err)
	}
	type answer struct {
		Decision string
		ByOrgs   bool
		Matched  int
	}
	var got []answer
	for _, r := range must(ctx, t, w.SimulatePrincipalPolicy, in).EvaluationResults {
		got = append(got, answer{*r.EvalDecision, *r.OrganizationsDecisionDetail.AllowedByOrganizations,
			len(r.MatchedStatements)})
	}
	// The statement that matched is the user's own: the limit's text is not the account's to see.
	want := []answer{{"allowed", true, 1}, {"explicitDeny", false, 1}, {"implicitDeny", false, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// TestSimulationOfResources tells of each resource beside the whole, and of both sides of a request across accounts.
func TestSimulationOfResources(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	const own, foreign = "arn:aws:sqs:us-east-1:" + demoAccount + ":q", "arn:aws:sqs:us-east-1:" + otherAccount + ":q"
	w.user(t, "alice", allow("sqs:*", "*"))
	simulate := func(resource, queuePolicy string) iammodel.EvaluationResult {
		in := &iammodel.SimulatePrincipalPolicyInput{
			PolicySourceArn: model.Ptr("arn:aws:iam::" + demoAccount + ":user/alice"),
			ActionNames:     []string{"sqs:SendMessage"}, ResourceArns: []string{resource},
			PermissionsBoundaryPolicyInputList: []string{allow("*", "*")},
		}
		if queuePolicy != "" {
			in.ResourcePolicy = &queuePolicy
		}
		return must(ctx, t, w.SimulatePrincipalPolicy, in).EvaluationResults[0]
	}
	const open = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + demoAccount +
		`"},"Action":"sqs:*","Resource":"*"}]}`
	for _, tt := range []struct {
		name, resource, policy, decision string
		details                          map[string]string
		alone                            bool // without results of its own
	}{
		{"any", "*", "", "allowed", nil, true},
		{"own", own, "", "allowed", map[string]string{}, false},
		{"another account's, closed", foreign, "", "implicitDeny",
			map[string]string{"IAM Policy": "allowed", "Resource Policy": "implicitDeny"}, false},
		{"another account's, open", foreign, open, "allowed",
			map[string]string{"IAM Policy": "allowed", "Resource Policy": "allowed"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := simulate(tt.resource, tt.policy)
			if *r.EvalDecision != tt.decision || !*r.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary {
				t.Errorf("decision %s", *r.EvalDecision)
			}
			if diff := cmp.Diff(tt.details, r.EvalDecisionDetails); diff != "" {
				t.Errorf("details (-want +got):\n%s", diff)
			}
			if tt.alone {
				if len(r.ResourceSpecificResults) != 0 {
					t.Errorf("results of no resource: %v", r.ResourceSpecificResults)
				}
				return
			}
			if len(r.ResourceSpecificResults) != 1 {
				t.Fatalf("%d results of one resource", len(r.ResourceSpecificResults))
			}
			one := r.ResourceSpecificResults[0]
			if *one.EvalResourceName != tt.resource || *one.EvalResourceDecision != tt.decision ||
				!cmp.Equal(one.MatchedStatements, r.MatchedStatements) || one.PermissionsBoundaryDecisionDetail == nil {
				t.Errorf("result of the resource: %+v", one)
			}
		})
	}
}

// TestSimulationOfRole has the keys that a role's session would have.
func TestSimulationOfRole(t *testing.T) {
	w := newWorld(t)
	arn := w.role(t, demoAccount, "r", trustEC2, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*",`+
		`"Resource":"*","Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::`+demoAccount+`:role/r"},`+
		`"StringEquals":{"aws:PrincipalAccount":"`+demoAccount+`","aws:PrincipalType":"AssumedRole"},`+
		`"Null":{"aws:username":"true"}}}]}`)
	for value, want := range map[string]string{"": "allowed", "arn:aws:iam::" + demoAccount + ":role/s": "implicitDeny"} {
		in := &iammodel.SimulatePrincipalPolicyInput{PolicySourceArn: &arn, ActionNames: []string{"s3:GetObject"}}
		if value != "" { // what the request says counts more
			in.ContextEntries = []iammodel.ContextEntry{{ContextKeyName: model.Ptr("aws:PrincipalArn"),
				ContextKeyType: model.Ptr("string"), ContextKeyValues: []string{value}}}
		}
		r := must(w.root(t, demoAccount), t, w.SimulatePrincipalPolicy, in).EvaluationResults[0]
		if *r.EvalDecision != want || value == "" && len(r.MissingContextValues) != 1 {
			t.Errorf("as %q: %s, missing %v", value, *r.EvalDecision, r.MissingContextValues)
		}
	}
}
