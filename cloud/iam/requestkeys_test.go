package iam_test

import (
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

// TestRequestKeys decide wherever a request is decided: at the front door, for the AssumeRole family, and where a role
// is passed. A caller that did not come over the network has none of them.
func TestRequestKeys(t *testing.T) {
	w := newWorld(t)
	const conditions = `"Condition":{"Bool":{"aws:SecureTransport":"true"},"StringLike":{"aws:UserAgent":"aws-cli/*"},` +
		`"IpAddress":{"aws:SourceIp":"10.64.0.0/16"}}`
	role := w.role(t, demoAccount, "r", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"`+
		demoAccount+`"},"Action":"sts:AssumeRole",`+conditions+`}]}`, "")
	alice := w.user(t, "alice", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:PassRole",`+
		`"iam:GetRole"],"Resource":"*",`+conditions+`},{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`)
	const agent, near = "aws-cli/2.9.19 Python/3.11", "10.64.0.7"
	for _, tt := range []struct {
		name      string
		transport authn.Transport
		agent, ip string
		want      string
	}{
		{"as wanted", authn.TransportTLS, agent, near, ""},
		{"in the clear", authn.TransportPlain, agent, near, "AccessDenied"},
		{"unknown transport", authn.TransportUnknown, agent, near, "AccessDenied"},
		{"another client", authn.TransportTLS, "curl/8", near, "AccessDenied"},
		{"a client that does not say", authn.TransportTLS, "", near, "AccessDenied"},
		{"from elsewhere", authn.TransportTLS, agent, "10.65.0.7", "AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			caller := alice
			caller.Transport, caller.UserAgent, caller.SourceIP = tt.transport, tt.agent, tt.ip
			_, err := w.AuthorizeAssumption(t.Context(), caller, iam.Assumption{RoleARN: role, MFA: true})
			wantCode(t, err, tt.want)
			wantCode(t, w.AuthorizePassRole(t.Context(), caller, role, iam.ServiceEC2, ""), tt.want)
			wantCode(t, w.Authorize(t.Context(), caller, "iam:GetRole", []string{role}, nil), tt.want)
		})
	}
}

// TestPassRoleFor has a policy tell for which resources a role may be passed.
func TestPassRoleFor(t *testing.T) {
	w := newWorld(t)
	role := w.role(t, demoAccount, "r", trustEC2, "")
	const here = "arn:aws:ec2:us-east-1:" + demoAccount + ":instance/"
	alice := w.user(t, "alice", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:PassRole",`+
		`"Resource":"*","Condition":{"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"},`+
		`"ArnLike":{"iam:AssociatedResourceARN":"`+here+`*"}}}]}`)
	for _, tt := range []struct{ service, resource, want string }{
		{iam.ServiceEC2, here + "i-0123456789abcdef0", ""},
		{iam.ServiceEC2, here + "*", ""},
		{iam.ServiceEC2, "arn:aws:ec2:eu-west-1:" + demoAccount + ":instance/*", "AccessDenied"},
		{iam.ServiceEC2, "", "AccessDenied"},
		{"lambda.amazonaws.com", here + "*", "AccessDenied"},
	} {
		err := w.AuthorizePassRole(t.Context(), alice, role, tt.service, tt.resource)
		if got := code(err); got != tt.want {
			t.Errorf("to %s for %q: %q, want %q", tt.service, tt.resource, got, tt.want)
		}
	}
}
