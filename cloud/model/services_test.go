package model_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// handlers makes every operation of a service callable, implemented or not.
func handlers(s model.Service, operations []model.Operation) map[string]model.Handler {
	for i := range operations {
		operations[i].Bind = func(any) (model.Call, bool) {
			return func(context.Context, any) (any, error) { return nil, errors.ErrUnsupported }, true
		}
	}
	return model.NewHandlers(s, operations, struct{}{})
}

// TestEveryInputIsReadable shows that the codec has a plan for every generated input: kinds, bounds and patterns.
func TestEveryInputIsReadable(t *testing.T) {
	tests := []struct {
		name       string
		service    model.Service
		operations []model.Operation
		atLeast    int
	}{
		{"iam", iammodel.Service(), iammodel.Operations(), 159},
		{"sts", stsmodel.Service(), stsmodel.Operations(), 8},
		{"elasticloadbalancing", elbmodel.Service(), elbmodel.Operations(), 29},
		{"ec2", ec2model.Service(), ec2model.Operations(), 11},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.service.Name != tt.name || len(tt.operations) < tt.atLeast {
				t.Errorf("service %+v has %d operations, want %d", tt.service, len(tt.operations), tt.atLeast)
			}
			for name, h := range handlers(tt.service, tt.operations) {
				_, err := h.Decode(url.Values{})
				var known *model.Error
				if err != nil && !errors.As(err, &known) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestModelConstraints shows constraints of the real models in the words of each service.
func TestModelConstraints(t *testing.T) {
	tests := []struct {
		name      string
		service   model.Service
		all       []model.Operation
		operation string
		form      string
		want      string // begins the error; empty means none
	}{
		{
			"certificate name", iammodel.Service(), iammodel.Operations(), "GetServerCertificate",
			"ServerCertificateName=a%20b", "ValidationError: 1 validation error detected: Value 'a b' at " +
				"'serverCertificateName' failed to satisfy constraint: Member must satisfy regular expression " +
				"pattern: [\\w+=,.@-]+",
		},
		{
			"private key is not repeated", iammodel.Service(), iammodel.Operations(), "UploadServerCertificate",
			"ServerCertificateName=a&CertificateBody=b&PrivateKey=%00",
			"ValidationError: 1 validation error detected: Value at " +
				"'privateKey' failed to satisfy constraint: Member must satisfy regular expression pattern",
		},
		{"path", iammodel.Service(), iammodel.Operations(), "CreateUser", "UserName=a&Path=/x/y/", ""},
		{
			"path without end", iammodel.Service(), iammodel.Operations(), "CreateUser", "UserName=a&Path=/x",
			"ValidationError: 1 validation error detected: Value '/x' at 'path'",
		},
		{
			"listener port", elbmodel.Service(), elbmodel.Operations(), "CreateLoadBalancer",
			"LoadBalancerName=a&Listeners.member.1.Protocol=HTTP&Listeners.member.1.LoadBalancerPort=80&" +
				"Listeners.member.1.InstancePort=65536",
			"ValidationError: 1 validation error detected: Value '65536' at 'listeners.1.member.instancePort' " +
				"failed to " +
				"satisfy constraint: Member must have value less than or equal to 65535",
		},
		{
			"malformed port", elbmodel.Service(), elbmodel.Operations(), "CreateLoadBalancer",
			"LoadBalancerName=a&Listeners.member.1.LoadBalancerPort=https",
			"MalformedInput: The parameter Listeners.member.1.LoadBalancerPort is malformed",
		},
		{
			"session duration", stsmodel.Service(), stsmodel.Operations(), "AssumeRole",
			"RoleArn=arn:aws:iam::123456789012:role/r&RoleSessionName=s1&DurationSeconds=1",
			"ValidationError: 1 validation error detected: Value '1' at 'durationSeconds'",
		},
		{"new instance type", ec2model.Service(), ec2model.Operations(), "RunInstances",
			"MinCount=1&MaxCount=1&InstanceType=x99.huge", ""},
		{
			"shutdown behaviour", ec2model.Service(), ec2model.Operations(), "RunInstances",
			"MinCount=1&MaxCount=1&InstanceInitiatedShutdownBehavior=explode",
			"InvalidParameterValue: Value (explode) for parameter InstanceInitiatedShutdownBehavior is invalid.",
		},
		{
			"missing in a tag", ec2model.Service(), ec2model.Operations(), "CreateTags", "ResourceId.1=i-1",
			"MissingParameter: The request must contain the parameter Tag",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form, err := url.ParseQuery(tt.form)
			if err != nil {
				t.Fatal(err)
			}
			_, err = handlers(tt.service, tt.all)[tt.operation].Decode(form)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if (tt.want == "") != (got == "") || !strings.HasPrefix(got, tt.want) {
				t.Errorf("error is %q, want %q", got, tt.want)
			}
		})
	}
}
