package iam

import (
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// typicalPolicy asks for keys of the request, of the caller, and of what the operation says, in conditions, policy
// variables and a resource.
const typicalPolicy = `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":["arn:aws:s3:::a","arn:aws:s3:::a/*"]},
	{"Effect":"Deny","Action":"iam:*","NotResource":"arn:aws:iam::123456789012:user/${aws:username}"},
	{"Effect":"Allow","Action":["iam:GetUser","iam:*AccessKey*"],
	 "Resource":"arn:aws:iam::123456789012:user/${aws:username}",
	 "Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"Bool":{"aws:SecureTransport":"true"},
	  "StringEquals":{"aws:PrincipalTag/team":"${aws:RequestTag/team}","aws:RequestedRegion":"us-east-1"}}}]}`

func typicalQuestion(t testing.TB) (*policy.Set, *policy.Request) {
	t.Helper()
	doc, err := policy.Parse(typicalPolicy, policy.Identity)
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{cfg: Config{Clock: time.Now, Region: "us-east-1"}}
	caller := &authn.Caller{
		Kind: authn.KindUser, AccountID: "123456789012", ARN: "arn:aws:iam::123456789012:user/alice", UserName: "alice",
		SourceIP: "10.1.2.3", Transport: authn.TransportTLS,
		Session: &authn.Session{Tags: []authn.Tag{{Key: "Team", Value: "red"}}},
	}
	r := s.request(t.Context(), caller, "iam:ListAccessKeys", map[string][]string{"aws:RequestTag/team": {"red"}})
	r.Resource = caller.ARN
	return &policy.Set{Identity: []policy.Source{{Name: "typical", Document: doc}}}, r
}

// TestConditionsMakeNoGarbage holds an evaluation on a request's real keys to no allocation.
func TestConditionsMakeNoGarbage(t *testing.T) {
	set, r := typicalQuestion(t)
	if d := set.Evaluate(r); !d.Allowed() {
		t.Fatal(set.Explain(r))
	}
	if n := testing.AllocsPerRun(100, func() { set.Evaluate(r) }); n != 0 {
		t.Errorf("an evaluation allocates %v times, want 0", n)
	}
}

// TestExplanationKeepsValues: a key's values are shown as they were, whatever was asked after it.
func TestExplanationKeepsValues(t *testing.T) {
	set, r := typicalQuestion(t)
	have := map[string]string{}
	for _, c := range set.Explain(r).Policies[0].Statements[2].Conditions {
		have[c.Key] = c.Have[0]
	}
	for key, want := range map[string]string{
		"aws:SourceIp": "10.1.2.3", "aws:SecureTransport": "true", "aws:PrincipalTag/team": "red",
		"aws:RequestedRegion": "us-east-1",
	} {
		if have[key] != want {
			t.Errorf("%s is %q, want %q", key, have[key], want)
		}
	}
}

func BenchmarkEvaluateRequest(b *testing.B) {
	set, r := typicalQuestion(b)
	b.ReportAllocs()
	for b.Loop() {
		if !set.Evaluate(r).Allowed() {
			b.Fatal("denied")
		}
	}
}
