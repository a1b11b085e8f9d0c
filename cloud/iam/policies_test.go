package iam_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// managed makes a managed policy of the demo account and returns its ARN.
func (w *world) managed(ctx context.Context, t testing.TB, name, document string) string {
	t.Helper()
	out := must(ctx, t, w.CreatePolicy, &iammodel.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
	return *out.Policy.Arn
}

// may tells what Authorize says, as an error code.
func (w *world) may(t testing.TB, c authn.Caller, action string) string {
	t.Helper()
	return code(w.Authorize(t.Context(), c, action, nil, nil))
}

// TestManagedPolicyReachesItsHolders goes through every way in which a user or role has a managed policy, and through
// its end.
func TestManagedPolicyReachesItsHolders(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	alice := w.user(t, "alice", "")
	arn := w.managed(ctx, t, "p", allow("s3:*", "*"))
	name, group := model.Ptr("alice"), model.Ptr("g")
	must(ctx, t, w.CreateGroup, &iammodel.CreateGroupInput{GroupName: group})
	want := func(when, code string) {
		t.Helper()
		if got := w.may(t, alice, "s3:GetObject"); got != code {
			t.Errorf("%s: %q, want %q", when, got, code)
		}
	}
	want("without", "AccessDenied")
	must(ctx, t, w.AttachUserPolicy, &iammodel.AttachUserPolicyInput{UserName: name, PolicyArn: &arn})
	want("attached", "")
	must(ctx, t, w.CreatePolicyVersion, &iammodel.CreatePolicyVersionInput{
		PolicyArn: &arn, PolicyDocument: model.Ptr(allow("sqs:*", "*")), SetAsDefault: model.Ptr(true),
	})
	want("another default version", "AccessDenied")
	must(ctx, t, w.SetDefaultPolicyVersion, &iammodel.SetDefaultPolicyVersionInput{
		PolicyArn: &arn, VersionId: model.Ptr("v1"),
	})
	want("back again", "")
	_, err := w.DeletePolicy(ctx, &iammodel.DeletePolicyInput{PolicyArn: &arn})
	wantCode(t, err, "DeleteConflict")
	must(ctx, t, w.DetachUserPolicy, &iammodel.DetachUserPolicyInput{UserName: name, PolicyArn: &arn})
	want("detached", "AccessDenied")
	must(ctx, t, w.AttachGroupPolicy, &iammodel.AttachGroupPolicyInput{GroupName: group, PolicyArn: &arn})
	must(ctx, t, w.AddUserToGroup, &iammodel.AddUserToGroupInput{GroupName: group, UserName: name})
	want("by group", "")
	must(ctx, t, w.UpdateGroup, &iammodel.UpdateGroupInput{GroupName: group, NewGroupName: model.Ptr("h")})
	want("by the renamed group", "")
	_, err = w.DeleteUser(ctx, &iammodel.DeleteUserInput{UserName: name})
	wantCode(t, err, "DeleteConflict")
	must(ctx, t, w.RemoveUserFromGroup, &iammodel.RemoveUserFromGroupInput{GroupName: model.Ptr("h"), UserName: name})
	want("out of the group", "AccessDenied")
}

func TestBoundaryAndControlLimit(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	alice := w.user(t, "alice", allowAll)
	arn := w.managed(ctx, t, "limit", allow("s3:*", "*"))
	must(ctx, t, w.PutUserPermissionsBoundary, &iammodel.PutUserPermissionsBoundaryInput{
		UserName: model.Ptr("alice"), PermissionsBoundary: &arn,
	})
	err := w.Authorize(t.Context(), alice, "sqs:SendMessage", nil, nil)
	if code(err) != "AccessDenied" || !strings.Contains(err.Error(), "because no permissions boundary allows") {
		t.Errorf("outside the boundary: %v", err)
	}
	if got := w.may(t, alice, "s3:GetObject"); got != "" {
		t.Errorf("inside the boundary: %s", got)
	}
	_, err = w.DeletePolicy(ctx, &iammodel.DeletePolicyInput{PolicyArn: &arn})
	wantCode(t, err, "DeleteConflict")
	must(ctx, t, w.DeleteUserPermissionsBoundary, &iammodel.DeleteUserPermissionsBoundaryInput{
		UserName: model.Ptr("alice"),
	})
	must(ctx, t, w.DeletePolicy, &iammodel.DeletePolicyInput{PolicyArn: &arn})

	deny := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},` +
		`{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}`
	control := []iam.ControlPolicy{{Name: "no-s3", Document: deny}}
	if err := w.SetServiceControl(t.Context(), demoAccount, control); err != nil {
		t.Fatal(err)
	}
	for who, c := range map[string]authn.Caller{"user": alice, "root": authn.CallerFrom(ctx)} {
		err := w.Authorize(t.Context(), c, "s3:GetObject", nil, nil)
		if code(err) != "AccessDenied" ||
			!strings.Contains(err.Error(), "with an explicit deny in a service control policy") {
			t.Errorf("%s against the control policy: %v", who, err)
		}
		if got := w.may(t, c, "sqs:SendMessage"); got != "" {
			t.Errorf("%s beside the control policy: %s", who, got)
		}
	}
	if err := w.SetServiceControl(t.Context(), systemAccount, nil); err == nil {
		t.Error("the system account can be limited")
	}
}

func TestPolicyQuotas(t *testing.T) {
	w := newWorld(t, func(c *iam.Config) { c.Quotas.Policies = 2; c.Quotas.Groups = 1 })
	ctx := w.root(t, demoAccount)
	arn := w.managed(ctx, t, "p", allowAll)
	version := &iammodel.CreatePolicyVersionInput{PolicyArn: &arn, PolicyDocument: model.Ptr(allowAll)}
	for range 4 {
		must(ctx, t, w.CreatePolicyVersion, version)
	}
	create := func(name, document string) error {
		_, err := w.CreatePolicy(ctx, &iammodel.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
		return err
	}
	_, versions := w.CreatePolicyVersion(ctx, version)
	size, twice := create("long", allow("s3:*", "arn:aws:s3:::"+strings.Repeat("a", 6144))), create("P", allowAll)
	w.managed(ctx, t, "q", allowAll)
	policies := create("r", allowAll)
	_, removed := w.DeletePolicyVersion(ctx, &iammodel.DeletePolicyVersionInput{
		PolicyArn: &arn, VersionId: model.Ptr("v1"),
	})
	_, foreign := w.GetPolicy(w.root(t, otherAccount), &iammodel.GetPolicyInput{PolicyArn: &arn})
	_, amazon := w.DeletePolicy(ctx, &iammodel.DeletePolicyInput{
		PolicyArn: model.Ptr("arn:aws:iam::aws:policy/ReadOnlyAccess"),
	})
	must(ctx, t, w.CreateGroup, &iammodel.CreateGroupInput{GroupName: model.Ptr("g")})
	_, groups := w.CreateGroup(ctx, &iammodel.CreateGroupInput{GroupName: model.Ptr("h")})
	for name, tt := range map[string]struct {
		err  error
		code string
	}{
		"a sixth version": {versions, "LimitExceeded"}, "a long document": {size, "LimitExceeded"},
		"the same name": {twice, "EntityAlreadyExists"}, "a third policy": {policies, "LimitExceeded"},
		"the default version": {removed, "DeleteConflict"}, "another account's": {foreign, "NoSuchEntity"},
		"AWS's own": {amazon, "AccessDenied"}, "a second group": {groups, "LimitExceeded"},
	} {
		if code(tt.err) != tt.code {
			t.Errorf("%s: %v, want %s", name, tt.err, tt.code)
		}
	}
}

// TestListsInPages reads groups in pages, each by the marker of the one before, while one is deleted.
func TestListsInPages(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	for _, name := range []string{"a", "B", "c", "d", "E"} {
		must(ctx, t, w.CreateGroup, &iammodel.CreateGroupInput{GroupName: model.Ptr(name), Path: model.Ptr("/x/")})
	}
	var got []string
	in := &iammodel.ListGroupsInput{MaxItems: model.Ptr(int64(2)), PathPrefix: model.Ptr("/x")}
	for {
		out := must(ctx, t, w.ListGroups, in)
		for _, g := range out.Groups {
			got = append(got, *g.GroupName)
		}
		if len(got) == 2 {
			must(ctx, t, w.DeleteGroup, &iammodel.DeleteGroupInput{GroupName: model.Ptr("a")})
		}
		if !*out.IsTruncated {
			break
		}
		in.Marker = out.Marker
	}
	if strings.Join(got, "") != "aBcdE" {
		t.Errorf("groups %v", got)
	}
	_, err := w.ListGroups(ctx, &iammodel.ListGroupsInput{Marker: model.Ptr("?")})
	wantCode(t, err, "ValidationError")
}

func TestSimulation(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	w.user(t, "alice", `{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Action":"s3:*","Resource":"*"},
  {"Effect":"Deny","Action":"s3:Delete*","Resource":"*"},
  {"Effect":"Allow","Action":"sqs:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}]}`)
	arn := model.Ptr("arn:aws:iam::" + demoAccount + ":user/alice")
	out := must(ctx, t, w.SimulatePrincipalPolicy, &iammodel.SimulatePrincipalPolicyInput{
		PolicySourceArn: arn, ActionNames: []string{"s3:GetObject", "s3:DeleteObject", "iam:GetUser", "sqs:SendMessage"},
	})
	want := []string{"allowed 1", "explicitDeny 2", "implicitDeny 0", "implicitDeny 0"}
	for i, r := range out.EvaluationResults {
		if got := *r.EvalDecision + " " + string(rune('0'+len(r.MatchedStatements))); got != want[i] {
			t.Errorf("%s: %s, want %s", *r.EvalActionName, got, want[i])
		}
	}
	first := out.EvaluationResults[0].MatchedStatements[0]
	if *first.SourcePolicyId != "user_alice_p" || *first.SourcePolicyType != "user" || *first.StartPosition.Line != 2 ||
		*first.StartPosition.Column != 3 {
		t.Errorf("matched %s %s at %d:%d", *first.SourcePolicyId, *first.SourcePolicyType, *first.StartPosition.Line,
			*first.StartPosition.Column)
	}
	if missing := out.EvaluationResults[3].MissingContextValues; len(missing) != 1 || missing[0] != "aws:SecureTransport" {
		t.Errorf("missing keys %v", missing)
	}
	out = must(ctx, t, w.SimulatePrincipalPolicy, &iammodel.SimulatePrincipalPolicyInput{
		PolicySourceArn: arn, ActionNames: []string{"sqs:SendMessage"},
		ContextEntries: []iammodel.ContextEntry{{ContextKeyName: model.Ptr("aws:SecureTransport"),
			ContextKeyType: model.Ptr("boolean"), ContextKeyValues: []string{"true"}}},
		PermissionsBoundaryPolicyInputList: []string{allow("s3:*", "*")},
	})
	r := out.EvaluationResults[0]
	if *r.EvalDecision != "implicitDeny" || *r.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary {
		t.Errorf("outside the boundary: %s", *r.EvalDecision)
	}
	_, err := w.SimulateCustomPolicy(ctx, &iammodel.SimulateCustomPolicyInput{
		PolicyInputList: []string{"{"}, ActionNames: []string{"s3:GetObject"},
	})
	wantCode(t, err, "InvalidInput")
}
