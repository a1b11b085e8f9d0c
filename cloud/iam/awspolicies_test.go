package iam_test

import (
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestAWSPolicies attaches policies of AWS by the ARNs that users know, and asks what they let a user do.
func TestAWSPolicies(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	alice := w.user(t, "alice", "")
	tests := []struct {
		policy      string // path and name
		may, mayNot []string
	}{
		{"AdministratorAccess", []string{"iam:CreateUser", "s3:GetObject"}, nil},
		{"PowerUserAccess", []string{"ec2:RunInstances", "iam:ListRoles"}, []string{"iam:CreateUser"}},
		{"ReadOnlyAccess", []string{"ec2:DescribeInstances", "iam:GetRole"}, []string{"ec2:RunInstances", "iam:PassRole"}},
		{"job-function/ViewOnlyAccess", []string{"iam:ListRoles"}, []string{"s3:GetObject", "iam:CreateRole"}},
		{"SecurityAudit", []string{"iam:GenerateCredentialReport"}, []string{"s3:GetObject"}},
		{"IAMFullAccess", []string{"iam:DeleteRole"}, []string{"ec2:RunInstances"}},
		{"AmazonEC2FullAccess", []string{"ec2:RunInstances", "elasticloadbalancing:CreateLoadBalancer"},
			[]string{"iam:CreateServiceLinkedRole", "iam:PassRole"}},
		{"AmazonS3ReadOnlyAccess", []string{"s3:GetObject"}, []string{"s3:PutObject"}},
		{"AmazonSSMManagedInstanceCore", []string{"ssm:UpdateInstanceInformation"}, []string{"ssm:SendCommand"}},
		{"service-role/AWSLambdaBasicExecutionRole", []string{"logs:PutLogEvents"}, []string{"logs:DeleteLogGroup"}},
		{"AWSDenyAll", nil, []string{"s3:GetObject"}},
	}
	for _, tt := range tests {
		arn := "arn:aws:iam::aws:policy/" + tt.policy
		attached := &iammodel.AttachUserPolicyInput{UserName: model.Ptr("alice"), PolicyArn: &arn}
		must(ctx, t, w.AttachUserPolicy, attached)
		for _, action := range tt.may {
			if why := w.may(t, alice, action); why != "" {
				t.Errorf("with %s: %s", tt.policy, why)
			}
		}
		for _, action := range tt.mayNot {
			if w.may(t, alice, action) == "" {
				t.Errorf("with %s a user may %s", tt.policy, action)
			}
		}
		got := must(ctx, t, w.GetPolicy, &iammodel.GetPolicyInput{PolicyArn: &arn}).Policy
		if *got.AttachmentCount != 1 || "/"+tt.policy != *got.Path+*got.PolicyName {
			t.Errorf("%s: path %s, name %s, %d attachments", tt.policy, *got.Path, *got.PolicyName, *got.AttachmentCount)
		}
		must(ctx, t, w.DetachUserPolicy, &iammodel.DetachUserPolicyInput{UserName: model.Ptr("alice"), PolicyArn: &arn})
	}
	for _, unknown := range []string{"ViewOnlyAccess", "NoSuchPolicy", "service-role/AdministratorAccess"} {
		_, err := w.GetPolicy(ctx, &iammodel.GetPolicyInput{PolicyArn: model.Ptr("arn:aws:iam::aws:policy/" + unknown)})
		wantCode(t, err, "NoSuchEntity")
	}
	seen, in := map[string]bool{}, &iammodel.ListPoliciesInput{Scope: model.Ptr("AWS"), MaxItems: model.Ptr(int64(9))}
	for {
		out := must(ctx, t, w.ListPolicies, in)
		for _, p := range out.Policies {
			if seen[*p.Arn] || !strings.HasPrefix(*p.Arn, "arn:aws:iam::aws:policy/") {
				t.Errorf("%s is listed twice, or is not AWS's", *p.Arn)
			}
			seen[*p.Arn] = true
		}
		if in.Marker = out.Marker; in.Marker == nil {
			break
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d policies of AWS are listed", len(seen))
	}
}
