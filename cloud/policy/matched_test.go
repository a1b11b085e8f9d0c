package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

func TestMatched(t *testing.T) {
	doc := parse(t, policy.Identity, `{
  "Version": "2012-10-17",
  "Statement": [
    {"Sid": "A", "Effect": "Allow", "Action": "s3:*", "Resource": "*"},
    {"Sid": "B", "Effect": "Deny", "Action": "s3:Put*", "Resource": "*"},
    {"Sid": "C", "Effect": "Allow", "Action": "iam:*", "Resource": "*"}
  ]
}`)
	set := policy.Set{Identity: []policy.Source{{Name: "p", Document: doc}}}
	got := set.Matched(&policy.Request{Action: "s3:PutObject", Resource: "arn:aws:s3:::b/k"})
	want := []policy.Match{
		{Policy: "p", Sid: "A", Effect: policy.Allow, Start: policy.Position{Line: 4, Column: 5},
			End: policy.Position{Line: 4, Column: 71}},
		{Policy: "p", Statement: 1, Sid: "B", Effect: policy.Deny, Start: policy.Position{Line: 5, Column: 5},
			End: policy.Position{Line: 5, Column: 73}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("matched (-want +got):\n%s", diff)
	}
}

func TestContextKeys(t *testing.T) {
	doc := statements(t, policy.Identity, `
		{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:username}/${aws:PrincipalTag/Team, 'x'}"},
		{"Effect":"Allow","Action":"s3:Get*","Resource":"*","Condition":{
			"StringLike":{"s3:prefix":["${aws:userid}/*"]},"ArnLike":{"aws:SourceArn":"arn:aws:s3:::${aws:sourceVpc}"},
			"Bool":{"AWS:Username":"true"}}}`)
	want := []string{"aws:PrincipalTag/Team", "aws:SourceArn", "aws:sourceVpc", "aws:userid", "aws:username", "s3:prefix"}
	if diff := cmp.Diff(want, doc.ContextKeys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	set := policy.Set{Identity: []policy.Source{{Name: "p", Document: doc}}}
	missing := set.MissingKeys(&policy.Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/k",
		Context: policy.ContextMap{"s3:prefix": {"x"}}})
	if diff := cmp.Diff([]string{"AWS:Username", "aws:SourceArn"}, missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}
