package iam_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

func trustAWS(principal string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal +
		`"},"Action":"sts:AssumeRole"}]}`
}

// role makes a role with one inline policy, if any, and returns its ARN.
func (w *world) role(t testing.TB, accountID, name, trust, policy string) string {
	t.Helper()
	ctx := w.root(t, accountID)
	out := must(ctx, t, w.CreateRole, &iammodel.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust})
	if policy != "" {
		must(ctx, t, w.PutRolePolicy, &iammodel.PutRolePolicyInput{
			RoleName: &name, PolicyName: model.Ptr("p"), PolicyDocument: &policy,
		})
	}
	return *out.Role.Arn
}

func TestRoles(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	created := must(ctx, t, w.CreateRole, &iammodel.CreateRoleInput{
		RoleName: model.Ptr("s3access"), Path: model.Ptr("/app/"), AssumeRolePolicyDocument: model.Ptr(trustEC2),
		Description: model.Ptr("d"), MaxSessionDuration: model.Ptr(int64(7200)),
	}).Role
	if *created.Arn != "arn:aws:iam::"+demoAccount+":role/app/s3access" || !strings.HasPrefix(*created.RoleId, "AROA") {
		t.Errorf("role %s, %s", *created.Arn, *created.RoleId)
	}
	got := must(ctx, t, w.GetRole, &iammodel.GetRoleInput{RoleName: model.Ptr("s3access")}).Role
	created.RoleLastUsed = &iammodel.RoleLastUsed{} // nobody used it
	if diff := cmp.Diff(created, got); diff != "" {
		t.Errorf("GetRole (-want +got):\n%s", diff)
	}
	if text, err := url.PathUnescape(*got.AssumeRolePolicyDocument); err != nil || text != trustEC2 {
		t.Errorf("trust policy %s, %v", text, err)
	}
	list := must(ctx, t, w.ListRoles, &iammodel.ListRolesInput{PathPrefix: model.Ptr("/app")})
	if len(list.Roles) != 1 {
		t.Errorf("%d roles listed", len(list.Roles))
	}
	must(ctx, t, w.UpdateRole, &iammodel.UpdateRoleInput{RoleName: model.Ptr("s3access")})
	got = must(ctx, t, w.GetRole, &iammodel.GetRoleInput{RoleName: model.Ptr("s3access")}).Role
	if *got.MaxSessionDuration != 3600 || got.Description != nil {
		t.Errorf("after UpdateRole %d, %v", *got.MaxSessionDuration, got.Description)
	}
}

func TestCreateRoleRefuses(t *testing.T) {
	w := newWorld(t, func(c *iam.Config) { c.Quotas.Roles = 1 })
	ctx := w.root(t, demoAccount)
	w.role(t, demoAccount, "taken", trustEC2, "")
	tests := []struct {
		name string
		in   iammodel.CreateRoleInput
		code string
	}{
		{"quota", iammodel.CreateRoleInput{}, "LimitExceeded"},
		{"bad name", iammodel.CreateRoleInput{RoleName: model.Ptr("a b")}, "ValidationError"},
		{"bad path", iammodel.CreateRoleInput{Path: model.Ptr("x")}, "ValidationError"},
		{"short session", iammodel.CreateRoleInput{MaxSessionDuration: model.Ptr(int64(60))}, "ValidationError"},
		{"long session", iammodel.CreateRoleInput{MaxSessionDuration: model.Ptr(int64(43_201))}, "ValidationError"},
		{"boundary", iammodel.CreateRoleInput{PermissionsBoundary: model.Ptr("x")}, "InvalidInput"},
		{"trust no JSON", iammodel.CreateRoleInput{AssumeRolePolicyDocument: model.Ptr("x")}, "MalformedPolicyDocument"},
		{"trust is an identity policy", iammodel.CreateRoleInput{AssumeRolePolicyDocument: model.Ptr(allowAll)},
			"MalformedPolicyDocument"},
		{"trust too long", iammodel.CreateRoleInput{AssumeRolePolicyDocument: model.Ptr(
			strings.Replace(trustEC2, "ec2", strings.Repeat("x", 2048), 1))}, "LimitExceeded"},
		{"trust of no account", iammodel.CreateRoleInput{AssumeRolePolicyDocument: model.Ptr(
			trustAWS("999999999999"))}, "MalformedPolicyDocument"},
		{"trust of no user", iammodel.CreateRoleInput{AssumeRolePolicyDocument: model.Ptr(
			trustAWS("arn:aws:iam::" + demoAccount + ":user/nobody"))}, "MalformedPolicyDocument"},
		{"trust of no role", iammodel.CreateRoleInput{AssumeRolePolicyDocument: model.Ptr(
			trustAWS("arn:aws:iam::" + demoAccount + ":role/nothing"))}, "MalformedPolicyDocument"},
		{"trust of role at another path", iammodel.CreateRoleInput{AssumeRolePolicyDocument: model.Ptr(
			trustAWS("arn:aws:iam::" + demoAccount + ":role/x/taken"))}, "MalformedPolicyDocument"},
		{"trust of a profile", iammodel.CreateRoleInput{AssumeRolePolicyDocument: model.Ptr(
			trustAWS("arn:aws:iam::" + demoAccount + ":instance-profile/taken"))}, "MalformedPolicyDocument"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.in.RoleName == nil {
				tt.in.RoleName = model.Ptr("new")
			}
			if tt.in.AssumeRolePolicyDocument == nil {
				tt.in.AssumeRolePolicyDocument = model.Ptr(trustEC2)
			}
			_, err := w.CreateRole(ctx, &tt.in)
			wantCode(t, err, tt.code)
		})
	}
	other := newWorld(t)
	other.role(t, demoAccount, "taken", trustEC2, "")
	_, err := other.CreateRole(other.root(t, demoAccount), &iammodel.CreateRoleInput{
		RoleName: model.Ptr("Taken"), AssumeRolePolicyDocument: model.Ptr(trustEC2),
	})
	wantCode(t, err, "EntityAlreadyExists")
}

func TestRolePolicies(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	w.role(t, demoAccount, "r", trustEC2, allow("s3:*", "*"))
	names := must(ctx, t, w.ListRolePolicies, &iammodel.ListRolePoliciesInput{RoleName: model.Ptr("r")}).PolicyNames
	if diff := cmp.Diff([]string{"p"}, names); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	got := must(ctx, t, w.GetRolePolicy, &iammodel.GetRolePolicyInput{
		RoleName: model.Ptr("r"), PolicyName: model.Ptr("p"),
	})
	if text, err := url.PathUnescape(*got.PolicyDocument); err != nil || text != allow("s3:*", "*") {
		t.Errorf("document %s, %v", text, err)
	}
	put := func(role, name, doc string) error {
		_, err := w.PutRolePolicy(ctx, &iammodel.PutRolePolicyInput{RoleName: &role, PolicyName: &name, PolicyDocument: &doc})
		return err
	}
	wantCode(t, put("nothing", "p", allowAll), "NoSuchEntity")
	wantCode(t, put("r", "p", "{}"), "MalformedPolicyDocument")
	wantCode(t, put("r", "big", allow("s3:*", "arn:aws:s3:::"+strings.Repeat("x", 10_240))), "LimitExceeded")
	_, err := w.DeleteRolePolicy(ctx, &iammodel.DeleteRolePolicyInput{
		RoleName: model.Ptr("r"), PolicyName: model.Ptr("no"),
	})
	wantCode(t, err, "NoSuchEntity")
	_, err = w.DeleteRole(ctx, &iammodel.DeleteRoleInput{RoleName: model.Ptr("r")})
	wantCode(t, err, "DeleteConflict")
	must(ctx, t, w.DeleteRolePolicy, &iammodel.DeleteRolePolicyInput{RoleName: model.Ptr("r"), PolicyName: model.Ptr("p")})
	must(ctx, t, w.DeleteRole, &iammodel.DeleteRoleInput{RoleName: model.Ptr("r")})
	_, err = w.DeleteRole(ctx, &iammodel.DeleteRoleInput{RoleName: model.Ptr("r")})
	wantCode(t, err, "NoSuchEntity")
}

// TestInstanceProfiles makes the example of seed 002: role s3access, policy s3star, instance profile s3access.
func TestInstanceProfiles(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	name := model.Ptr("s3access")
	roleARN := w.role(t, demoAccount, *name, trustEC2, `{"Version":"2008-10-17","Statement":[{"Effect":"Allow",`+
		`"Action":["s3:*"],"Resource":["*"]}]}`)
	p := must(ctx, t, w.CreateInstanceProfile, &iammodel.CreateInstanceProfileInput{InstanceProfileName: name})
	if *p.InstanceProfile.Arn != "arn:aws:iam::"+demoAccount+":instance-profile/s3access" {
		t.Errorf("ARN %s", *p.InstanceProfile.Arn)
	}
	_, err := w.CreateInstanceProfile(
		ctx,
		&iammodel.CreateInstanceProfileInput{InstanceProfileName: model.Ptr("S3ACCESS")},
	)
	wantCode(t, err, "EntityAlreadyExists")
	add := func(role, profile string) error {
		_, err := w.AddRoleToInstanceProfile(ctx, &iammodel.AddRoleToInstanceProfileInput{
			RoleName: &role, InstanceProfileName: &profile,
		})
		return err
	}
	wantCode(t, add("nothing", "s3access"), "NoSuchEntity")
	wantCode(t, add("s3access", "nothing"), "NoSuchEntity")
	wantCode(t, add("s3access", "s3access"), "")
	wantCode(t, add("s3access", "s3access"), "LimitExceeded")
	got := must(ctx, t, w.GetInstanceProfile, &iammodel.GetInstanceProfileInput{InstanceProfileName: name}).InstanceProfile
	if len(got.Roles) != 1 || *got.Roles[0].Arn != roleARN {
		t.Errorf("roles %v", got.Roles)
	}
	want := iam.InstanceProfile{ARN: *got.Arn, ID: *got.InstanceProfileId, Name: *name, RoleName: *name, RoleARN: roleARN}
	for _, ref := range []string{*name, *got.Arn} {
		found, err := w.InstanceProfile(t.Context(), demoAccount, ref)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Errorf("InstanceProfile %s (-want +got):\n%s", ref, diff)
		}
	}
	for _, ref := range []string{"no", "arn:aws:iam::" + demoAccount + ":instance-profile/x/s3access", roleARN, "arn:"} {
		_, err := w.InstanceProfile(t.Context(), demoAccount, ref)
		wantCode(t, err, "NoSuchEntity")
	}
	_, err = w.InstanceProfile(t.Context(), otherAccount, *got.Arn)
	wantCode(t, err, "NoSuchEntity")
	listed := must(ctx, t, w.ListInstanceProfiles, &iammodel.ListInstanceProfilesInput{}).InstanceProfiles
	ofRole := must(
		ctx,
		t,
		w.ListInstanceProfilesForRole,
		&iammodel.ListInstanceProfilesForRoleInput{RoleName: name},
	).InstanceProfiles
	if diff := cmp.Diff(listed, ofRole); diff != "" || len(listed) != 1 {
		t.Errorf("lists differ:\n%s", diff)
	}
	_, err = w.DeleteInstanceProfile(ctx, &iammodel.DeleteInstanceProfileInput{InstanceProfileName: name})
	wantCode(t, err, "DeleteConflict")
	must(ctx, t, w.DeleteRolePolicy, &iammodel.DeleteRolePolicyInput{RoleName: name, PolicyName: model.Ptr("p")})
	_, err = w.DeleteRole(ctx, &iammodel.DeleteRoleInput{RoleName: name})
	wantCode(t, err, "DeleteConflict")
	remove := &iammodel.RemoveRoleFromInstanceProfileInput{RoleName: name, InstanceProfileName: name}
	must(ctx, t, w.RemoveRoleFromInstanceProfile, remove)
	_, err = w.RemoveRoleFromInstanceProfile(ctx, remove)
	wantCode(t, err, "NoSuchEntity")
	must(ctx, t, w.DeleteInstanceProfile, &iammodel.DeleteInstanceProfileInput{InstanceProfileName: name})
	must(ctx, t, w.DeleteRole, &iammodel.DeleteRoleInput{RoleName: name})
}

func TestAddRoleNeedsPassRole(t *testing.T) {
	w := newWorld(t)
	roleARN := w.role(t, demoAccount, "r", trustEC2, "")
	must(w.root(t, demoAccount), t, w.CreateInstanceProfile,
		&iammodel.CreateInstanceProfileInput{InstanceProfileName: model.Ptr("p")})
	in := &iammodel.AddRoleToInstanceProfileInput{RoleName: model.Ptr("r"), InstanceProfileName: model.Ptr("p")}
	without := w.user(t, "without", allow("iam:AddRoleToInstanceProfile", "*"))
	_, err := w.AddRoleToInstanceProfile(authn.WithCaller(t.Context(), without), in)
	wantCode(t, err, "AccessDenied")
	elsewhere := w.user(t, "elsewhere", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:PassRole",`+
		`"Resource":"*","Condition":{"StringEquals":{"iam:PassedToService":"s3.amazonaws.com"}}}]}`)
	_, err = w.AddRoleToInstanceProfile(authn.WithCaller(t.Context(), elsewhere), in)
	wantCode(t, err, "AccessDenied")
	with := w.user(t, "with", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:PassRole",`+
		`"Resource":"`+roleARN+`","Condition":{"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"}}}]}`)
	_, err = w.AddRoleToInstanceProfile(authn.WithCaller(t.Context(), with), in)
	wantCode(t, err, "")
}

func TestServiceRoles(t *testing.T) {
	w := newWorld(t, func(c *iam.Config) { c.Quotas.Roles, c.Quotas.InstanceProfiles = 1, 1 })
	ensure := func(name string) error {
		return w.EnsureServiceRole(t.Context(), iam.ServiceRole{
			AccountID: systemAccount, Name: name, Path: lbPath, TrustService: iam.ServiceEC2,
		})
	}
	for _, name := range []string{"lb-a", "lb-b", "lb-a"} {
		if err := ensure(name); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.InstanceProfile(t.Context(), systemAccount, "lb-a")
	want := "arn:aws:iam::" + systemAccount + ":role/internal/loadbalancer/lb-a"
	if err != nil || p.RoleARN != want {
		t.Errorf("profile's role %s, %v; want %s", p.RoleARN, err, want)
	}
	long := strings.Repeat("n", 200)
	if err := w.PutServiceRolePolicy(t.Context(), systemAccount, "lb-a", long, allowAll); err != nil {
		t.Error(err)
	}
	wantCode(t, w.PutServiceRolePolicy(t.Context(), systemAccount, "lb-a", "x", "{"), "MalformedPolicyDocument")
	wantCode(t, w.PutServiceRolePolicy(t.Context(), systemAccount, "no", "x", allowAll), "NoSuchEntity")
	wantCode(t, w.DeleteServiceRolePolicy(t.Context(), systemAccount, "lb-a", "absent"), "")
	for range 2 {
		if err := w.DeleteServiceRole(t.Context(), systemAccount, "lb-a"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.InstanceProfile(t.Context(), systemAccount, "lb-a")
	wantCode(t, err, "NoSuchEntity")
	if err := w.EnsureServiceRole(t.Context(), iam.ServiceRole{AccountID: "1", Name: "a b", Path: "x"}); err == nil {
		t.Error("a service role with nothing right")
	}
	w.role(t, demoAccount, "mine", trustEC2, "")
	mine := iam.ServiceRole{AccountID: demoAccount, Name: "mine", TrustService: iam.ServiceEC2}
	if err := w.EnsureServiceRole(t.Context(), mine); err == nil {
		t.Error("a user's role became a service's")
	}
	if err := w.DeleteServiceRole(t.Context(), demoAccount, "mine"); err == nil {
		t.Error("a user's role was deleted as a service's")
	}
}

func TestInstanceCredentials(t *testing.T) {
	w := newWorld(t)
	w.role(t, demoAccount, "r", trustEC2, "")
	creds, err := w.InstanceCredentials(t.Context(), demoAccount, "r", instanceA)
	if err != nil {
		t.Fatal(err)
	}
	secret, c, err := w.Identify(t.Context(), creds.AccessKeyID, creds.Token)
	if err != nil || secret != creds.SecretAccessKey {
		t.Fatalf("Identify: %v", err)
	}
	if c.InstanceID != instanceA || c.ARN != "arn:aws:sts::"+demoAccount+":assumed-role/r/"+instanceA || c.System {
		t.Errorf("caller %+v", c)
	}
	if got := creds.Expiration.Sub(creds.LastUpdated).Hours(); got != 6 {
		t.Errorf("credentials last %v hours", got)
	}
	_, err = w.InstanceCredentials(t.Context(), demoAccount, "nothing", instanceA)
	wantCode(t, err, "NoSuchEntity")
	for _, trust := range []string{trustAWS(demoAccount), `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` +
		`"Principal":"*","Action":"sts:AssumeRole"}]}`} {
		must(w.root(t, demoAccount), t, w.UpdateAssumeRolePolicy, &iammodel.UpdateAssumeRolePolicyInput{
			RoleName: model.Ptr("r"), PolicyDocument: &trust,
		})
		_, err = w.InstanceCredentials(t.Context(), demoAccount, "r", instanceA)
		wantCode(t, err, "AccessDenied")
		var denied *iam.Denied
		if !errors.As(err, &denied) {
			t.Error("the denial has no explanation")
		}
	}
}
