package iam_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// who lists those who have a policy of the demo account, as groups, roles and users.
func (w *world) who(t *testing.T, arn, usage string) []string {
	t.Helper()
	in := &iammodel.ListEntitiesForPolicyInput{PolicyArn: &arn}
	if usage != "" {
		in.PolicyUsageFilter = &usage
	}
	out := must(w.root(t, demoAccount), t, w.ListEntitiesForPolicy, in)
	found := []string{}
	for _, g := range out.PolicyGroups {
		found = append(found, "group "+*g.GroupName)
	}
	for _, r := range out.PolicyRoles {
		found = append(found, "role "+*r.RoleName)
	}
	for _, u := range out.PolicyUsers {
		found = append(found, "user "+*u.UserName)
	}
	return found
}

// TestWhoHasAPolicy follows a policy's holders: whatever is done to them or with it shows at once.
func TestWhoHasAPolicy(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	arn, other := w.managed(ctx, t, "shared", allowAll), w.managed(ctx, t, "shared2", allowAll)
	user, group, role := model.Ptr("Ann"), model.Ptr("Staff"), model.Ptr("Worker")
	const permissions, boundary = "PermissionsPolicy", "PermissionsBoundary"
	for _, step := range []struct {
		name                string
		do                  func()
		any, asPart, asEdge []string // who has it anyhow, as permissions, as a boundary
	}{
		{name: "nobody", do: func() {}},
		{
			name: "with boundaries from the start", do: func() {
				must(ctx, t, w.CreateUser, &iammodel.CreateUserInput{UserName: user, PermissionsBoundary: &arn})
				must(ctx, t, w.CreateRole, &iammodel.CreateRoleInput{
					RoleName: role, AssumeRolePolicyDocument: model.Ptr(trustDemo), PermissionsBoundary: &other,
				})
				must(ctx, t, w.CreateGroup, &iammodel.CreateGroupInput{GroupName: group})
			},
			any: []string{"user Ann"}, asEdge: []string{"user Ann"},
		},
		{
			name: "attached, to one of them twice", do: func() {
				must(ctx, t, w.AttachUserPolicy, &iammodel.AttachUserPolicyInput{UserName: user, PolicyArn: &arn})
				must(ctx, t, w.AttachRolePolicy, &iammodel.AttachRolePolicyInput{RoleName: role, PolicyArn: &arn})
				for range 2 {
					must(ctx, t, w.AttachGroupPolicy, &iammodel.AttachGroupPolicyInput{GroupName: group, PolicyArn: &arn})
				}
			},
			any:    []string{"group Staff", "role Worker", "user Ann"},
			asPart: []string{"group Staff", "role Worker", "user Ann"}, asEdge: []string{"user Ann"},
		},
		{
			name: "other names", do: func() {
				must(ctx, t, w.UpdateUser, &iammodel.UpdateUserInput{UserName: user, NewUserName: model.Ptr("Bea")})
				must(ctx, t, w.UpdateGroup, &iammodel.UpdateGroupInput{GroupName: group, NewGroupName: model.Ptr("STAFF")})
				must(ctx, t, w.UpdateGroup, &iammodel.UpdateGroupInput{
					GroupName: model.Ptr("STAFF"), NewGroupName: model.Ptr("Crew"),
				})
			},
			any:    []string{"group Crew", "role Worker", "user Bea"},
			asPart: []string{"group Crew", "role Worker", "user Bea"}, asEdge: []string{"user Bea"},
		},
		{
			name: "another boundary", do: func() {
				must(ctx, t, w.PutRolePermissionsBoundary, &iammodel.PutRolePermissionsBoundaryInput{
					RoleName: role, PermissionsBoundary: &arn,
				})
				must(ctx, t, w.DetachUserPolicy, &iammodel.DetachUserPolicyInput{UserName: model.Ptr("Bea"), PolicyArn: &arn})
			},
			any:    []string{"group Crew", "role Worker", "user Bea"},
			asPart: []string{"group Crew", "role Worker"}, asEdge: []string{"role Worker", "user Bea"},
		},
		{
			name: "gone", do: func() {
				must(ctx, t, w.DeleteUser, &iammodel.DeleteUserInput{UserName: model.Ptr("Bea")})
				must(ctx, t, w.DetachRolePolicy, &iammodel.DetachRolePolicyInput{RoleName: role, PolicyArn: &arn})
				must(ctx, t, w.DeleteRolePermissionsBoundary, &iammodel.DeleteRolePermissionsBoundaryInput{RoleName: role})
			},
			any: []string{"group Crew"}, asPart: []string{"group Crew"},
		},
	} {
		step.do()
		for usage, want := range map[string][]string{"": step.any, permissions: step.asPart, boundary: step.asEdge} {
			if diff := cmp.Diff(append([]string{}, want...), w.who(t, arn, usage)); diff != "" {
				t.Errorf("%s, usage %q (-want +got):\n%s", step.name, usage, diff)
			}
		}
	}
	if n := w.count(t, "iam-policy-holders"); n != 1 {
		t.Errorf("%d holders are noted, want the one that is left", n)
	}
	if found := w.who(t, other, ""); len(found) != 0 {
		t.Errorf("%v have the policy that nobody has", found)
	}
}

// TestHoldersOfAnOlderStore shows that none is forgotten who had a policy before there was an index of them.
func TestHoldersOfAnOlderStore(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	arn := w.managed(ctx, t, "shared", allowAll)
	attach := func(name string) {
		w.role(t, demoAccount, name, trustDemo, "")
		must(ctx, t, w.AttachRolePolicy, &iammodel.AttachRolePolicyInput{RoleName: &name, PolicyArn: &arn})
	}
	attach("old")
	index := store.NewTable[map[string]int](w.store, "iam-policy-holders")
	keys, err := index.Keys(t.Context(), "")
	if err != nil || len(keys) != 1 {
		t.Fatalf("the index has %v, error %v", keys, err)
	}
	if err := index.Delete(t.Context(), keys[0]); err != nil {
		t.Fatal(err)
	}
	uses := store.NewTable[map[string]int](w.store, "iam-policy-uses")
	if err := uses.Put(t.Context(), demoAccount+"/"+arn, map[string]int{"Attached": 1}); err != nil {
		t.Fatal(err)
	}
	attach("new")
	if found := w.who(t, arn, ""); !slices.Equal(found, []string{"role new", "role old"}) {
		t.Errorf("%v have the policy, want old and new", found)
	}
	detach := &iammodel.DetachRolePolicyInput{RoleName: model.Ptr("old"), PolicyArn: &arn}
	must(ctx, t, w.DetachRolePolicy, detach)
	if found := w.who(t, arn, ""); !slices.Equal(found, []string{"role new"}) {
		t.Errorf("%v have the policy, want new", found)
	}
	for i := range 20 {
		w.role(t, demoAccount, fmt.Sprintf("without-%02d", i), trustDemo, "")
	}
	before := w.store.RecordsRead()
	w.who(t, arn, "")
	if read := w.store.RecordsRead() - before; read > 10 { // the caller's own and the policy's among them
		t.Errorf("%d records were read for one role, which is the index's only one", read)
	}
}
