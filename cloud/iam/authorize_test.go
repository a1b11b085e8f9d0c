package iam_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

func TestAuthorize(t *testing.T) {
	const own, foreign = "arn:aws:iam::" + demoAccount + ":user/x", "arn:aws:iam::" + otherAccount + ":user/x"
	condition := func(c string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{` + c + `}}]}`
	}
	tests := []struct {
		name       string
		policy     string
		action     string
		resources  []string
		conditions map[string][]string
		message    string // empty: allowed
	}{
		{"no policy", "", "iam:GetUser", []string{own}, nil,
			"on resource: " + own + " because no identity-based policy allows the iam:GetUser action"},
		{"allowed", allow("iam:GetUser", own), "iam:GetUser", []string{own}, nil, ""},
		{"no resource means star", allow("iam:GetUser", own), "iam:GetUser", nil, nil, "on resource: * because no"},
		{"second resource not allowed", allow("iam:GetUser", own), "iam:GetUser", []string{own, own + "2"}, nil,
			"on resource: " + own + "2 because"},
		{"explicit deny", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},` +
			`{"Effect":"Deny","Action":"iam:*","Resource":"*"}]}`, "iam:GetUser", []string{own}, nil,
			"with an explicit deny in an identity-based policy"},
		{"other account", allowAll, "iam:GetUser", []string{foreign}, nil,
			"because no resource-based policy allows the iam:GetUser action"},
		{"username variable", allow("iam:GetUser", "arn:aws:iam::"+demoAccount+":user/${aws:username}"), "iam:GetUser",
			[]string{"arn:aws:iam::" + demoAccount + ":user/alice"}, nil, ""},
		{"source address", condition(`"IpAddress":{"aws:SourceIp":"10.64.0.0/16"}`), "iam:GetUser", nil, nil, ""},
		{"other source address", condition(`"NotIpAddress":{"aws:SourceIp":"10.64.0.0/16"}`), "iam:GetUser", nil, nil,
			"because no identity-based"},
		{"time", condition(`"DateLessThan":{"aws:CurrentTime":"2026-05-01T12:00:01Z"}`), "iam:GetUser", nil, nil, ""},
		{"time past", condition(`"DateGreaterThan":{"aws:CurrentTime":"2026-05-01T12:00:01Z"}`), "iam:GetUser", nil, nil,
			"because"},
		{"epoch", condition(`"NumericEquals":{"aws:EpochTime":"1777636800"}`), "iam:GetUser", nil, nil, ""},
		{"principal", condition(`"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::` + demoAccount + `:user/alice"},` +
			`"StringEquals":{"aws:PrincipalType":"User","aws:PrincipalAccount":"` + demoAccount +
			`","aws:RequestedRegion":"us-east-1"}`), "iam:GetUser", nil, nil, ""},
		{"user id", condition(`"StringLike":{"aws:userid":"AIDA*"}`), "iam:GetUser", nil, nil, ""},
		{"long-term key has no token", condition(`"Null":{"aws:TokenIssueTime":"true"}`), "iam:GetUser", nil, nil, ""},
		{"request's key", condition(`"Bool":{"aws:SecureTransport":"true"}`), "iam:GetUser", nil,
			map[string][]string{"aws:SecureTransport": {"true"}}, ""},
		{"request's key absent", condition(`"Bool":{"aws:SecureTransport":"true"}`), "iam:GetUser", nil, nil, "because"},
		{"request cannot forge the caller", condition(`"StringEquals":{"aws:username":"root"}`), "iam:GetUser", nil,
			map[string][]string{"aws:username": {"root"}}, "because"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			alice := w.user(t, "alice", tt.policy)
			alice.SourceIP = "10.64.0.7"
			err := w.Authorize(t.Context(), alice, tt.action, tt.resources, tt.conditions)
			if tt.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCode(t, err, "AccessDenied")
			prefix := "User: " + alice.ARN + " is not authorized to perform: " + tt.action + " "
			var m *model.Error
			if !errors.As(err, &m) || !strings.HasPrefix(m.Message, prefix) || !strings.Contains(m.Message, tt.message) {
				t.Errorf("message %q, want %q … %q", m.Message, prefix, tt.message)
			}
			var denied *iam.Denied
			if !errors.As(err, &denied) || len(denied.Explanation.Needed) == 0 {
				t.Errorf("the denial explains nothing: %v", denied)
			}
			events := w.journal.Events()
			last := events[len(events)-1]
			if last.Kind != "policy.denied" || last.Attributes["requestId"] != "req-1" ||
				!strings.Contains(last.Attributes["explanation"], "needed") {
				t.Errorf("event %+v", last)
			}
		})
	}
}

func TestAuthorizeRootAndNobody(t *testing.T) {
	w := newWorld(t)
	root := authn.CallerFrom(w.root(t, demoAccount))
	allowed := []string{"*", "arn:aws:iam::" + demoAccount + ":user/x", "arn:aws:s3:::bucket", "arn:aws:iam::aws:policy/x"}
	if err := w.Authorize(t.Context(), root, "iam:DeleteUser", allowed, nil); err != nil {
		t.Error(err)
	}
	foreign := []string{"arn:aws:iam::" + otherAccount + ":user/x"}
	wantCode(t, w.Authorize(t.Context(), root, "iam:DeleteUser", foreign, nil), "AccessDenied")
	system := authn.CallerFrom(w.root(t, systemAccount))
	wantCode(t, w.Authorize(t.Context(), system, "iam:DeleteUser", foreign, nil), "AccessDenied")
	wantCode(t, w.Authorize(t.Context(), authn.Caller{}, "iam:GetUser", nil, nil), "AccessDenied")
	wantCode(t, w.Authorize(t.Context(), authn.Caller{Kind: authn.KindRoot}, "iam:GetUser", foreign, nil), "AccessDenied")
	wantCode(t, w.Authorize(t.Context(), authn.Caller{Kind: authn.KindRoot}, "iam:GetUser", nil, nil), "AccessDenied")
	wantCode(t, w.Authorize(t.Context(), authn.Caller{Kind: "Other", AccountID: demoAccount}, "iam:GetUser", nil, nil),
		"AccessDenied")
	ghost := authn.Caller{Kind: authn.KindUser, AccountID: demoAccount, UserName: "ghost", ARN: "x"}
	wantCode(t, w.Authorize(t.Context(), ghost, "iam:GetUser", nil, nil), "AccessDenied")
}

func TestAuthorizeRoleSession(t *testing.T) {
	w := newWorld(t)
	w.role(t, demoAccount, "r", trustEC2, allow("s3:*", "*"))
	mint := func(policy string) authn.Caller {
		creds, _ := w.session(t, iam.Session{
			AccountID: demoAccount, RoleName: "r", Name: "s1", Life: time.Hour, Policy: policy,
		})
		return w.identify(t, creds.AccessKeyID, creds.Token)
	}
	plain, limited := mint(""), mint(allow("s3:Get*", "*"))
	wantCode(t, w.Authorize(t.Context(), plain, "s3:PutObject", nil, nil), "")
	wantCode(t, w.Authorize(t.Context(), limited, "s3:GetObject", nil, nil), "")
	err := w.Authorize(t.Context(), limited, "s3:PutObject", nil, nil)
	wantCode(t, err, "AccessDenied")
	if err == nil || !strings.Contains(err.Error(), "because no session policy allows the s3:PutObject action") {
		t.Errorf("message %v", err)
	}
	wantCode(t, w.Authorize(t.Context(), mint(allowAll), "ec2:RunInstances", nil, nil), "UnauthorizedOperation")
	must(w.root(t, demoAccount), t, w.PutRolePolicy, &iammodel.PutRolePolicyInput{
		RoleName: model.Ptr("r"), PolicyName: model.Ptr("p"),
		PolicyDocument: model.Ptr(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*",` +
			`"Condition":{"Null":{"aws:TokenIssueTime":"false"},"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::` +
			demoAccount + `:role/r"},"StringLike":{"aws:userid":"AROA*:s1"}}}]}`),
	})
	wantCode(t, w.Authorize(t.Context(), plain, "ec2:RunInstances", nil, nil), "")
}

func TestResources(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	must(ctx, t, w.CreateUser, &iammodel.CreateUserInput{UserName: model.Ptr("alice"), Path: model.Ptr("/team/")})
	bob := w.user(t, "bob", "")
	root := authn.CallerFrom(ctx)
	session := authn.Caller{Kind: authn.KindRole, AccountID: demoAccount, ARN: "s"}
	const prefix = "arn:aws:iam::" + demoAccount + ":"
	tests := []struct {
		name   string
		op     string
		caller authn.Caller
		in     any
		want   []string
	}{
		{"path is looked up", "DeleteUser", root, &iammodel.DeleteUserInput{UserName: model.Ptr("alice")},
			[]string{prefix + "user/team/alice"}},
		{"other case is another name", "DeleteUser", root, &iammodel.DeleteUserInput{UserName: model.Ptr("ALICE")},
			[]string{prefix + "user/ALICE"}},
		{"created", "CreateRole", root, &iammodel.CreateRoleInput{RoleName: model.Ptr("r"), Path: model.Ptr("/x/")},
			[]string{prefix + "role/x/r"}},
		{"created at root path", "CreateInstanceProfile", root,
			&iammodel.CreateInstanceProfileInput{InstanceProfileName: model.Ptr("p")}, []string{prefix + "instance-profile/p"}},
		{"listed", "ListUsers", root, &iammodel.ListUsersInput{PathPrefix: model.Ptr("/team/")},
			[]string{prefix + "user/team/"}},
		{"own keys", "ListAccessKeys", bob, &iammodel.ListAccessKeysInput{}, []string{bob.ARN}},
		{
			"own keys of a role session",
			"ListAccessKeys",
			session,
			&iammodel.ListAccessKeysInput{},
			[]string{prefix + "user/*"},
		},
		{"moved", "UpdateServerCertificate", root, &iammodel.UpdateServerCertificateInput{
			ServerCertificateName: model.Ptr("c"), NewPath: model.Ptr("/n/"), NewServerCertificateName: model.Ptr("d"),
		}, []string{prefix + "server-certificate/c", prefix + "server-certificate/n/d"}},
		{"not moved", "UpdateUser", root, &iammodel.UpdateUserInput{UserName: model.Ptr("alice")},
			[]string{prefix + "user/team/alice"}},
		{"about nothing", "GetAccountSummary", root, &iammodel.GetAccountSummaryInput{}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := w.Resources(t.Context(), tt.op, tt.caller, tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := w.Resources(t.Context(), "DeleteUser", root, &iammodel.GetUserInput{}); err == nil {
		t.Error("an input of another operation was accepted")
	}
}

// TestEveryOperationHasResources fails when an operation is added whose resources nobody thought of: it would be
// authorised on "*" alone.
func TestEveryOperationHasResources(t *testing.T) {
	w := newWorld(t)
	root := authn.CallerFrom(w.root(t, demoAccount))
	onNothing := map[string]bool{
		"GetAccountSummary": true, "CreateAccountAlias": true, "DeleteAccountAlias": true, "ListAccountAliases": true,
		"GenerateCredentialReport": true, "GetCredentialReport": true, "GetAccountAuthorizationDetails": true,
		"GetContextKeysForCustomPolicy": true, "SimulateCustomPolicy": true,
		"GetServiceLastAccessedDetailsWithEntities": true, "GetAccountPasswordPolicy": true,
		"DeleteAccountPasswordPolicy": true,
	}
	for name, h := range w.Handlers() {
		got, err := w.Resources(t.Context(), name, root, h.Operation.NewInput())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if (len(got) == 0) != onNothing[name] {
			t.Errorf("%s touches %v", name, got)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	w := newWorld(b)
	alice := w.user(b, "alice", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"*"},
		{"Effect":"Allow","Action":"iam:*AccessKey*","Resource":"arn:aws:iam::`+demoAccount+`:user/${aws:username}"}]}`)
	resources := []string{alice.ARN}
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Authorize(b.Context(), alice, "iam:ListAccessKeys", resources, nil); err != nil {
			b.Fatal(err)
		}
	}
}
