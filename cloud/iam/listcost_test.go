package iam_test

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// many makes entities of each kind: so many roles, and a tenth of the others. Every tenth role is below /ten/, and all
// have the policy whose ARN is returned.
func (w *world) many(t *testing.T, roles int) string {
	t.Helper()
	ctx := w.root(t, demoAccount)
	arn := w.managed(ctx, t, "common", allowAll)
	for i := range roles {
		name := fmt.Sprintf("e-%04d", i)
		in := &iammodel.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: model.Ptr(trustDemo)}
		if i%10 == 0 {
			in.Path = model.Ptr("/ten/")
			must(ctx, t, w.CreateUser, &iammodel.CreateUserInput{UserName: &name})
			must(ctx, t, w.CreateGroup, &iammodel.CreateGroupInput{GroupName: &name})
			must(ctx, t, w.CreateInstanceProfile, &iammodel.CreateInstanceProfileInput{InstanceProfileName: &name})
			w.managed(ctx, t, name, allowAll)
		}
		must(ctx, t, w.CreateRole, in)
		must(ctx, t, w.AttachRolePolicy, &iammodel.AttachRolePolicyInput{RoleName: &name, PolicyArn: &arn})
	}
	return arn
}

const trustDemo = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},` +
	`"Action":"sts:AssumeRole"}]}`

var listedName = regexp.MustCompile(`<(?:RoleName|UserName|GroupName|InstanceProfileName|PolicyName)>(e-\d+|common)<`)

// TestListsCostTheirPage counts the records that are read for a page of ten: about as many, whatever the table holds.
func TestListsCostTheirPage(t *testing.T) {
	w := newWorld(t)
	arn := w.many(t, 1000)
	ctx := w.root(t, demoAccount)
	tests := []struct {
		op   string
		form url.Values
		most uint64 // records read
	}{
		{"ListRoles", nil, 11},
		{"ListUsers", nil, 11},
		{"ListGroups", nil, 11},
		{"ListInstanceProfiles", nil, 11},
		{"ListPolicies", url.Values{"Scope": {"Local"}}, 22}, // and who uses them
		{"ListPolicies", nil, 22},
		{"ListEntitiesForPolicy", url.Values{"PolicyArn": {arn}, "EntityFilter": {"Role"}}, 24},
		{"ListEntitiesForPolicy", url.Values{"PolicyArn": {arn}}, 24}, // its use, and who has it, twice
		{"GetAccountAuthorizationDetails", nil, 11},
		{"GetAccountAuthorizationDetails", url.Values{"Filter.member.1": {"Role"}}, 21}, // and their last use
		{"ListRoles", url.Values{"PathPrefix": {"/ten/"}}, 200},
	}
	for _, tt := range tests {
		t.Run(tt.op+" "+tt.form.Encode(), func(t *testing.T) {
			form := url.Values{"MaxItems": {"10"}}
			for name, values := range tt.form {
				form[name] = values
			}
			before := w.store.RecordsRead()
			text, err := w.wire(ctx, tt.op, form)
			if err != nil {
				t.Fatal(err)
			}
			if read := w.store.RecordsRead() - before; read > tt.most {
				t.Errorf("%d records were read, want at most %d", read, tt.most)
			}
			if n := len(listedName.FindAllString(text, -1)); n < 10 {
				t.Errorf("%d entities are listed, want 10:\n%.2000s", n, text)
			}
			if !strings.Contains(text, "<IsTruncated>true</IsTruncated>") {
				t.Error("the page does not say that there are more")
			}
		})
	}
	t.Run("whole", func(t *testing.T) { w.wholeLists(t, arn) })
	t.Run("filter that keeps nothing", func(t *testing.T) {
		before := w.store.RecordsRead()
		out := must(ctx, t, w.ListRoles, &iammodel.ListRolesInput{PathPrefix: model.Ptr("/none/")})
		if len(out.Roles) != 0 || *out.IsTruncated {
			t.Errorf("%d roles, more %t", len(out.Roles), *out.IsTruncated)
		}
		if read := w.store.RecordsRead() - before; read > 1000 {
			t.Errorf("%d records were read for a table of 1000", read)
		}
	})
	t.Run("again", func(t *testing.T) {
		list := &iammodel.ListRolesInput{MaxItems: model.Ptr(int64(1000))}
		first := must(ctx, t, w.ListRoles, list)
		for read, tries := uint64(1), 0; read != 0; tries++ { // the store's echoes of the writes above come in between
			before := w.store.RecordsRead()
			if again := must(ctx, t, w.ListRoles, list); len(again.Roles) != len(first.Roles) {
				t.Fatalf("%d roles, then %d", len(first.Roles), len(again.Roles))
			}
			if read = w.store.RecordsRead() - before; tries > 1000 {
				t.Fatalf("%d records were read for what was listed before", read)
			}
		}
		must(ctx, t, w.UpdateRoleDescription, &iammodel.UpdateRoleDescriptionInput{
			RoleName: first.Roles[7].RoleName, Description: model.Ptr("changed"),
		})
		if now := must(ctx, t, w.ListRoles, list); model.Val(now.Roles[7].Description) != "changed" {
			t.Error("a list does not show what was written before")
		}
	})
}

// wholeLists reads lists to their ends in pages of 7: nothing is missing or there twice.
func (w *world) wholeLists(t *testing.T, arn string) {
	t.Helper()
	ctx := w.root(t, demoAccount)
	tests := []struct {
		op   string
		form url.Values
		want int
	}{
		{"ListRoles", nil, 1000},
		{"ListRoles", url.Values{"PathPrefix": {"/ten/"}}, 100},
		{"ListPolicies", url.Values{"Scope": {"Local"}}, 101},
		{"ListPolicies", url.Values{"OnlyAttached": {"true"}}, 1},
		{"ListEntitiesForPolicy", url.Values{"PolicyArn": {arn}}, 1000},
		{"GetAccountAuthorizationDetails", nil, 100 + 100 + 2*1000 + 101}, // a role's detail names its policy
	}
	marker := regexp.MustCompile(`<Marker>([^<]*)</Marker>`)
	for _, tt := range tests {
		var names []string
		form := url.Values{"MaxItems": {"7"}}
		for name, values := range tt.form {
			form[name] = values
		}
		for pages := 0; ; pages++ {
			text, err := w.wire(ctx, tt.op, form)
			if err != nil || pages > 1000 {
				t.Fatalf("%s: page %d: %v", tt.op, pages, err)
			}
			for _, m := range listedName.FindAllStringSubmatch(text, -1) {
				names = append(names, m[0])
			}
			next := marker.FindStringSubmatch(text)
			if next == nil {
				break
			}
			form.Set("Marker", next[1])
		}
		if len(names) != tt.want {
			t.Errorf("%s %s: %d entities in all pages, want %d", tt.op, tt.form.Encode(), len(names), tt.want)
		}
		if tt.op == "ListRoles" && (!slices.IsSorted(names) || len(slices.Compact(names)) != tt.want) {
			t.Errorf("%s: the roles are not in order, each once", tt.op)
		}
	}
}

// TestMarkers shows that a marker is good only as it was given, and only in the list that gave it.
func TestMarkers(t *testing.T) {
	w := newWorld(t)
	ctx, other := w.root(t, demoAccount), w.root(t, otherAccount)
	for i := range 3 {
		name := "u" + strconv.Itoa(i)
		must(ctx, t, w.CreateUser, &iammodel.CreateUserInput{UserName: &name})
		w.managed(ctx, t, name, allowAll)
	}
	one := model.Ptr(int64(1))
	given := must(ctx, t, w.ListUsers, &iammodel.ListUsersInput{MaxItems: one}).Marker
	if _, err := w.ListUsers(ctx, &iammodel.ListUsersInput{MaxItems: one, Marker: given}); err != nil {
		t.Fatal(err)
	}
	policies := must(ctx, t, w.ListPolicies, &iammodel.ListPoliciesInput{MaxItems: one}).Marker
	altered := []byte(*given)
	altered[len(altered)-2] ^= 1
	for name, marker := range map[string]string{
		"altered": string(altered), "cut": (*given)[:len(*given)-1], "no marker": "?", "too short": "AAAA",
		"another list's": *policies,
	} {
		_, err := w.ListUsers(ctx, &iammodel.ListUsersInput{Marker: &marker})
		if code(err) != "ValidationError" {
			t.Errorf("%s: %v, want a ValidationError", name, err)
		}
	}
	_, err := w.ListUsers(other, &iammodel.ListUsersInput{Marker: given})
	wantCode(t, err, "ValidationError")
	_, err = w.ListPolicies(ctx, &iammodel.ListPoliciesInput{Marker: given})
	wantCode(t, err, "ValidationError")
	_, err = w.ListPolicies(ctx, &iammodel.ListPoliciesInput{Marker: policies, Scope: model.Ptr("AWS")})
	wantCode(t, err, "ValidationError")
}
