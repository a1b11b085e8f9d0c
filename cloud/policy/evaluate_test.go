package policy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

func parse(t testing.TB, g policy.Grammar, text string) *policy.Document {
	t.Helper()
	d, err := policy.Parse(text, g)
	if err != nil {
		t.Fatalf("Parse %s: %v", text, err)
	}
	return d
}

// statements makes a document of version 2012-10-17.
func statements(t testing.TB, g policy.Grammar, list string) *policy.Document {
	t.Helper()
	return parse(t, g, `{"Version":"2012-10-17","Statement":[`+list+`]}`)
}

func TestMatching(t *testing.T) {
	const alice = "arn:aws:iam::123456789012:user/alice"
	values := policy.ContextMap{"aws:username": {"alice"}, "aws:many": {"a", "b"}, "aws:star": {"*"}}
	tests := []struct {
		name      string
		statement string
		action    string
		resource  string
		want      bool
	}{
		{"everything", `"Action":"*","Resource":"*"`, "iam:GetUser", alice, true},
		{"action case", `"Action":"IAM:getuser","Resource":"*"`, "iam:GetUser", alice, true},
		{"action prefix", `"Action":"iam:Get*","Resource":"*"`, "iam:GetUser", alice, true},
		{"action prefix misses", `"Action":"iam:Get*","Resource":"*"`, "iam:DeleteUser", alice, false},
		{"action middle star", `"Action":"iam:*User*","Resource":"*"`, "iam:GetUserPolicy", alice, true},
		{"action question mark", `"Action":"iam:?etUser","Resource":"*"`, "iam:GetUser", alice, true},
		{"action question mark is one", `"Action":"iam:GetUser?","Resource":"*"`, "iam:GetUser", alice, false},
		{"action second of list", `"Action":["a:b","iam:GetUser"],"Resource":"*"`, "iam:GetUser", alice, true},
		{"not action", `"NotAction":"iam:*","Resource":"*"`, "iam:GetUser", alice, false},
		{"not other action", `"NotAction":"s3:*","Resource":"*"`, "iam:GetUser", alice, true},
		{"resource exact", `"Action":"*","Resource":"` + alice + `"`, "iam:GetUser", alice, true},
		{
			"resource case counts",
			`"Action":"*","Resource":"arn:aws:iam::123456789012:user/Alice"`,
			"iam:GetUser",
			alice,
			false,
		},
		{
			"resource is no prefix",
			`"Action":"*","Resource":"arn:aws:iam::123456789012:user/ali"`,
			"iam:GetUser",
			alice,
			false,
		},
		{"resource star", `"Action":"*","Resource":"arn:aws:iam::*:user/*"`, "iam:GetUser", alice, true},
		{"not resource", `"Action":"*","NotResource":"` + alice + `"`, "iam:GetUser", alice, false},
		{"not other resource", `"Action":"*","NotResource":"arn:aws:s3:::x"`, "iam:GetUser", alice, true},
		{"variable", `"Action":"*","Resource":"arn:aws:iam::123456789012:user/${aws:username}"`, "iam:GetUser", alice, true},
		{
			"variable case",
			`"Action":"*","Resource":"arn:aws:iam::123456789012:user/${AWS:UserName}"`,
			"iam:GetUser",
			alice,
			true,
		},
		{
			"variable unknown",
			`"Action":"*","Resource":"arn:aws:iam::123456789012:user/${aws:nothing}"`,
			"iam:GetUser",
			alice,
			false,
		},
		{"variable default", `"Action":"*","Resource":"arn:aws:iam::123456789012:user/${aws:nothing, 'alice'}"`,
			"iam:GetUser", alice, true},
		{
			"variable with several values",
			`"Action":"*","Resource":"arn:aws:s3:::${aws:many}"`,
			"s3:Get",
			"arn:aws:s3:::a",
			false,
		},
		{"variable's star is plain", `"Action":"*","Resource":"arn:aws:s3:::${aws:star}"`, "s3:Get", "arn:aws:s3:::a", false},
		{"escaped star", `"Action":"*","Resource":"arn:aws:s3:::a${*}"`, "s3:Get", "arn:aws:s3:::a*", true},
		{"escaped star is plain", `"Action":"*","Resource":"arn:aws:s3:::a${*}"`, "s3:Get", "arn:aws:s3:::ab", false},
		{
			"allow all but the unknown",
			`"Action":"*","NotResource":"arn:aws:s3:::${aws:nothing}"`,
			"s3:Get",
			"arn:aws:s3:::a",
			false,
		},
		{"backtracking", `"Action":"*","Resource":"arn:aws:s3:::*ab*abc"`, "s3:Get", "arn:aws:s3:::ababababc", true},
		{"backtracking misses", `"Action":"*","Resource":"arn:aws:s3:::*ab*abd"`, "s3:Get", "arn:aws:s3:::ababababc", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set := policy.Set{Identity: []policy.Source{{Name: "p",
				Document: statements(t, policy.Identity, `{"Effect":"Allow",`+tt.statement+`}`)}}}
			r := policy.Request{Action: tt.action, Resource: tt.resource, Context: values}
			if got := set.Evaluate(&r).Allowed(); got != tt.want {
				t.Errorf("allowed = %v, want %v\n%s", got, tt.want, set.Explain(&r))
			}
		})
	}
}

func TestOldVersionHasNoVariables(t *testing.T) {
	set := policy.Set{Identity: []policy.Source{{Document: parse(t, policy.Identity,
		`{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username}"}}`)}}}
	values := policy.ContextMap{"aws:username": {"alice"}}
	if set.Evaluate(&policy.Request{Action: "s3:Get", Resource: "arn:aws:s3:::alice", Context: values}).Allowed() {
		t.Error("a variable was replaced in a document of 2008")
	}
	if !set.Evaluate(&policy.Request{Action: "s3:Get", Resource: "arn:aws:s3:::${aws:username}", Context: values}).
		Allowed() {
		t.Error("the plain text does not match itself")
	}
}

func TestConditions(t *testing.T) {
	values := policy.ContextMap{
		"aws:username": {"alice"}, "aws:sourceip": {"10.1.2.3"}, "aws:currenttime": {"2026-05-01T12:00:00Z"},
		"aws:securetransport": {"true"}, "s3:max-keys": {"10"}, "aws:tagkeys": {"a", "b"}, "aws:empty": {},
		"aws:principalarn": {"arn:aws:iam::123456789012:role/x/y"}, "aws:epochtime": {"1777636800"},
		"aws:bin": {"QQ=="}, "aws:mapped": {"::ffff:10.1.2.3"},
	}
	tests := []struct {
		name      string
		condition string
		want      bool
	}{
		{"StringEquals", `"StringEquals":{"aws:username":"alice"}`, true},
		{"StringEquals key case", `"StringEquals":{"AWS:UserName":"alice"}`, true},
		{"StringEquals value case", `"StringEquals":{"aws:username":"Alice"}`, false},
		{"StringEquals star is plain", `"StringEquals":{"aws:username":"a*"}`, false},
		{"StringEquals one of", `"StringEquals":{"aws:username":["bob","alice"]}`, true},
		{"StringEquals absent", `"StringEquals":{"aws:x":"alice"}`, false},
		{"StringEqualsIfExists absent", `"StringEqualsIfExists":{"aws:x":"alice"}`, true},
		{"StringEqualsIfExists present", `"StringEqualsIfExists":{"aws:username":"bob"}`, false},
		{"StringNotEquals", `"StringNotEquals":{"aws:username":"bob"}`, true},
		{"StringNotEquals none of", `"StringNotEquals":{"aws:username":["bob","alice"]}`, false},
		{"StringNotEquals absent", `"StringNotEquals":{"aws:x":"alice"}`, true},
		{"StringEqualsIgnoreCase", `"StringEqualsIgnoreCase":{"aws:username":"ALICE"}`, true},
		{"StringNotEqualsIgnoreCase", `"StringNotEqualsIgnoreCase":{"aws:username":"ALICE"}`, false},
		{"StringLike", `"StringLike":{"aws:username":"a?i*"}`, true},
		{"StringNotLike", `"StringNotLike":{"aws:username":"a?i*"}`, false},
		{"StringLike variable", `"StringLike":{"aws:username":"${aws:username}"}`, true},
		{"NumericEquals", `"NumericEquals":{"s3:max-keys":"10.0"}`, true},
		{"NumericNotEquals", `"NumericNotEquals":{"s3:max-keys":10}`, false},
		{"NumericLessThan", `"NumericLessThan":{"s3:max-keys":10}`, false},
		{"NumericLessThanEquals", `"NumericLessThanEquals":{"s3:max-keys":10}`, true},
		{"NumericGreaterThan", `"NumericGreaterThan":{"s3:max-keys":9}`, true},
		{"NumericGreaterThanEquals", `"NumericGreaterThanEquals":{"s3:max-keys":11}`, false},
		{"Numeric of text", `"NumericEquals":{"aws:username":1}`, false},
		{"DateEquals", `"DateEquals":{"aws:CurrentTime":"2026-05-01T14:00:00+02:00"}`, true},
		{"DateLessThan", `"DateLessThan":{"aws:CurrentTime":"2026-05-02"}`, true},
		{"DateGreaterThan", `"DateGreaterThan":{"aws:CurrentTime":"2026-05-02T00:00Z"}`, false},
		{"DateGreaterThan epoch", `"DateGreaterThan":{"aws:CurrentTime":"1700000000"}`, true},
		{"epoch value", `"DateEquals":{"aws:EpochTime":"2026-05-01T12:00:00Z"}`, true},
		{"Bool", `"Bool":{"aws:SecureTransport":true}`, true},
		{"Bool false", `"Bool":{"aws:SecureTransport":"false"}`, false},
		{"Bool absent", `"Bool":{"aws:MultiFactorAuthPresent":"false"}`, false},
		{"BinaryEquals", `"BinaryEquals":{"aws:bin":"QQ=="}`, true},
		{"IpAddress", `"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}`, true},
		{"IpAddress single", `"IpAddress":{"aws:SourceIp":"10.1.2.3"}`, true},
		{"IpAddress other", `"IpAddress":{"aws:SourceIp":["192.0.2.0/24","2001:db8::/32"]}`, false},
		{"IpAddress mapped", `"IpAddress":{"aws:mapped":"10.0.0.0/8"}`, true},
		{"NotIpAddress", `"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}`, false},
		{"ArnLike", `"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/x/*"}`, true},
		{"ArnEquals is ArnLike", `"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::123456789012:role/*"}`, true},
		{"ArnLike star stays in its part", `"ArnLike":{"aws:PrincipalArn":"arn:aws:*:*:*:y"}`, false},
		{"StringLike star does not", `"StringLike":{"aws:PrincipalArn":"arn:aws:*y"}`, true},
		{"ArnNotLike", `"ArnNotLike":{"aws:PrincipalArn":"*"}`, false},
		{"ArnLike of text", `"ArnLike":{"aws:username":"arn:aws:iam::*:user/*"}`, false},
		{"Null true of present", `"Null":{"aws:username":"true"}`, false},
		{"Null false of present", `"Null":{"aws:username":"false"}`, true},
		{"Null true of absent", `"Null":{"aws:x":true}`, true},
		{"ForAllValues", `"ForAllValues:StringEquals":{"aws:TagKeys":["a","b","c"]}`, true},
		{"ForAllValues misses", `"ForAllValues:StringEquals":{"aws:TagKeys":["a","c"]}`, false},
		{"ForAllValues absent", `"ForAllValues:StringEquals":{"aws:x":["a"]}`, true},
		{"ForAllValues empty", `"ForAllValues:StringEquals":{"aws:empty":["a"]}`, true},
		{"ForAnyValue", `"ForAnyValue:StringEquals":{"aws:TagKeys":["b","c"]}`, true},
		{"ForAnyValue misses", `"ForAnyValue:StringEquals":{"aws:TagKeys":["c"]}`, false},
		{"ForAnyValue absent", `"ForAnyValue:StringNotEquals":{"aws:x":["c"]}`, false},
		{"ForAnyValue negated", `"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a"]}`, true},
		{"ForAllValues negated", `"ForAllValues:StringNotEquals":{"aws:TagKeys":["a"]}`, false},
		{"many values without set operator", `"StringEquals":{"aws:TagKeys":"b"}`, true},
		{"many values negated", `"StringNotEquals":{"aws:TagKeys":"b"}`, false},
		{
			"two operators are both needed",
			`"StringEquals":{"aws:username":"alice"},"Bool":{"aws:SecureTransport":false}`,
			false,
		},
		{"two keys are both needed", `"StringEquals":{"aws:username":"alice","aws:x":"y"}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set := policy.Set{Identity: []policy.Source{{Name: "p", Document: statements(t, policy.Identity,
				`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{`+tt.condition+`}}`)}}}
			r := policy.Request{Action: "iam:GetUser", Resource: "*", Context: values}
			if got := set.Evaluate(&r).Allowed(); got != tt.want {
				t.Errorf("allowed = %v, want %v\n%s", got, tt.want, set.Explain(&r))
			}
		})
	}
}

func TestLayers(t *testing.T) {
	const allow = `{"Sid":"A","Effect":"Allow","Action":"*","Resource":"*"}`
	const deny = `{"Sid":"D","Effect":"Deny","Action":"iam:*","Resource":"*"}`
	src := func(g policy.Grammar, list string) []policy.Source {
		return []policy.Source{{Name: "doc", Document: statements(t, g, list)}}
	}
	resource := func(effect, principal string) *policy.Source {
		return &src(policy.Resource, `{"Effect":"`+effect+`","Principal":`+principal+`,"Action":"*","Resource":"*"}`)[0]
	}
	user := policy.Principal{ARN: "arn:aws:iam::111111111111:user/u", AccountID: "111111111111"}
	session := policy.Principal{ARN: "arn:aws:sts::111111111111:assumed-role/r/s", AccountID: "111111111111",
		RoleARN: "arn:aws:iam::111111111111:role/r"}
	tests := []struct {
		name      string
		set       policy.Set
		principal policy.Principal
		cross     bool
		want      policy.Decision
	}{
		{"nothing", policy.Set{}, user, false, policy.Decision{Statement: -1}},
		{"nil document", policy.Set{Identity: []policy.Source{{Name: "n"}}}, user, false, policy.Decision{Statement: -1}},
		{"identity", policy.Set{Identity: src(policy.Identity, allow)}, user, false,
			policy.Decision{Verdict: policy.Allowed, Policy: "doc", Sid: "A"}},
		{"deny wins over allow", policy.Set{Identity: src(policy.Identity, allow+","+deny)}, user, false,
			policy.Decision{Verdict: policy.ExplicitDeny, Policy: "doc", Statement: 1, Sid: "D"}},
		{"deny in another document", policy.Set{Identity: append(src(policy.Identity, allow), src(policy.Identity, deny)...)},
			user, false, policy.Decision{Verdict: policy.ExplicitDeny, Policy: "doc", Sid: "D"}},
		{"boundary lacks", policy.Set{Identity: src(policy.Identity, allow), Boundary: src(policy.Identity,
			`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}, user, false,
			policy.Decision{Stage: policy.StageBoundary, Statement: -1}},
		{
			"boundary grants nothing",
			policy.Set{Boundary: src(policy.Identity, allow)},
			user,
			false,
			policy.Decision{Statement: -1},
		},
		{
			"boundary denies",
			policy.Set{Identity: src(policy.Identity, allow), Boundary: src(policy.Identity, deny)},
			user,
			false,
			policy.Decision{Verdict: policy.ExplicitDeny, Stage: policy.StageBoundary, Policy: "doc", Sid: "D"},
		},
		{"session lacks", policy.Set{Identity: src(policy.Identity, allow), Session: src(policy.Identity,
			`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}, session, false,
			policy.Decision{Stage: policy.StageSession, Statement: -1}},
		{
			"session grants nothing",
			policy.Set{Session: src(policy.Identity, allow)},
			session,
			false,
			policy.Decision{Statement: -1},
		},
		{"session and identity", policy.Set{Identity: src(policy.Identity, allow), Session: src(policy.Identity, allow)},
			session, false, policy.Decision{Verdict: policy.Allowed, Policy: "doc", Sid: "A"}},
		{"resource names the user", policy.Set{Resource: resource("Allow", `{"AWS":"`+user.ARN+`"}`)}, user, false,
			policy.Decision{Verdict: policy.Allowed, Stage: policy.StageResource, Policy: "doc"}},
		{"resource names the account", policy.Set{Resource: resource("Allow", `{"AWS":"111111111111"}`)}, user, false,
			policy.Decision{Statement: -1}},
		{"resource names the account and identity allows", policy.Set{Identity: src(policy.Identity, allow),
			Resource: resource("Allow", `{"AWS":"111111111111"}`), ResourceDecides: true}, user, false,
			policy.Decision{Verdict: policy.Allowed, Policy: "doc", Sid: "A"}},
		{"resource names another", policy.Set{Resource: resource("Allow", `{"AWS":"222222222222"}`)}, user, false,
			policy.Decision{Statement: -1}},
		{"resource decides and is silent", policy.Set{Identity: src(policy.Identity, allow),
			Resource: resource("Allow", `{"AWS":"222222222222"}`), ResourceDecides: true}, user, false,
			policy.Decision{Stage: policy.StageResource, Statement: -1}},
		{"resource denies", policy.Set{Identity: src(policy.Identity, allow), Resource: resource("Deny", `"*"`)}, user, false,
			policy.Decision{Verdict: policy.ExplicitDeny, Stage: policy.StageResource, Policy: "doc"}},
		{
			"resource names the role, session policy lacks",
			policy.Set{Resource: resource("Allow", `{"AWS":"`+session.RoleARN+`"}`),
				Session: src(policy.Identity, `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)},
			session,
			false,
			policy.Decision{Stage: policy.StageSession, Statement: -1},
		},
		{"resource names the session", policy.Set{Resource: resource("Allow", `{"AWS":"`+session.ARN+`"}`),
			Session: src(policy.Identity, `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}, session, false,
			policy.Decision{Verdict: policy.Allowed, Stage: policy.StageResource, Policy: "doc"}},
		{"other account, identity alone", policy.Set{Identity: src(policy.Identity, allow)}, user, true,
			policy.Decision{Stage: policy.StageResource, Statement: -1}},
		{"other account, resource alone", policy.Set{Resource: resource("Allow", `{"AWS":"`+user.ARN+`"}`)}, user, true,
			policy.Decision{Statement: -1}},
		{
			"other account, both",
			policy.Set{Identity: src(policy.Identity, allow), Resource: resource("Allow", `"*"`)},
			user,
			true,
			policy.Decision{Verdict: policy.Allowed, Policy: "doc", Sid: "A"},
		},
		{"service", policy.Set{Resource: resource("Allow", `{"Service":"ec2.amazonaws.com"}`), ResourceDecides: true},
			policy.Principal{Service: "ec2.amazonaws.com"}, false,
			policy.Decision{Verdict: policy.Allowed, Stage: policy.StageResource, Policy: "doc"}},
		{"other service", policy.Set{Resource: resource("Allow", `{"Service":"s3.amazonaws.com"}`), ResourceDecides: true},
			policy.Principal{Service: "ec2.amazonaws.com"}, false, policy.Decision{Stage: policy.StageResource, Statement: -1}},
		{"federated", policy.Set{Resource: resource("Allow", `{"Federated":"idp"}`), ResourceDecides: true},
			policy.Principal{Federated: "idp"}, false,
			policy.Decision{Verdict: policy.Allowed, Stage: policy.StageResource, Policy: "doc"}},
		{"NotPrincipal spares the named", policy.Set{Identity: src(policy.Identity, allow), Resource: &src(policy.Resource,
			`{"Effect":"Deny","NotPrincipal":{"AWS":["`+user.ARN+`","111111111111"]},"Action":"*","Resource":"*"}`)[0]},
			user, false, policy.Decision{Verdict: policy.Allowed, Policy: "doc", Sid: "A"}},
		{"NotPrincipal without the account spares nobody", policy.Set{Identity: src(policy.Identity, allow),
			Resource: &src(policy.Resource,
				`{"Effect":"Deny","NotPrincipal":{"AWS":"`+user.ARN+`"},"Action":"*","Resource":"*"}`)[0]}, user, false,
			policy.Decision{Verdict: policy.ExplicitDeny, Stage: policy.StageResource, Policy: "doc"}},
		{"NotPrincipal spares a session with role and account", policy.Set{Identity: src(policy.Identity, allow),
			Resource: &src(policy.Resource, `{"Effect":"Deny","NotPrincipal":{"AWS":["`+session.ARN+`","`+
				session.RoleARN+`","111111111111"]},"Action":"*","Resource":"*"}`)[0]}, session, false,
			policy.Decision{Verdict: policy.Allowed, Policy: "doc", Sid: "A"}},
		{"NotPrincipal with the role alone hits the session", policy.Set{Identity: src(policy.Identity, allow),
			Resource: &src(policy.Resource, `{"Effect":"Deny","NotPrincipal":{"AWS":["`+session.RoleARN+
				`","111111111111"]},"Action":"*","Resource":"*"}`)[0]}, session, false,
			policy.Decision{Verdict: policy.ExplicitDeny, Stage: policy.StageResource, Policy: "doc"}},
		{"Allow with NotPrincipal gives the named nothing", policy.Set{Resource: &src(policy.Resource,
			`{"Effect":"Allow","NotPrincipal":{"AWS":"`+user.ARN+`"},"Action":"*","Resource":"*"}`)[0]}, user, false,
			policy.Decision{Statement: -1}},
		{"control lacks", policy.Set{Identity: src(policy.Identity, allow), Control: src(policy.Identity,
			`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}, user, false,
			policy.Decision{Stage: policy.StageControl, Statement: -1}},
		{"control denies the root user too", policy.Set{Unlimited: true, Control: src(policy.Identity, allow+","+deny)},
			policy.Principal{ARN: "arn:aws:iam::111111111111:root", AccountID: "111111111111", Root: true}, false,
			policy.Decision{Verdict: policy.ExplicitDeny, Stage: policy.StageControl, Policy: "doc", Statement: 1, Sid: "D"}},
		{"control grants nothing", policy.Set{Control: src(policy.Identity, allow)}, user, false,
			policy.Decision{Statement: -1}},
		{"unlimited", policy.Set{Unlimited: true},
			policy.Principal{ARN: "arn:aws:iam::111111111111:root", AccountID: "111111111111", Root: true}, false,
			policy.Decision{Verdict: policy.Allowed, Statement: -1}},
		{"NotPrincipal hits others", policy.Set{Identity: src(policy.Identity, allow), Resource: &src(policy.Resource,
			`{"Effect":"Deny","NotPrincipal":{"AWS":"`+user.ARN+`"},"Action":"*","Resource":"*"}`)[0]}, session, false,
			policy.Decision{Verdict: policy.ExplicitDeny, Stage: policy.StageResource, Policy: "doc"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := policy.Request{Action: "iam:GetUser", Resource: "*", Principal: tt.principal, CrossAccount: tt.cross}
			if diff := cmp.Diff(tt.want, tt.set.Evaluate(&r)); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, tt.set.Explain(&r).Decision); diff != "" {
				t.Errorf("explained decision (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExplanationNamesWhatIsMissing(t *testing.T) {
	set := policy.Set{
		Identity: []policy.Source{{Name: "inline policy p of user u", Document: statements(t, policy.Identity,
			`{"Sid":"FromHome","Effect":"Allow","Action":"iam:GetUser","Resource":"*",
		  "Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}},
		 {"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::123456789012:role/r"}`)}},
	}
	r := policy.Request{Action: "iam:GetUser", Resource: "arn:aws:iam::123456789012:user/u",
		Context: policy.ContextMap{"aws:sourceip": {"192.0.2.1"}}}
	e := set.Explain(&r)
	want := []string{
		`inline policy p of user u, statement 0 (FromHome): aws:SourceIp IpAddress wants "10.0.0.0/8" and is "192.0.2.1"`,
		`inline policy p of user u, statement 1: does not cover arn:aws:iam::123456789012:user/u`,
		`a statement in the identity-based policy with Effect Allow, Action iam:GetUser, ` +
			`Resource arn:aws:iam::123456789012:user/u`,
	}
	if diff := cmp.Diff(want, e.Needed); diff != "" {
		t.Errorf("needed (-want +got):\n%s", diff)
	}
	if got := e.Decision.Because(r.Action); got != "because no identity-based policy allows the iam:GetUser action" {
		t.Errorf("Because = %q", got)
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"key":"aws:SourceIp"`) {
		t.Errorf("JSON lacks the condition: %s", data)
	}
	denied := policy.Decision{Verdict: policy.ExplicitDeny, Stage: policy.StageSession}
	if got := denied.Because(r.Action); got != "with an explicit deny in a session policy" {
		t.Errorf("Because = %q", got)
	}
}

func typical(b testing.TB) (policy.Set, policy.Request) {
	b.Helper()
	set := policy.Set{Identity: []policy.Source{{Name: "p", Document: statements(b, policy.Identity,
		`{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":["arn:aws:s3:::a","arn:aws:s3:::a/*"]},
		 {"Effect":"Deny","Action":"iam:*","NotResource":"arn:aws:iam::123456789012:user/${aws:username}"},
		 {"Effect":"Allow","Action":["iam:GetUser","iam:*AccessKey*"],
		  "Resource":"arn:aws:iam::123456789012:user/${aws:username}",
		  "Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"Bool":{"aws:SecureTransport":"true"}}}`)}}}
	return set, policy.Request{Action: "iam:ListAccessKeys", Resource: "arn:aws:iam::123456789012:user/alice",
		Context: policy.ContextMap{"aws:username": {"alice"}, "aws:sourceip": {"10.1.2.3"}, "aws:securetransport": {"true"}}}
}

// TestEvaluateMakesNoGarbage holds the common path to no allocation: patterns, variables, two conditions.
func TestEvaluateMakesNoGarbage(t *testing.T) {
	set, r := typical(t)
	if n := testing.AllocsPerRun(100, func() { set.Evaluate(&r) }); n != 0 {
		t.Errorf("an evaluation allocates %v times, want 0", n)
	}
}

func BenchmarkEvaluateTypical(b *testing.B) {
	set, r := typical(b)
	b.ReportAllocs()
	for b.Loop() {
		if !set.Evaluate(&r).Allowed() {
			b.Fatal("denied")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	const text = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:DownloadServerCertificate",
		"Resource":"arn:aws:iam::123456789012:server-certificate/www"}]}`
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Parse(text, policy.Identity); err != nil {
			b.Fatal(err)
		}
	}
}
