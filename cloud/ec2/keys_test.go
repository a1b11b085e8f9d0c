package ec2_test

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// judge decides requests as the front door does, by the policies that a real iam has of one user of demo's.
type judge struct {
	*cloud
	identity *iam.Service
	root     context.Context
	ann      authn.Caller
}

func newJudge(t *testing.T, c *cloud) *judge {
	t.Helper()
	identity, err := iam.New(t.Context(), iam.Config{
		Store: c.store, RootKeyFile: filepath.Join(t.TempDir(), "root.key"), Clock: c.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(identity.Close)
	identity.SetResourceKeys("ec2", c.Service)
	j := &judge{cloud: c, identity: identity, root: authn.WithCaller(t.Context(), root(demo))}
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	_, err = identity.EnsureAccount(t.Context(), demo, "demo", false)
	check(err)
	_, err = identity.CreateUser(j.root, &iammodel.CreateUserInput{UserName: model.Ptr("ann")})
	check(err)
	key, err := identity.CreateAccessKey(j.root, &iammodel.CreateAccessKeyInput{UserName: model.Ptr("ann")})
	check(err)
	_, j.ann, err = identity.Identify(t.Context(), *key.AccessKey.AccessKeyId, "")
	check(err)
	return j
}

// allows tells whether the statements let the user make a request.
func (j *judge) allows(t *testing.T, statements []string, operation string, pairs ...string) bool {
	t.Helper()
	document := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	if _, err := j.identity.PutUserPolicy(j.root, &iammodel.PutUserPolicyInput{
		UserName: model.Ptr("ann"), PolicyName: model.Ptr("p"), PolicyDocument: &document}); err != nil {
		t.Fatal(err)
	}
	form := url.Values{}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		form.Add(name, value)
	}
	in, err := j.handlers[operation].Decode(form)
	if err != nil {
		t.Fatal(err)
	}
	resources, err := j.Resources(t.Context(), operation, j.ann, in)
	if err != nil {
		t.Fatal(err)
	}
	conditions, err := j.Conditions(t.Context(), operation, j.ann, in)
	if err != nil {
		t.Fatal(err)
	}
	err = j.identity.Authorize(t.Context(), j.ann, "ec2:"+operation, resources, conditions)
	if refused, ok := errors.AsType[*model.Error](err); err != nil && (!ok || refused.Code != "UnauthorizedOperation") {
		t.Fatal(err)
	}
	return err == nil
}

func statement(effect, resource, condition string) string {
	if condition != "" {
		condition = `,"Condition":{` + condition + `}`
	}
	return `{"Effect":"` + effect + `","Action":"ec2:*","Resource":"` + resource + `"` + condition + `}`
}

// TestConditionKeys has each key decide, in a statement that allows and in one that denies, for a value that the
// request has and for one that it has not.
func TestConditionKeys(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	id := c.run(t, demo, "InstanceType=t3.micro", "IamInstanceProfile.Name=app", "MetadataOptions.HttpTokens=required",
		"MetadataOptions.HttpPutResponseHopLimit=3", "MetadataOptions.HttpEndpoint=disabled",
		"TagSpecification.1.ResourceType=instance", "TagSpecification.1.Tag.1.Key=Team",
		"TagSpecification.1.Tag.1.Value=red")[0]
	const profile = "arn:aws:iam::" + demo + ":instance-profile/app"
	pair := *do[ec2model.CreateKeyPairOutput](t, c, root(demo), "CreateKeyPair", "KeyName=pair", "KeyType=ed25519",
		"TagSpecification.1.ResourceType=key-pair", "TagSpecification.1.Tag.1.Key=team",
		"TagSpecification.1.Tag.1.Value=red").KeyPairId
	launch := []string{"ImageId=" + ec2.ImageID("web"), "MinCount=1", "MaxCount=1", "KeyName=pair"}
	with := func(more ...string) []string { return append(append([]string{}, launch...), more...) }
	tagged := with("TagSpecification.1.ResourceType=instance", "TagSpecification.1.Tag.1.Key=team",
		"TagSpecification.1.Tag.1.Value=red")
	one, id1 := []string{"InstanceId.1=" + id}, "InstanceId="+id
	j := newJudge(t, c)
	for _, tt := range []struct {
		operation string
		pairs     []string
		on        string // kind of the resource that the key is of
		operator  string
		key       string
		has, not  string
	}{
		{"RunInstances", tagged, "instance", "StringEquals", "aws:RequestTag/team", "red", "blue"},
		{"RunInstances", tagged, "instance", "ForAnyValue:StringEquals", "aws:TagKeys", "team", "cost"},
		{"RunInstances", launch, "instance", "StringEquals", "ec2:InstanceType", "t3.nano", "t3.micro"},
		{"RunInstances", with("InstanceType=t3.small"), "instance", "StringLike", "ec2:InstanceType", "*.small", "*.nano"},
		{"RunInstances", with("IamInstanceProfile.Name=app"), "instance", "ArnEquals", "ec2:InstanceProfile", profile,
			profile + "2"},
		{"RunInstances", with("IamInstanceProfile.Arn=" + profile), "instance", "ArnLike", "ec2:InstanceProfile",
			"arn:aws:iam::*:instance-profile/a*", "arn:aws:iam::*:instance-profile/b*"},
		{"RunInstances", with("MetadataOptions.HttpTokens=required"), "instance", "StringEquals", "ec2:MetadataHttpTokens",
			"required", "optional"},
		{"RunInstances", launch, "instance", "StringEquals", "ec2:MetadataHttpTokens", "optional", "required"},
		{"RunInstances", with("MetadataOptions.HttpPutResponseHopLimit=2"), "instance", "NumericEquals",
			"ec2:MetadataHttpPutResponseHopLimit", "2", "1"},
		{"RunInstances", with("MetadataOptions.HttpEndpoint=disabled"), "instance", "StringEquals",
			"ec2:MetadataHttpEndpoint", "disabled", "enabled"},
		{"RunInstances", launch, "instance", "StringEquals", "ec2:AvailabilityZone", "us-east-1a", "us-east-1b"},
		{"RunInstances", launch, "image", "StringEquals", "ec2:Owner", "000000000001", demo},
		{"RunInstances", launch, "image", "Bool", "ec2:Public", "true", "false"},
		{"RunInstances", launch, "image", "StringEquals", "ec2:ImageID", ec2.ImageID("web"), ec2.ImageID("lbvm")},
		{"RunInstances", launch, "key-pair", "StringEquals", "ec2:KeyPairName", "pair", "other"},
		{"RunInstances", launch, "key-pair", "StringEquals", "ec2:ResourceTag/team", "red", "blue"},
		{"DeleteKeyPair", []string{"KeyName=pair"}, "key-pair", "StringEquals", "aws:ResourceTag/team", "red", "blue"},
		{"DeleteKeyPair", []string{"KeyName=pair"}, "key-pair", "StringEquals", "ec2:KeyPairType", "ed25519", "rsa"},
		{"CreateKeyPair", []string{"KeyName=new", "TagSpecification.1.ResourceType=key-pair",
			"TagSpecification.1.Tag.1.Key=team", "TagSpecification.1.Tag.1.Value=red"}, "key-pair", "StringEquals",
			"aws:RequestTag/team", "red", "blue"},
		{"TerminateInstances", one, "instance", "StringEquals", "aws:ResourceTag/Team", "red", "blue"},
		{"TerminateInstances", one, "instance", "StringEquals", "ec2:ResourceTag/team", "red", "blue"},
		{"TerminateInstances", one, "instance", "StringEquals", "ec2:InstanceType", "t3.micro", "t3.nano"},
		{"TerminateInstances", one, "instance", "ArnEquals", "ec2:InstanceProfile", profile, profile + "2"},
		{"TerminateInstances", one, "instance", "StringEquals", "ec2:InstanceID", id, "i-0123456789abcdef0"},
		{"TerminateInstances", one, "instance", "StringEquals", "ec2:MetadataHttpTokens", "required", "optional"},
		{"TerminateInstances", one, "instance", "NumericEquals", "ec2:MetadataHttpPutResponseHopLimit", "3", "1"},
		{"TerminateInstances", one, "instance", "StringEquals", "ec2:MetadataHttpEndpoint", "disabled", "enabled"},
		{"TerminateInstances", one, "instance", "StringEquals", "ec2:Region", "us-east-1", "eu-west-1"},
		{"RebootInstances", one, "instance", "StringEquals", "aws:ResourceTag/team", "red", "blue"},
		{"ModifyInstanceMetadataOptions", []string{id1, "HttpTokens=required"}, "instance", "StringEquals",
			"ec2:Attribute/HttpTokens", "required", "optional"},
		{"ModifyInstanceMetadataOptions", []string{id1, "HttpPutResponseHopLimit=2"}, "instance",
			"ForAnyValue:StringEquals", "ec2:Attribute", "HttpPutResponseHopLimit", "HttpTokens"},
		{"AssociateIamInstanceProfile", []string{id1, "IamInstanceProfile.Name=app"}, "instance", "ArnEquals",
			"ec2:NewInstanceProfile", profile, profile + "2"},
		{"CreateTags", []string{"ResourceId.1=" + id, "Tag.1.Key=cost", "Tag.1.Value=7"}, "instance", "StringEquals",
			"aws:RequestTag/cost", "7", "8"},
		{"CreateTags", []string{"ResourceId.1=" + id, "Tag.1.Key=cost", "Tag.1.Value=7"}, "instance", "StringEquals",
			"aws:ResourceTag/team", "red", "blue"},
		{"CreateTags", []string{"ResourceId.1=" + pair, "Tag.1.Key=cost", "Tag.1.Value=7"}, "key-pair", "StringEquals",
			"ec2:KeyPairName", "pair", "other"},
		{"DeleteTags", []string{"ResourceId.1=" + id, "Tag.1.Key=cost"}, "instance", "ForAllValues:StringEquals",
			"aws:TagKeys", "cost", "team"},
	} {
		t.Run(tt.operation+" "+tt.on+" "+tt.key, func(t *testing.T) {
			of := "arn:aws:ec2:*:*:" + tt.on + "/*"
			others := `{"Effect":"Allow","Action":"ec2:*","NotResource":"` + of + `"}`
			for value, has := range map[string]bool{tt.has: true, tt.not: false} {
				condition := `"` + tt.operator + `":{"` + tt.key + `":"` + value + `"}`
				allow := []string{others, statement("Allow", of, condition)}
				if got := j.allows(t, allow, tt.operation, tt.pairs...); got != has {
					t.Errorf("Allow if %s: %v, want %v", condition, got, has)
				}
				deny := []string{statement("Allow", "*", ""), statement("Deny", of, condition)}
				if got := j.allows(t, deny, tt.operation, tt.pairs...); got == has {
					t.Errorf("Deny if %s: allowed is %v, want %v", condition, got, !has)
				}
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		for _, key := range []string{"aws:ResourceTag/none", "aws:RequestTag/team", "ec2:KeyPairName"} {
			condition := `"Null":{"` + key + `":"false"}`
			if j.allows(t, []string{statement("Allow", "*", condition)}, "TerminateInstances", one...) {
				t.Errorf("an instance that is to end has a %s", key)
			}
		}
		// The launch's own keys are not its image's: AWS denies this too, which users meet sooner or later.
		condition := `"StringEquals":{"ec2:InstanceType":"t3.nano"}`
		if j.allows(t, []string{statement("Allow", "*", condition)}, "RunInstances", launch...) {
			t.Error("an image has a type of instance")
		}
	})
}

// publicKey is one line of OpenSSH's.
const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

// TestTagsAtLaunch need a permission of their own, and a policy can tell them from later tags.
func TestTagsAtLaunch(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	for _, tt := range []struct {
		operation, kind, arn string
		pairs                []string
	}{
		{"RunInstances", "instance", "arn:aws:ec2:us-east-1:" + demo + ":instance/*",
			[]string{"ImageId=" + ec2.ImageID("web"), "MinCount=1", "MaxCount=1"}},
		{"CreateKeyPair", "key-pair", "arn:aws:ec2:us-east-1:" + demo + ":key-pair/a/b",
			[]string{"KeyName=a/b", "KeyType=ed25519"}},
		{"ImportKeyPair", "key-pair", "arn:aws:ec2:us-east-1:" + demo + ":key-pair/mine",
			[]string{"KeyName=mine", "PublicKeyMaterial=" + b64(publicKey)}},
	} {
		t.Run(tt.operation, func(t *testing.T) {
			c.iam.asked, c.iam.deny = nil, "ec2:CreateTags"
			before := len(c.Instances())
			if _, err := c.call(t, root(demo), tt.operation, append(tt.pairs, "DryRun=true")...); err == nil ||
				len(c.iam.asked) != 0 {
				t.Errorf("without tags: %v, asked %v", err, c.iam.asked)
			}
			tagged := append(tt.pairs, "TagSpecification.1.ResourceType="+tt.kind, "TagSpecification.1.Tag.1.Key=team",
				"TagSpecification.1.Tag.1.Value=red")
			_, err := c.call(t, root(demo), tt.operation, tagged...)
			wantCode(t, err, "UnauthorizedOperation", "ec2:CreateTags")
			want := []asked{{"ec2:CreateTags", []string{tt.arn}, map[string][]string{
				"ec2:CreateAction": {tt.operation}, "aws:RequestTag/team": {"red"}, "aws:TagKeys": {"team"}}}}
			if diff := cmp.Diff(want, c.iam.asked, cmp.AllowUnexported(asked{})); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			if n := len(c.Instances()) - before; n != 0 {
				t.Errorf("launched %d all the same", n)
			}
			c.iam.deny = ""
			if _, err := c.call(t, root(demo), tt.operation, tagged...); err != nil {
				t.Error(err)
			}
		})
	}
}
