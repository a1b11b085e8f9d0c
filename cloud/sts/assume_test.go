package sts_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// TestAssumeRoleTrust goes through who may assume a role: trust policy and identity policy, one account and two.
func TestAssumeRoleTrust(t *testing.T) {
	const alice = "arn:aws:iam::" + home + ":user/alice"
	const denyAssume = `{"Effect":"Deny","Action":"sts:*","Resource":"*"}`
	external := `,"Condition":{"StringEquals":{"sts:ExternalId":"blue"}}`
	named := `,"Condition":{"StringEquals":{"sts:RoleSessionName":"${aws:username}"}}`
	tests := []struct {
		name     string
		trust    string
		account  string
		policy   string
		session  string
		external string
		allowed  bool
	}{
		{name: "trusts the user", trust: trust(`{"AWS":"`+alice+`"}`, ""), account: home, allowed: true},
		{name: "trusts the user, whose policy denies", trust: trust(`{"AWS":"`+alice+`"}`, ""), account: home,
			policy: statement(denyAssume)},
		{name: "trusts the account, user may", trust: trust(`{"AWS":"`+home+`"}`, ""), account: home, policy: mayAssume,
			allowed: true},
		{name: "trusts the account by its root, user may", trust: trust(`{"AWS":"arn:aws:iam::`+home+`:root"}`, ""),
			account: home, policy: mayAssume, allowed: true},
		{name: "trusts the account, user may not", trust: trust(`{"AWS":"`+home+`"}`, ""), account: home},
		{name: "trusts nobody here, user may", trust: trust(`{"Service":"ec2.amazonaws.com"}`, ""), account: home,
			policy: mayAssume},
		{name: "trust denies", trust: statement(`{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"},` +
			`{"Effect":"Deny","Principal":{"AWS":"` + alice + `"},"Action":"sts:AssumeRole"}`),
			account: home, policy: mayAssume},
		{name: "trusts everybody", trust: trust(`"*"`, ""), account: home, allowed: true},
		{name: "other account, both allow", trust: trust(`{"AWS":"`+other+`"}`, ""), account: other, policy: mayAssume,
			allowed: true},
		{name: "other account, only trust allows", trust: trust(`{"AWS":"`+other+`"}`, ""), account: other},
		{name: "other account, only identity allows", trust: trust(`{"AWS":"`+home+`"}`, ""), account: other,
			policy: mayAssume},
		{name: "external id", trust: trust(`{"AWS":"`+other+`"}`, external), account: other, policy: mayAssume,
			external: "blue", allowed: true},
		{name: "wrong external id", trust: trust(`{"AWS":"`+other+`"}`, external), account: other, policy: mayAssume,
			external: "red"},
		{name: "no external id", trust: trust(`{"AWS":"`+other+`"}`, external), account: other, policy: mayAssume},
		{name: "session name as the trust wants", trust: trust(`{"AWS":"`+home+`"}`, named), account: home,
			policy: mayAssume, session: "alice", allowed: true},
		{name: "another session name", trust: trust(`{"AWS":"`+home+`"}`, named), account: home, policy: mayAssume,
			session: "bob"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			ctx := w.user(t, tt.account, "alice", tt.policy)
			in := &stsmodel.AssumeRoleInput{
				RoleArn: model.Ptr(w.role(t, "r", tt.trust)), RoleSessionName: model.Ptr("session"),
			}
			if tt.session != "" {
				in.RoleSessionName = &tt.session
			}
			if tt.external != "" {
				in.ExternalId = &tt.external
			}
			out, err := w.AssumeRole(ctx, in)
			if tt.allowed {
				if err != nil {
					t.Fatal(err)
				}
				session := w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken)
				who, err := w.GetCallerIdentity(session, &stsmodel.GetCallerIdentityInput{})
				if err != nil {
					t.Fatal(err)
				}
				want := "arn:aws:sts::" + home + ":assumed-role/r/" + *in.RoleSessionName
				if *who.Arn != want || *out.AssumedRoleUser.Arn != want || *who.Account != home ||
					*who.UserId != *out.AssumedRoleUser.AssumedRoleId {
					t.Errorf("session is %s, %s", *who.Arn, *who.UserId)
				}
				return
			}
			if code(err) != "AccessDenied" || !strings.Contains(err.Error(), "not authorized to perform: sts:AssumeRole") {
				t.Errorf("error %v, want AccessDenied", err)
			}
			missing := *in
			missing.RoleArn = model.Ptr(*in.RoleArn + "-missing")
			_, other := w.AssumeRole(ctx, &missing)
			if code(other) != code(err) {
				t.Errorf("a missing role answers %v, a closed one %v", other, err)
			}
		})
	}
}

func TestAssumeRoleRefuses(t *testing.T) {
	w := newWorld(t)
	ctx := w.user(t, home, "alice", mayAssume)
	arn := w.role(t, "r", trust(`{"AWS":"`+home+`"}`, ""))
	n := func(i int64) *int64 { return &i }
	tests := []struct {
		name  string
		alter func(*stsmodel.AssumeRoleInput)
		code  string
		field string
	}{
		{
			"too short",
			func(in *stsmodel.AssumeRoleInput) { in.DurationSeconds = n(899) },
			"ValidationError",
			"DurationSeconds",
		},
		{"longer than the role allows", func(in *stsmodel.AssumeRoleInput) { in.DurationSeconds = n(7201) },
			"ValidationError", "MaxSessionDuration"},
		{
			"no session name",
			func(in *stsmodel.AssumeRoleInput) { in.RoleSessionName = nil },
			"ValidationError",
			"roleSessionName",
		},
		{"short session name", func(in *stsmodel.AssumeRoleInput) { in.RoleSessionName = model.Ptr("a") },
			"ValidationError", "roleSessionName"},
		{"session name with slash", func(in *stsmodel.AssumeRoleInput) { in.RoleSessionName = model.Ptr("a/b") },
			"ValidationError", "roleSessionName"},
		{"no ARN", func(in *stsmodel.AssumeRoleInput) { in.RoleArn = model.Ptr("r") }, "ValidationError",
			"roleArn is invalid: r"},
		{
			"broken policy",
			func(in *stsmodel.AssumeRoleInput) { in.Policy = model.Ptr("{") },
			"MalformedPolicyDocument",
			"ends early",
		},
		{"long policy", func(in *stsmodel.AssumeRoleInput) { in.Policy = model.Ptr(strings.Repeat(" ", 2049)) },
			"PackedPolicyTooLarge", "2048"},
		{"policy ARN of nothing", func(in *stsmodel.AssumeRoleInput) {
			in.PolicyArns = []stsmodel.PolicyDescriptorType{{Arn: model.Ptr("arn:aws:iam::aws:policy/none")}}
		}, "NoSuchEntity", "policy/none"},
		{"too many policy ARNs", func(in *stsmodel.AssumeRoleInput) {
			in.PolicyArns = make([]stsmodel.PolicyDescriptorType, 11)
		}, "ValidationError", "policyArns"},
		{"tags that nothing lets set", func(in *stsmodel.AssumeRoleInput) {
			in.Tags = []stsmodel.Tag{{Key: model.Ptr("k"), Value: model.Ptr("v")}}
		}, "AccessDenied", "sts:TagSession"},
		{"tag twice", func(in *stsmodel.AssumeRoleInput) {
			in.Tags = []stsmodel.Tag{{Key: model.Ptr("k"), Value: model.Ptr("v")}, {Key: model.Ptr("K"), Value: model.Ptr("v")}}
		}, "ValidationError", "Duplicate tag keys"},
		{"transitive key of no tag", func(in *stsmodel.AssumeRoleInput) { in.TransitiveTagKeys = []string{"k"} },
			"ValidationError", "transitive tag key k"},
		{"source identity that nothing lets set", func(in *stsmodel.AssumeRoleInput) {
			in.SourceIdentity = model.Ptr("ann")
		}, "AccessDenied", "sts:SetSourceIdentity"},
		{"contexts", func(in *stsmodel.AssumeRoleInput) {
			in.ProvidedContexts = []stsmodel.ProvidedContext{{ContextAssertion: model.Ptr("a")}}
		}, "ValidationError", "ProvidedContexts is not implemented"},
		{"code without device", func(in *stsmodel.AssumeRoleInput) { in.TokenCode = model.Ptr("123456") },
			"ValidationError", "SerialNumber"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &stsmodel.AssumeRoleInput{RoleArn: &arn, RoleSessionName: model.Ptr("session")}
			tt.alter(in)
			_, err := w.AssumeRole(ctx, in)
			if code(err) != tt.code || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("error %v, want %s that names %s", err, tt.code, tt.field)
			}
		})
	}
	_, err := w.AssumeRole(
		w.root(t, home),
		&stsmodel.AssumeRoleInput{RoleArn: &arn, RoleSessionName: model.Ptr("session")},
	)
	if code(err) != "AccessDenied" || !strings.Contains(err.Error(), "root") {
		t.Errorf("root: %v", err)
	}
	_, err = w.AssumeRole(t.Context(), &stsmodel.AssumeRoleInput{RoleArn: &arn, RoleSessionName: model.Ptr("session")})
	if code(err) != "AccessDenied" {
		t.Errorf("nobody: %v", err)
	}
}

func TestNobodyIsNotEverybody(t *testing.T) {
	w := newWorld(t)
	arn := w.role(t, "r", trust(`"*"`, ""))
	_, err := w.AssumeRole(t.Context(), &stsmodel.AssumeRoleInput{RoleArn: &arn, RoleSessionName: model.Ptr("session")})
	if code(err) != "AccessDenied" {
		t.Errorf("nobody: %v", err)
	}
}

// TestSessionNameIsNoInstance: the name of a session is the caller's choice and gives it no instance's identity.
func TestSessionNameIsNoInstance(t *testing.T) {
	w := newWorld(t)
	ctx := w.user(t, home, "alice", mayAssume)
	arn := w.role(t, "r", trust(`{"AWS":"`+home+`"}`, ""))
	out, err := w.AssumeRole(ctx, &stsmodel.AssumeRoleInput{
		RoleArn: &arn, RoleSessionName: model.Ptr("i-0123456789abcdef0"),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := authn.CallerFrom(w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken))
	if c.InstanceID != "" || c.SessionName != "i-0123456789abcdef0" {
		t.Errorf("caller %+v", c)
	}
}

func TestDurations(t *testing.T) {
	w := newWorld(t)
	ctx := w.user(t, home, "alice", mayAssume)
	arn := w.role(t, "r", trust(`{"AWS":["`+home+`","arn:aws:iam::`+home+`:user/alice"]}`, ""))
	if _, err := w.iam.PutRolePolicy(w.root(t, home), &iammodel.PutRolePolicyInput{
		RoleName: model.Ptr("r"), PolicyName: model.Ptr("p"), PolicyDocument: model.Ptr(mayAssume),
	}); err != nil {
		t.Fatal(err)
	}
	assume := func(ctx context.Context, seconds *int64) (*stsmodel.AssumeRoleOutput, error) {
		return w.AssumeRole(ctx, &stsmodel.AssumeRoleInput{
			RoleArn: &arn, RoleSessionName: model.Ptr("session"), DurationSeconds: seconds,
		})
	}
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		seconds *int64
		want    time.Duration
	}{
		{"default", nil, time.Hour}, {"shortest", model.Ptr(int64(900)), 15 * time.Minute},
		{"longest", model.Ptr(int64(7200)), 2 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := assume(ctx, tt.seconds)
			if err != nil {
				t.Fatal(err)
			}
			if got := out.Credentials.Expiration.Sub(start); got != tt.want {
				t.Errorf("lasts %v, want %v", got, tt.want)
			}
		})
	}
	out, err := assume(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	session := w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken)
	if _, err := assume(session, model.Ptr(int64(3600))); err != nil {
		t.Errorf("chained for an hour: %v", err)
	}
	_, err = assume(session, model.Ptr(int64(3601)))
	if code(err) != "ValidationError" || !strings.Contains(err.Error(), "role chaining") {
		t.Errorf("chained for longer: %v", err)
	}
}

func TestSessionPolicyLimits(t *testing.T) {
	w := newWorld(t)
	ctx := w.user(t, home, "alice", mayAssume)
	arn := w.role(t, "r", trust(`{"AWS":"`+home+`"}`, ""))
	if _, err := w.iam.PutRolePolicy(w.root(t, home), &iammodel.PutRolePolicyInput{
		RoleName: model.Ptr("r"), PolicyName: model.Ptr("p"),
		PolicyDocument: model.Ptr(statement(`{"Effect":"Allow","Action":["s3:*","ec2:*"],"Resource":"*"}`)),
	}); err != nil {
		t.Fatal(err)
	}
	out, err := w.AssumeRole(ctx, &stsmodel.AssumeRoleInput{
		RoleArn: &arn, RoleSessionName: model.Ptr("session"),
		Policy: model.Ptr(statement(`{"Effect":"Allow","Action":["s3:Get*","iam:*"],"Resource":"*"}`)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if model.Val(out.PackedPolicySize) < 1 {
		t.Errorf("PackedPolicySize %v", out.PackedPolicySize)
	}
	c := authn.CallerFrom(w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken))
	for action, want := range map[string]string{
		"s3:GetObject": "", "s3:PutObject": "AccessDenied", "ec2:RunInstances": "UnauthorizedOperation",
		"iam:GetUser": "AccessDenied",
	} {
		if got := code(w.iam.Authorize(t.Context(), c, action, nil, nil)); got != want {
			t.Errorf("%s: %q, want %q", action, got, want)
		}
	}
}
