package api

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

func TestSDKClientIAM(t *testing.T) {
	tw := newTwin(t)
	client := iam.NewFromConfig(tw.config(testSecret))
	out, err := client.CreateUser(t.Context(), &iam.CreateUserInput{
		UserName: aws.String("alice"), Path: aws.String("/team/"),
		Tags: []iamtypes.Tag{{Key: aws.String("k"), Value: aws.String("v w")}, {Key: aws.String("l"),
			Value: aws.String("")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if *out.User.UserName != "alice" || *out.User.Path != "/team/" || len(out.User.Tags) != 2 ||
		*out.User.Tags[0].Value != "v w" || out.User.CreateDate.Unix() != 1700000000 {
		t.Errorf("user is %+v", out.User)
	}
	users, err := client.ListUsers(t.Context(), &iam.ListUsersInput{})
	if err != nil || users.Users == nil || len(users.Users) != 0 {
		t.Errorf("users are %v, error %v; want an empty list", users, err)
	}
	if _, err := client.DeleteUser(t.Context(), &iam.DeleteUserInput{UserName: aws.String("alice")}); err != nil {
		t.Error(err)
	}
	_, err = client.CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String("taken")})
	var exists *iamtypes.EntityAlreadyExistsException
	if !errors.As(err, &exists) || exists.ErrorMessage() != "User with name taken already exists." {
		t.Errorf("error is %v, want EntityAlreadyExists", err)
	}
	wantCode(t, err, "EntityAlreadyExists")
	_, err = client.CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String("a b")})
	wantCode(t, err, "ValidationError")
	_, err = client.CreateGroup(t.Context(), &iam.CreateGroupInput{GroupName: aws.String("g")})
	if wantCode(t, err, "InvalidAction"); !strings.Contains(err.Error(), "CreateGroup of iam is not implemented") {
		t.Errorf("error %v does not name the operation", err)
	}
	tw.policy.mu.Lock()
	tw.policy.deny = "iam:ListUsers"
	tw.policy.mu.Unlock()
	_, err = client.ListUsers(t.Context(), &iam.ListUsersInput{})
	wantCode(t, err, "AccessDenied")
}

func TestSDKClientSTS(t *testing.T) {
	tw := newTwin(t)
	client := sts.NewFromConfig(tw.config(testSecret))
	out, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{*out.Account, *out.Arn, *out.UserId}
	if d := cmp.Diff([]string{"123456789012", "arn:aws:iam::123456789012:root", "123456789012"}, got); d != "" {
		t.Error(d)
	}
	if len(tw.policy.asked) != 0 {
		t.Errorf("GetCallerIdentity needed %v", tw.policy.asked)
	}
	_, err = sts.NewFromConfig(tw.config("wrong")).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	wantCode(t, err, "SignatureDoesNotMatch")
}

func TestSDKClientELB(t *testing.T) {
	tw := newTwin(t)
	client := elb.NewFromConfig(tw.config(testSecret))
	out, err := client.CreateLoadBalancer(t.Context(), &elb.CreateLoadBalancerInput{
		LoadBalancerName: aws.String("web"), AvailabilityZones: []string{"us-east-1a"},
		Listeners: []elbtypes.Listener{
			{
				Protocol: aws.String("HTTPS"), LoadBalancerPort: 443, InstancePort: aws.Int32(80),
				SSLCertificateId: aws.String("arn:x"),
			},
			{Protocol: aws.String("TCP"), LoadBalancerPort: 22, InstancePort: aws.Int32(22)},
		},
	})
	if err != nil || *out.DNSName != "127.1.2.3" {
		t.Fatalf("answer is %+v, error %v", out, err)
	}
	in := tw.elb.last
	if len(in.Listeners) != 2 || *in.Listeners[0].SSLCertificateId != "arn:x" ||
		*in.Listeners[1].LoadBalancerPort != 22 ||
		in.Listeners[1].SSLCertificateId != nil || in.AvailabilityZones[0] != "us-east-1a" {
		t.Errorf("input is %+v", in)
	}
	want := []string{"elasticloadbalancing:CreateLoadBalancer " +
		"arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/web"}
	if d := cmp.Diff(want, tw.policy.asked); d != "" {
		t.Error(d)
	}
	all, err := client.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	if err != nil || len(all.LoadBalancerDescriptions) != 1 || all.LoadBalancerDescriptions[0].Instances == nil {
		t.Errorf("descriptions are %+v, error %v; want one with an empty list of instances", all, err)
	}
	tags, err := client.DescribeTags(t.Context(), &elb.DescribeTagsInput{LoadBalancerNames: []string{"web"}})
	if err != nil || *tags.TagDescriptions[0].LoadBalancerName != "from-elb" {
		t.Errorf("tags are %+v, error %v", tags, err)
	}
}

func TestSDKClientEC2(t *testing.T) {
	tw := newTwin(t)
	client := ec2.NewFromConfig(tw.config(testSecret))
	run, err := client.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: aws.String("ami-1"), MinCount: aws.Int32(1), MaxCount: aws.Int32(2), InstanceType: "t3.nano",
		UserData:           aws.String("aGVsbG8="),
		SecurityGroupIds:   []string{"sg-1", "sg-2"},
		IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: aws.String("p")},
		TagSpecifications: []ec2types.TagSpecification{{
			ResourceType: "instance", Tags: []ec2types.Tag{{Key: aws.String("Name"), Value: aws.String("x")}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	in := tw.ec2.last
	if *in.ImageId != "ami-1" || *in.MaxCount != 2 || *in.UserData != "aGVsbG8=" ||
		*in.IamInstanceProfile.Name != "p" ||
		*in.TagSpecifications[0].Tags[0].Key != "Name" || in.SecurityGroupIds[1] != "sg-2" ||
		*in.InstanceType != "t3.nano" {
		t.Errorf("input is %+v", in)
	}
	i := run.Instances[0]
	if *i.InstanceId != "i-1" || i.State.Name != "running" || *i.State.Code != 16 || *i.Tags[0].Key != "a<b" ||
		i.LaunchTime.Unix() != 1700000000 {
		t.Errorf("instance is %+v", i)
	}
	got, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{
		InstanceIds: []string{"i-1", "i-2"},
		Filters: []ec2types.Filter{{Name: aws.String("instance-state-name"), Values: []string{"running",
			"pending"}}},
	})
	if err != nil || len(got.Reservations) != 2 {
		t.Errorf("reservations are %+v, error %v", got, err)
	}
	_, err = client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{"i-gone"}})
	wantCode(t, err, "InvalidInstanceID.NotFound")
	tags, err := client.DescribeTags(t.Context(), &ec2.DescribeTagsInput{})
	if err != nil || *tags.Tags[0].ResourceId != "from-ec2" {
		t.Errorf("tags are %+v, error %v", tags, err)
	}
	_, err = client.CreateTags(t.Context(), &ec2.CreateTagsInput{
		Resources: []string{"i-1"}, Tags: []ec2types.Tag{{Key: aws.String("k"), Value: aws.String("v")}},
	})
	if err != nil {
		t.Error(err)
	}
	_, err = ec2.NewFromConfig(tw.config("wrong")).DescribeTags(t.Context(), &ec2.DescribeTagsInput{})
	wantCode(t, err, "AuthFailure")
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("error is %v, want code %s", err, code)
	}
}
