package ec2_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// launchWeb launches one web instance of demo's and returns its id.
func (c *cloud) launchWeb(t testing.TB, pairs ...string) string {
	t.Helper()
	out, err := c.call(t, root(demo), "RunInstances", append([]string{
		"ImageId=" + ec2.ImageID("web"), "MinCount=1", "MaxCount=1"}, pairs...)...)
	if err != nil {
		t.Fatal(err)
	}
	return *out.(*ec2model.RunInstancesOutput).Instances[0].InstanceId
}

func (c *cloud) must(t testing.TB, operation string, pairs ...string) any {
	t.Helper()
	out, err := c.call(t, root(demo), operation, pairs...)
	if err != nil {
		t.Fatalf("%s: %v", operation, err)
	}
	return out
}

// associations are the caller's, as PROFILE of INSTANCE.
func (c *cloud) associations(t testing.TB, pairs ...string) (ids []string, shown string) {
	t.Helper()
	out := c.must(t, "DescribeIamInstanceProfileAssociations", pairs...)
	var texts []string
	for _, a := range out.(*ec2model.DescribeIamInstanceProfileAssociationsOutput).IamInstanceProfileAssociations {
		ids = append(ids, *a.AssociationId)
		texts = append(texts, *a.State+" "+*a.IamInstanceProfile.Arn+" "+*a.IamInstanceProfile.Id+" of "+*a.InstanceId)
	}
	return ids, strings.Join(texts, "\n")
}

func TestAssociation(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	c.iam.setProfile("web", "AIPA2", "web-role")
	id := c.launchWeb(t)
	if ids, _ := c.associations(t); len(ids) != 0 {
		t.Fatalf("associations of an instance without a profile: %v", ids)
	}
	out := c.must(t, "AssociateIamInstanceProfile", "InstanceId="+id, "IamInstanceProfile.Name=app")
	made := out.(*ec2model.AssociateIamInstanceProfileOutput).IamInstanceProfileAssociation
	if *made.State != "associating" || !strings.HasPrefix(*made.AssociationId, "iip-assoc-") {
		t.Errorf("associated: %s %s", *made.State, *made.AssociationId)
	}
	ids, shown := c.associations(t, "Filter.1.Name=instance-id", "Filter.1.Value.1="+id)
	if want := "associated arn:aws:iam::" + demo + ":instance-profile/app AIPA1 of " + id; shown != want {
		t.Errorf("described %q, want %q", shown, want)
	}
	if _, shown := c.associations(t, "Filter.1.Name=state", "Filter.1.Value.1=disassociating"); shown != "" {
		t.Errorf("described %q by another state", shown)
	}
	out = c.must(t, "ReplaceIamInstanceProfileAssociation", "AssociationId="+ids[0],
		"IamInstanceProfile.Arn=arn:aws:iam::"+demo+":instance-profile/web")
	replaced := out.(*ec2model.ReplaceIamInstanceProfileAssociationOutput).IamInstanceProfileAssociation
	if *replaced.AssociationId == ids[0] || *replaced.IamInstanceProfile.Id != "AIPA2" {
		t.Errorf("replaced: %s %s", *replaced.AssociationId, *replaced.IamInstanceProfile.Id)
	}
	inst, err := c.Instance(t.Context(), id)
	if err != nil || inst.RoleName != "web-role" || inst.Generation != 3 {
		t.Errorf("role %q, generation %d, %v", inst.RoleName, inst.Generation, err)
	}
	out = c.must(t, "DisassociateIamInstanceProfile", "AssociationId="+*replaced.AssociationId)
	ended := out.(*ec2model.DisassociateIamInstanceProfileOutput).IamInstanceProfileAssociation
	if *ended.State != "disassociating" || *ended.IamInstanceProfile.Id != "AIPA2" {
		t.Errorf("disassociated: %s %s", *ended.State, *ended.IamInstanceProfile.Id)
	}
	if inst, _ = c.Instance(t.Context(), id); inst.RoleName != "" || inst.ProfileARN != "" {
		t.Errorf("the instance still has %s with role %s", inst.ProfileARN, inst.RoleName)
	}
}

func TestAssociationRefused(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	with, ended := c.launchWeb(t, "IamInstanceProfile.Name=app"), c.launchWeb(t)
	c.must(t, "TerminateInstances", "InstanceId.1="+ended)
	ids, _ := c.associations(t)
	none := "AssociationId=iip-assoc-00000000000000000"
	for _, tc := range []struct {
		name, operation string
		pairs           []string
		account         string
		denyPass        bool
		code            string
	}{
		{"twice", "AssociateIamInstanceProfile", []string{"InstanceId=" + with, "IamInstanceProfile.Name=app"}, demo, false,
			"IncorrectState"},
		{"ended", "AssociateIamInstanceProfile", []string{"InstanceId=" + ended, "IamInstanceProfile.Name=app"}, demo, false,
			"IncorrectInstanceState"},
		{"another account's instance", "AssociateIamInstanceProfile",
			[]string{"InstanceId=" + with, "IamInstanceProfile.Name=app"}, other, false, "InvalidInstanceID.NotFound"},
		{"no such profile", "AssociateIamInstanceProfile", []string{"InstanceId=" + with, "IamInstanceProfile.Name=no"}, demo,
			false, "InvalidParameterValue"},
		{"no profile named", "AssociateIamInstanceProfile", []string{"InstanceId=" + with, "IamInstanceProfile.Name="}, demo,
			false, "MissingParameter"},
		{"may not pass the role", "AssociateIamInstanceProfile",
			[]string{"InstanceId=" + with, "IamInstanceProfile.Name=app"}, demo, true, "AccessDenied"},
		{"replace none", "ReplaceIamInstanceProfileAssociation", []string{none, "IamInstanceProfile.Name=app"}, demo, false,
			"InvalidAssociationID.NotFound"},
		{"replace, may not pass", "ReplaceIamInstanceProfileAssociation",
			[]string{"AssociationId=" + ids[0], "IamInstanceProfile.Name=app"}, demo, true, "AccessDenied"},
		{"disassociate none", "DisassociateIamInstanceProfile", []string{none}, demo, false, "InvalidAssociationID.NotFound"},
		{"disassociate another account's", "DisassociateIamInstanceProfile", []string{"AssociationId=" + ids[0]}, other,
			false, "InvalidAssociationID.NotFound"},
		{"describe none", "DescribeIamInstanceProfileAssociations", []string{"AssociationId.1=iip-assoc-0"}, demo, false,
			"InvalidAssociationID.NotFound"},
		{"describe ids and pages", "DescribeIamInstanceProfileAssociations",
			[]string{"AssociationId.1=" + ids[0], "MaxResults=5"}, demo, false, "InvalidParameterCombination"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.iam.denyPass = tc.denyPass
			_, err := c.call(t, root(tc.account), tc.operation, tc.pairs...)
			wantCode(t, err, tc.code, "")
		})
	}
	if _, shown := c.associations(t); !strings.HasSuffix(shown, "AIPA1 of "+with) {
		t.Errorf("after all that: %q", shown)
	}
}

// TestProfileFollowed: an instance has the role that its profile holds, and none when the profile is gone or another of
// the same name.
func TestProfileFollowed(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	link := c.dialAs(t, c.serve(t), n)
	c.iam.setProfile("web", "AIPA2", "web-role")
	id := c.launchWeb(t, "IamInstanceProfile.Name=web")
	ask := func() (role string, code codes.Code) {
		got, err := link.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: id})
		return got.GetToken(), status.Code(err)
	}
	if role, code := ask(); role != "web-role" || code != codes.OK {
		t.Fatalf("at first: %q, %s", role, code)
	}
	for _, tc := range []struct {
		name, id, role, has string
		gone                bool
	}{
		{"role taken out", "AIPA2", "", "", false},
		{"another role", "AIPA2", "other-role", "other-role", false},
		{"profile deleted", "", "", "", true},
		{"another profile of that name", "AIPA3", "web-role", "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.iam.setProfile("web", tc.id, tc.role)
			eventually(t, func() error {
				inst, err := c.Instance(t.Context(), id)
				if err == nil && (inst.RoleName != tc.has || inst.ProfileGone != tc.gone) {
					err = fmt.Errorf("role %q, gone %t", inst.RoleName, inst.ProfileGone)
				}
				return err
			})
			role, code := ask()
			want := codes.OK
			if tc.has == "" {
				want = codes.NotFound
			}
			if role != tc.has || code != want {
				t.Errorf("credentials of %q, %s; want %q, %s", role, code, tc.has, want)
			}
		})
	}
}

func TestModifyMetadataOptions(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	id := c.launchWeb(t, "MetadataOptions.HttpTokens=required")
	out := c.must(t, "ModifyInstanceMetadataOptions", "InstanceId="+id, "HttpPutResponseHopLimit=3",
		"InstanceMetadataTags=enabled")
	o := out.(*ec2model.ModifyInstanceMetadataOptionsOutput).InstanceMetadataOptions
	if *o.State != "pending" || *o.HttpTokens != "required" || *o.HttpPutResponseHopLimit != 3 ||
		*o.InstanceMetadataTags != "enabled" || *o.HttpEndpoint != "enabled" {
		t.Errorf("changed to %s %s %d %s %s", *o.State, *o.HttpTokens, *o.HttpPutResponseHopLimit,
			*o.InstanceMetadataTags, *o.HttpEndpoint)
	}
	inst, _ := c.Instance(t.Context(), id)
	if want := (ec2.MetadataOptions{TokensRequired: true, HopLimit: 3, Tags: true}); inst.Metadata != want ||
		inst.Generation != 2 {
		t.Errorf("record has %+v, generation %d", inst.Metadata, inst.Generation)
	}
	for _, tc := range []struct {
		name, account, code string
		pairs               []string
	}{
		{"nothing named", demo, "InvalidParameterCombination", nil},
		{"hops", demo, "InvalidParameterValue", []string{"HttpPutResponseHopLimit=65"}},
		{"dry run", demo, "DryRunOperation", []string{"HttpTokens=optional", "DryRun=true"}},
		{"IPv6", demo, "UnsupportedOperation", []string{"HttpProtocolIpv6=enabled"}},
		{"another account", other, "InvalidInstanceID.NotFound", []string{"HttpTokens=optional"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := c.call(t, root(tc.account), "ModifyInstanceMetadataOptions",
				append([]string{"InstanceId=" + id}, tc.pairs...)...)
			wantCode(t, err, tc.code, "")
		})
	}
	c.must(t, "TerminateInstances", "InstanceId.1="+id)
	_, err := c.call(t, root(demo), "ModifyInstanceMetadataOptions", "InstanceId="+id, "HttpTokens=optional")
	wantCode(t, err, "IncorrectInstanceState", "")
}

// TestHiddenAssociation is out of the reach of its account's users, even of those who know its id.
func TestHiddenAssociation(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	inst, err := c.Launch(t.Context(), ec2.Launch{AccountID: demo, System: true, ImageName: "lbvm", Hidden: true,
		InstanceProfileName: "app"})
	if err != nil {
		t.Fatal(err)
	}
	link := "AssociationId=" + inst.ProfileLink.ID
	for operation, pairs := range map[string][]string{
		"DisassociateIamInstanceProfile":         {link},
		"ReplaceIamInstanceProfileAssociation":   {link, "IamInstanceProfile.Name=app"},
		"DescribeIamInstanceProfileAssociations": {"AssociationId.1=" + inst.ProfileLink.ID},
	} {
		for _, account := range []string{demo, other} {
			_, err := c.call(t, root(account), operation, pairs...)
			wantCode(t, err, "InvalidAssociationID.NotFound", inst.ProfileLink.ID)
		}
	}
	if ids, _ := c.associations(t); len(ids) != 0 {
		t.Errorf("the account's users see %v", ids)
	}
	if values, ok := c.ResourceKey(t.Context(), "arn:aws:ec2:us-east-1:"+demo+":instance/"+inst.ID,
		"ec2:instancetype"); ok {
		t.Errorf("policies see %v", values)
	}
}
