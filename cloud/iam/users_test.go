package iam_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// dump returns all of IAM's records as they lie in the store.
func dump(t testing.TB, w *world) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{
		"iam-keys", "iam-accounts", "iam-users", "iam-roles", "iam-instance-profiles", "iam-access-keys",
		"iam-server-certificates",
	} {
		recs, err := store.NewTable[json.RawMessage](w.store, name).List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			all.Write(r)
		}
	}
	return all.String()
}

func TestUsers(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	created := must(ctx, t, w.CreateUser, &iammodel.CreateUserInput{
		UserName: model.Ptr("alice"), Path: model.Ptr("/team/"),
		Tags: []iammodel.Tag{{Key: model.Ptr("k"), Value: model.Ptr("v")}},
	}).User
	if want := "arn:aws:iam::" + demoAccount + ":user/team/alice"; *created.Arn != want {
		t.Errorf("ARN %s, want %s", *created.Arn, want)
	}
	if len(*created.UserId) != 21 || !strings.HasPrefix(*created.UserId, "AIDA") {
		t.Errorf("UserId %s", *created.UserId)
	}
	got := must(ctx, t, w.GetUser, &iammodel.GetUserInput{UserName: model.Ptr("alice")}).User
	if diff := cmp.Diff(created, got); diff != "" {
		t.Errorf("GetUser (-want +got):\n%s", diff)
	}
	create := func(in *iammodel.CreateUserInput) error { _, err := w.CreateUser(ctx, in); return err }
	dup := []iammodel.Tag{{Key: model.Ptr("K"), Value: model.Ptr("")}, {Key: model.Ptr("k"), Value: model.Ptr("")}}
	for _, tt := range []struct {
		name string
		in   iammodel.CreateUserInput
		code string
	}{
		{"taken", iammodel.CreateUserInput{UserName: model.Ptr("ALICE")}, "EntityAlreadyExists"},
		{"bad name", iammodel.CreateUserInput{UserName: model.Ptr("a/b")}, "ValidationError"},
		{"long name", iammodel.CreateUserInput{UserName: model.Ptr(strings.Repeat("a", 65))}, "ValidationError"},
		{"bad path", iammodel.CreateUserInput{UserName: model.Ptr("b"), Path: model.Ptr("x")}, "ValidationError"},
		{"empty path", iammodel.CreateUserInput{UserName: model.Ptr("b"), Path: model.Ptr("")}, "ValidationError"},
		{"tag twice", iammodel.CreateUserInput{UserName: model.Ptr("b"), Tags: dup}, "InvalidInput"},
		{"boundary", iammodel.CreateUserInput{UserName: model.Ptr("b"),
			PermissionsBoundary: model.Ptr("arn:aws:iam::aws:policy/x")}, "NoSuchEntity"},
		{"boundary is no policy", iammodel.CreateUserInput{UserName: model.Ptr("b"),
			PermissionsBoundary: model.Ptr("arn:aws:iam::aws:user/x")}, "InvalidInput"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantCode(t, create(&tt.in), tt.code) })
	}
	_, err := w.GetUser(ctx, &iammodel.GetUserInput{UserName: model.Ptr("ALICE")})
	wantCode(t, err, "NoSuchEntity")
	_, err = w.GetUser(w.root(t, otherAccount), &iammodel.GetUserInput{UserName: model.Ptr("alice")})
	wantCode(t, err, "NoSuchEntity")
	_, err = w.CreateUser(t.Context(), &iammodel.CreateUserInput{UserName: model.Ptr("x")})
	wantCode(t, err, "AccessDenied")
	list := must(ctx, t, w.ListUsers, &iammodel.ListUsersInput{PathPrefix: model.Ptr("/team/")})
	if len(list.Users) != 1 {
		t.Errorf("%d users listed", len(list.Users))
	}
}

func TestUserQuota(t *testing.T) {
	w := newWorld(t, func(c *iam.Config) { c.Quotas.Users = 1 })
	ctx := w.root(t, demoAccount)
	must(ctx, t, w.CreateUser, &iammodel.CreateUserInput{UserName: model.Ptr("a")})
	_, err := w.CreateUser(ctx, &iammodel.CreateUserInput{UserName: model.Ptr("b")})
	wantCode(t, err, "LimitExceeded")
}

func TestGetUserWithoutName(t *testing.T) {
	w := newWorld(t)
	root := must(w.root(t, demoAccount), t, w.GetUser, &iammodel.GetUserInput{}).User
	if *root.Arn != "arn:aws:iam::"+demoAccount+":root" || *root.UserId != demoAccount {
		t.Errorf("root is %s, %s", *root.Arn, *root.UserId)
	}
	alice := w.user(t, "alice", "")
	self := must(authn.WithCaller(t.Context(), alice), t, w.GetUser, &iammodel.GetUserInput{}).User
	if *self.UserName != "alice" {
		t.Errorf("self is %s", *self.UserName)
	}
	_, err := w.GetUser(authn.WithCaller(t.Context(), authn.Caller{Kind: authn.KindRole, AccountID: demoAccount}),
		&iammodel.GetUserInput{})
	wantCode(t, err, "ValidationError")
	_, err = w.GetUser(t.Context(), &iammodel.GetUserInput{})
	wantCode(t, err, "AccessDenied")
}

func TestUpdateUserKeepsKeysAndPolicies(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	alice := w.user(t, "alice", allow("iam:GetUser", "*"))
	w.user(t, "bob", "")
	update := func(name string, newName, newPath *string) error {
		_, err := w.UpdateUser(ctx, &iammodel.UpdateUserInput{UserName: &name, NewUserName: newName, NewPath: newPath})
		return err
	}
	wantCode(t, update("nobody", model.Ptr("x"), nil), "NoSuchEntity")
	wantCode(t, update("alice", model.Ptr("bob"), nil), "EntityAlreadyExists")
	wantCode(t, update("alice", model.Ptr("a b"), nil), "ValidationError")
	wantCode(t, update("alice", nil, model.Ptr("a")), "ValidationError")
	if err := update("alice", model.Ptr("Alicia"), model.Ptr("/x/")); err != nil {
		t.Fatal(err)
	}
	now := w.identify(t, alice.AccessKeyID, "")
	if now.ARN != "arn:aws:iam::"+demoAccount+":user/x/Alicia" || now.UserID != alice.UserID {
		t.Errorf("caller is %s, %s", now.ARN, now.UserID)
	}
	if err := w.Authorize(t.Context(), now, "iam:GetUser", nil, nil); err != nil {
		t.Error(err)
	}
	if err := update("Alicia", model.Ptr("ALICIA"), nil); err != nil {
		t.Fatal(err)
	}
	if now := w.identify(t, alice.AccessKeyID, ""); now.UserName != "ALICIA" {
		t.Errorf("caller is %s", now.UserName)
	}
}

func TestDeleteUser(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	alice := w.user(t, "alice", allowAll)
	remove := func() error {
		_, err := w.DeleteUser(ctx, &iammodel.DeleteUserInput{UserName: model.Ptr("alice")})
		return err
	}
	wantCode(t, remove(), "DeleteConflict")
	must(ctx, t, w.DeleteAccessKey, &iammodel.DeleteAccessKeyInput{
		UserName: model.Ptr("alice"), AccessKeyId: &alice.AccessKeyID,
	})
	wantCode(t, remove(), "DeleteConflict")
	must(ctx, t, w.DeleteUserPolicy, &iammodel.DeleteUserPolicyInput{
		UserName: model.Ptr("alice"), PolicyName: model.Ptr("p"),
	})
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, remove(), "NoSuchEntity")
	wantCode(t, w.Authorize(t.Context(), alice, "iam:GetUser", nil, nil), "AccessDenied")
}

func TestUserPolicies(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	w.user(t, "alice", "")
	put := func(user, name, doc string) error {
		_, err := w.PutUserPolicy(ctx, &iammodel.PutUserPolicyInput{
			UserName: &user, PolicyName: &name, PolicyDocument: &doc,
		})
		return err
	}
	doc := allow("iam:Get*", "*")
	for _, name := range []string{"z", "a", "m", "a"} {
		if err := put("alice", name, doc); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, put("nobody", "a", doc), "NoSuchEntity")
	wantCode(t, put("alice", "a/b", doc), "ValidationError")
	err := put("alice", "a", `{"Statement":[{"Effect":"Allow","Action":"iam:*"}]}`)
	wantCode(t, err, "MalformedPolicyDocument")
	if err == nil || !strings.Contains(err.Error(), "Statement[0].Resource") {
		t.Errorf("error %v does not name the element", err)
	}
	wantCode(t, put("alice", "big", allow("iam:Get*", "arn:aws:s3:::"+strings.Repeat("x", 2048))), "LimitExceeded")
	wantCode(t, put("alice", "padded", doc+strings.Repeat(" ", 4096)), "")
	list := must(ctx, t, w.ListUserPolicies, &iammodel.ListUserPoliciesInput{
		UserName: model.Ptr("alice"), MaxItems: model.Ptr(int64(2)),
	})
	if diff := cmp.Diff([]string{"a", "m"}, list.PolicyNames); diff != "" || !*list.IsTruncated {
		t.Errorf("first page (-want +got):\n%s", diff)
	}
	list = must(ctx, t, w.ListUserPolicies, &iammodel.ListUserPoliciesInput{
		UserName: model.Ptr("alice"), Marker: list.Marker,
	})
	if diff := cmp.Diff([]string{"padded", "z"}, list.PolicyNames); diff != "" || *list.IsTruncated {
		t.Errorf("second page (-want +got):\n%s", diff)
	}
	got := must(ctx, t, w.GetUserPolicy, &iammodel.GetUserPolicyInput{
		UserName: model.Ptr("alice"), PolicyName: model.Ptr("m"),
	})
	if strings.ContainsAny(*got.PolicyDocument, `{" `) {
		t.Errorf("document is not percent-encoded: %s", *got.PolicyDocument)
	}
	if text, err := url.PathUnescape(*got.PolicyDocument); err != nil || text != doc {
		t.Errorf("document is %s, %v", text, err)
	}
	_, err = w.GetUserPolicy(ctx, &iammodel.GetUserPolicyInput{
		UserName: model.Ptr("alice"), PolicyName: model.Ptr("no"),
	})
	wantCode(t, err, "NoSuchEntity")
	_, err = w.DeleteUserPolicy(ctx, &iammodel.DeleteUserPolicyInput{
		UserName: model.Ptr("alice"), PolicyName: model.Ptr("no"),
	})
	wantCode(t, err, "NoSuchEntity")
}

func TestAccessKeys(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	alice := w.user(t, "alice", "")
	self := authn.WithCaller(t.Context(), alice)
	second := must(self, t, w.CreateAccessKey, &iammodel.CreateAccessKeyInput{}).AccessKey
	if len(*second.AccessKeyId) != 20 || !strings.HasPrefix(*second.AccessKeyId, "AKIA") ||
		len(*second.SecretAccessKey) != 40 || *second.UserName != "alice" {
		t.Errorf("key %s of %s, secret of %d characters", *second.AccessKeyId, *second.UserName, len(*second.SecretAccessKey))
	}
	if strings.Contains(dump(t, w), *second.SecretAccessKey) {
		t.Error("the store holds the secret in clear")
	}
	_, err := w.CreateAccessKey(self, &iammodel.CreateAccessKeyInput{})
	wantCode(t, err, "LimitExceeded")
	_, err = w.CreateAccessKey(ctx, &iammodel.CreateAccessKeyInput{UserName: model.Ptr("nobody")})
	wantCode(t, err, "NoSuchEntity")
	secret, caller, err := w.Identify(t.Context(), *second.AccessKeyId, "")
	if err != nil || secret != *second.SecretAccessKey || caller.UserName != "alice" {
		t.Errorf("Identify: %s, %v", caller.UserName, err)
	}
	keys := must(self, t, w.ListAccessKeys, &iammodel.ListAccessKeysInput{}).AccessKeyMetadata
	if len(keys) != 2 {
		t.Errorf("%d keys listed", len(keys))
	}
	setStatus := func(ctx context.Context, user, status string) error {
		_, err := w.UpdateAccessKey(ctx, &iammodel.UpdateAccessKeyInput{
			UserName: &user, AccessKeyId: second.AccessKeyId, Status: &status,
		})
		return err
	}
	wantCode(t, setStatus(ctx, "alice", "Asleep"), "ValidationError")
	wantCode(t, setStatus(w.root(t, otherAccount), "alice", "Inactive"), "NoSuchEntity")
	w.user(t, "bob", "")
	wantCode(t, setStatus(ctx, "bob", "Inactive"), "NoSuchEntity")
	wantCode(t, setStatus(ctx, "alice", "Inactive"), "")
	_, _, err = w.Identify(t.Context(), *second.AccessKeyId, "")
	wantCode(t, err, "InvalidClientTokenId")
	wantCode(t, setStatus(ctx, "alice", "Active"), "")
	w.identify(t, *second.AccessKeyId, "")
	_, err = w.DeleteAccessKey(ctx, &iammodel.DeleteAccessKeyInput{
		UserName: model.Ptr("bob"), AccessKeyId: second.AccessKeyId,
	})
	wantCode(t, err, "NoSuchEntity")
	must(self, t, w.DeleteAccessKey, &iammodel.DeleteAccessKeyInput{AccessKeyId: second.AccessKeyId})
	_, _, err = w.Identify(t.Context(), *second.AccessKeyId, "")
	wantCode(t, err, "InvalidClientTokenId")
}

func TestRootKeys(t *testing.T) {
	w := newWorld(t)
	id, secret, err := w.EnsureRootKey(t.Context(), demoAccount)
	if err != nil {
		t.Fatal(err)
	}
	again, same, err := w.EnsureRootKey(t.Context(), demoAccount)
	if err != nil || again != id || string(same) != string(secret) {
		t.Errorf("second EnsureRootKey gives %s, %v", again, err)
	}
	ctx := w.root(t, demoAccount)
	must(ctx, t, w.UpdateAccessKey, &iammodel.UpdateAccessKeyInput{AccessKeyId: &id, Status: model.Ptr("Inactive")})
	next, _, err := w.EnsureRootKey(t.Context(), demoAccount)
	if err != nil || next == id {
		t.Errorf("EnsureRootKey with an inactive key gives %s, %v", next, err)
	}
	keys := must(ctx, t, w.ListAccessKeys, &iammodel.ListAccessKeysInput{}).AccessKeyMetadata
	if len(keys) != 2 {
		t.Errorf("%d root keys", len(keys))
	}
	if _, _, err := w.EnsureRootKey(t.Context(), "999999999999"); err == nil {
		t.Error("a root key of an account that does not exist")
	}
}

func TestAccounts(t *testing.T) {
	w := newWorld(t)
	if _, err := w.EnsureAccount(t.Context(), "12", "x", false); err == nil {
		t.Error("an account with a short id")
	}
	if _, err := w.EnsureAccount(t.Context(), demoAccount, "demo", true); err == nil {
		t.Error("a user's account became the system's")
	}
	a, err := w.EnsureAccount(t.Context(), demoAccount, "renamed", false)
	if err != nil || a.Name != "demo" {
		t.Errorf("account %+v, %v", a, err)
	}
	all, err := w.Accounts(t.Context())
	if err != nil || len(all) != 3 || all[0].ID != systemAccount {
		t.Errorf("accounts %v, %v", all, err)
	}
	_, err = w.Account(t.Context(), "999999999999")
	wantCode(t, err, "NoSuchEntity")
	w.user(t, "alice", "")
	sum := must(w.root(t, demoAccount), t, w.GetAccountSummary, &iammodel.GetAccountSummaryInput{}).SummaryMap
	if sum["Users"] != 1 || sum["AccountAccessKeysPresent"] != 1 || sum["ServerCertificatesQuota"] != 20 {
		t.Errorf("summary %v", sum)
	}
	ctx := w.root(t, demoAccount)
	arn := w.managed(ctx, t, "p", allowAll)
	must(ctx, t, w.AttachUserPolicy, &iammodel.AttachUserPolicyInput{UserName: model.Ptr("alice"), PolicyArn: &arn})
	must(ctx, t, w.CreateGroup, &iammodel.CreateGroupInput{GroupName: model.Ptr("g")})
	serial, shows := w.device(ctx, t, "alice")
	now := w.clock.Now()
	must(ctx, t, w.EnableMFADevice, &iammodel.EnableMFADeviceInput{
		UserName: model.Ptr("alice"), SerialNumber: &serial, AuthenticationCode2: model.Ptr(shows(now)),
		AuthenticationCode1: model.Ptr(shows(now.Add(-30 * time.Second))),
	})
	must(ctx, t, w.CreateVirtualMFADevice, &iammodel.CreateVirtualMFADeviceInput{
		VirtualMFADeviceName: model.Ptr("spare"),
	})
	sum = must(ctx, t, w.GetAccountSummary, &iammodel.GetAccountSummaryInput{}).SummaryMap
	for name, want := range map[string]int64{
		"Groups": 1, "Policies": 1, "PolicyVersionsInUse": 1, "MFADevices": 2, "MFADevicesInUse": 1, "Roles": 0,
		"Providers": 0, "PolicySizeQuota": 6144, "GroupsQuota": 300, "AttachedPoliciesPerUserQuota": 10,
	} {
		if got, ok := sum[name]; !ok || got != want {
			t.Errorf("%s is %d, told %t; want %d", name, got, ok, want)
		}
	}
}

// count returns how many records a table holds.
func (w *world) count(t testing.TB, table string) int {
	t.Helper()
	keys, err := store.NewTable[json.RawMessage](w.store, table).Keys(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return len(keys)
}
