package ec2_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

func described(out *ec2model.DescribeInstancesOutput) (ids []string) {
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			ids = append(ids, *i.InstanceId)
		}
	}
	return ids
}

func TestDescribeInstances(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	tag := func(key, value string) []string {
		return []string{
			"TagSpecification.1.ResourceType=instance", "TagSpecification.1.Tag.1.Key=" + key,
			"TagSpecification.1.Tag.1.Value=" + value,
		}
	}
	a := c.run(t, demo, append(tag("Name", "blue"), "MinCount=2", "MaxCount=2")...)
	b := c.run(t, demo, append(tag("Team", "x*y"), "InstanceType=t3.micro", "IamInstanceProfile.Name=app")...)
	foreign := c.run(t, other)
	inst, err := c.Instance(t.Context(), b[0])
	if err != nil {
		t.Fatal(err)
	}
	filter := func(name string, values ...string) []string {
		out := []string{"Filter.1.Name=" + name}
		for i, v := range values {
			out = append(out, fmt.Sprintf("Filter.1.Value.%d=%s", i+1, v))
		}
		return out
	}
	tests := []struct {
		name  string
		pairs []string
		want  []string
	}{
		{name: "all of the account", want: slices.Concat(a, b)},
		{name: "by id", pairs: []string{"InstanceId.1=" + b[0]}, want: b},
		{name: "by id, twice", pairs: []string{"InstanceId.1=" + b[0], "InstanceId.2=" + b[0]}, want: b},
		{name: "filter id", pairs: filter("instance-id", a[0], foreign[0]), want: a[:1]},
		{name: "state", pairs: filter("instance-state-name", "pending", "running"), want: slices.Concat(a, b)},
		{name: "other state", pairs: filter("instance-state-name", "running")},
		{name: "state code", pairs: filter("instance-state-code", "0"), want: slices.Concat(a, b)},
		{name: "tag", pairs: filter("tag:Name", "blue"), want: a},
		{name: "tag with a wildcard", pairs: filter("tag:Name", "b?u*"), want: a},
		{name: "tag with an escaped star", pairs: filter("tag:Team", `x\*y`), want: b},
		{name: "tag that differs", pairs: filter("tag:Name", "Blue")},
		{name: "tag key", pairs: filter("tag-key", "Team"), want: b},
		{name: "image", pairs: filter("image-id", ec2.ImageID("web")), want: slices.Concat(a, b)},
		{name: "address", pairs: filter("private-ip-address", inst.PrivateIP), want: b},
		{name: "reservation", pairs: filter("reservation-id", inst.ReservationID), want: b},
		{name: "type", pairs: filter("instance-type", "t3.micro"), want: b},
		{name: "profile", pairs: filter("iam-instance-profile.arn", inst.ProfileARN), want: b},
		{name: "two filters", pairs: append(filter("tag-key", "Name"), "Filter.2.Name=instance-type",
			"Filter.2.Value.1=t3.micro")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := described(do[ec2model.DescribeInstancesOutput](t, c, root(demo), "DescribeInstances", tt.pairs...))
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tt.want))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("instances (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDescribeInstancesRefuses(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	foreign := c.run(t, other)
	tests := []struct {
		name       string
		pairs      []string
		code, word string
	}{
		{name: "malformed id", pairs: []string{"InstanceId.1=x"}, code: "InvalidInstanceID.Malformed", word: "x"},
		{name: "unknown id", pairs: []string{"InstanceId.1=i-00000000000000000"}, code: "InvalidInstanceID.NotFound",
			word: "i-0"},
		{name: "another account's", pairs: []string{"InstanceId.1=" + foreign[0]}, code: "InvalidInstanceID.NotFound",
			word: foreign[0]},
		{name: "unknown filter", pairs: []string{"Filter.1.Name=colour", "Filter.1.Value.1=x"},
			code: "InvalidParameterValue", word: "colour"},
		{name: "empty tag filter", pairs: []string{"Filter.1.Name=tag:", "Filter.1.Value.1=x"},
			code: "InvalidParameterValue", word: "tag:"},
		{name: "filter without value", pairs: []string{"Filter.1.Name=image-id"}, code: "InvalidParameterValue",
			word: "image-id"},
		{name: "page too small", pairs: []string{"MaxResults=4"}, code: "InvalidParameterValue", word: "maxResults"},
		{name: "page too big", pairs: []string{"MaxResults=1001"}, code: "InvalidParameterValue", word: "maxResults"},
		{name: "page with ids", pairs: []string{"MaxResults=5", "InstanceId.1=" + foreign[0]},
			code: "InvalidParameterCombination", word: "maxResults"},
		{name: "bad token", pairs: []string{"NextToken=%%%"}, code: "InvalidNextToken", word: "token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.call(t, root(demo), "DescribeInstances", tt.pairs...)
			wantCode(t, err, tt.code, tt.word)
		})
	}
}

func TestDescribeInstancesPages(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	all := c.run(t, demo, "MinCount=7", "MaxCount=7")
	c.clock.Add(time.Second)
	all = append(all, c.run(t, demo, "MinCount=6", "MaxCount=6")...)
	var got []string
	token, pages := "", 0
	for {
		pairs := []string{"MaxResults=5"}
		if token != "" {
			pairs = append(pairs, "NextToken="+token)
		}
		out := do[ec2model.DescribeInstancesOutput](t, c, root(demo), "DescribeInstances", pairs...)
		got = append(got, described(out)...)
		pages++
		if token = model.Val(out.NextToken); token == "" {
			break
		}
	}
	if diff := cmp.Diff(all, got); diff != "" || pages != 3 {
		t.Errorf("%d pages, instances (-want +got):\n%s", pages, diff)
	}
}

func TestTerminateInstances(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	ids := c.run(t, demo, "MinCount=2", "MaxCount=2")
	foreign := c.run(t, other)
	_, err := c.call(t, root(demo), "TerminateInstances", "InstanceId.1="+ids[0], "InstanceId.2="+foreign[0])
	wantCode(t, err, "InvalidInstanceID.NotFound", foreign[0])
	_, err = c.call(t, root(demo), "TerminateInstances", "InstanceId.1="+ids[0], "InstanceId.2=nonsense")
	wantCode(t, err, "InvalidInstanceID.Malformed", "nonsense")
	_, err = c.call(t, root(demo), "TerminateInstances")
	wantCode(t, err, "MissingParameter", "InstanceId")
	if inst, _ := c.Instance(t.Context(), ids[0]); inst.State != ec2.Pending {
		t.Fatalf("a refused request ended an instance: %s", inst.State)
	}
	change := do[ec2model.TerminateInstancesOutput](t, c, root(demo), "TerminateInstances", "InstanceId.1="+ids[0])
	if got := change.TerminatingInstances[0]; *got.PreviousState.Name != "pending" ||
		*got.CurrentState.Name != "shutting-down" {
		t.Errorf("change %s -> %s", *got.PreviousState.Name, *got.CurrentState.Name)
	}
	change = do[ec2model.TerminateInstancesOutput](t, c, root(demo), "TerminateInstances", "InstanceId.1="+ids[0])
	if got := change.TerminatingInstances[0]; *got.PreviousState.Name != "shutting-down" {
		t.Errorf("asked again: %s -> %s", *got.PreviousState.Name, *got.CurrentState.Name)
	}
	if err := c.Terminate(t.Context(), demo, foreign[0]); !errors.Is(err, ec2.ErrNotFound) {
		t.Errorf("another account's instance: %v", err)
	}
	if err := c.Terminate(t.Context(), demo, "i-00000000000000000", ids[1]); err != nil {
		t.Errorf("one that is gone and one that is there: %v", err)
	}
	if inst, _ := c.Instance(t.Context(), foreign[0]); inst.State != ec2.Pending {
		t.Error("another account's instance was touched")
	}
}

func TestTags(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	ids := c.run(t, demo, "MinCount=2", "MaxCount=2")
	foreign := c.run(t, other)
	do[ec2model.CreateTagsOutput](t, c, root(demo), "CreateTags", "ResourceId.1="+ids[0], "ResourceId.2="+ids[1],
		"Tag.1.Key=Name", "Tag.1.Value=a", "Tag.2.Key=Empty")
	do[ec2model.CreateTagsOutput](t, c, root(demo), "CreateTags", "ResourceId.1="+ids[0], "Tag.1.Key=Name",
		"Tag.1.Value=b")
	do[ec2model.DeleteTagsOutput](t, c, root(demo), "DeleteTags", "ResourceId.1="+ids[0], "Tag.1.Key=Name",
		"Tag.1.Value=a")
	do[ec2model.DeleteTagsOutput](t, c, root(demo), "DeleteTags", "ResourceId.1="+ids[1], "Tag.1.Key=Name")
	list := func(pairs ...string) (got []string) {
		for _, tag := range do[ec2model.DescribeTagsOutput](t, c, root(demo), "DescribeTags", pairs...).Tags {
			got = append(got, fmt.Sprintf("%d %s=%s", slices.Index(ids, *tag.ResourceId), *tag.Key, *tag.Value))
		}
		slices.Sort(got)
		return got
	}
	if diff := cmp.Diff([]string{"0 Empty=", "0 Name=b", "1 Empty="}, list()); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"0 Name=b"}, list("Filter.1.Name=key", "Filter.1.Value.1=Name")); diff != "" {
		t.Errorf("filtered tags (-want +got):\n%s", diff)
	}
	do[ec2model.DeleteTagsOutput](t, c, root(demo), "DeleteTags", "ResourceId.1="+ids[1])
	many := []string{"ResourceId.1=" + ids[0], "ResourceId.2=" + ids[1]}
	for i := range 49 {
		many = append(many, fmt.Sprintf("Tag.%d.Key=k%d", i+1, i))
	}
	tests := []struct {
		name, operation string
		pairs           []string
		code, word      string
	}{
		{name: "another account's", operation: "CreateTags", pairs: []string{"ResourceId.1=" + foreign[0], "Tag.1.Key=a"},
			code: "InvalidInstanceID.NotFound", word: foreign[0]},
		{name: "no resource", operation: "CreateTags", pairs: []string{"Tag.1.Key=a"}, code: "MissingParameter",
			word: "ResourceId"},
		{name: "no tag", operation: "CreateTags", pairs: []string{"ResourceId.1=" + ids[0]}, code: "MissingParameter",
			word: "Tag"},
		{name: "no such resource", operation: "CreateTags", pairs: []string{"ResourceId.1=vol-00000000", "Tag.1.Key=a"},
			code: "InvalidID", word: "vol-"},
		{name: "malformed resource", operation: "DeleteTags", pairs: []string{"ResourceId.1=%"}, code: "InvalidID",
			word: "%"},
		{name: "image", operation: "CreateTags", pairs: []string{"ResourceId.1=" + ec2.ImageID("web"), "Tag.1.Key=a"},
			code: "UnauthorizedOperation", word: "ami-"},
		{name: "reserved key", operation: "CreateTags", pairs: []string{"ResourceId.1=" + ids[0], "Tag.1.Key=AWS:a"},
			code: "InvalidParameterValue", word: "aws:"},
		{name: "key twice", operation: "CreateTags",
			pairs: []string{"ResourceId.1=" + ids[0], "Tag.1.Key=a", "Tag.2.Key=a"}, code: "InvalidParameterValue", word: "a"},
		{name: "long key", operation: "CreateTags",
			pairs: []string{"ResourceId.1=" + ids[0], "Tag.1.Key=" +
				strings.Repeat("k", 128)}, code: "InvalidParameterValue", word: "Tag.Key"},
		{name: "long value", operation: "CreateTags",
			pairs: []string{"ResourceId.1=" + ids[0], "Tag.1.Key=a", "Tag.1.Value=" +
				strings.Repeat("v", 256)}, code: "InvalidParameterValue", word: "Tag.Value"},
		// 49 more fit on the second instance, which has none, but not on the first, which has two.
		{name: "too many on one of two", operation: "CreateTags", pairs: many, code: "TagLimitExceeded", word: "50"},
		{name: "dry run", operation: "CreateTags", pairs: []string{"DryRun=true", "ResourceId.1=" + ids[0], "Tag.1.Key=a"},
			code: "DryRunOperation", word: "DryRun"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.call(t, root(demo), tt.operation, tt.pairs...)
			wantCode(t, err, tt.code, tt.word)
		})
	}
	if diff := cmp.Diff([]string{"0 Empty=", "0 Name=b"}, list()); diff != "" {
		t.Errorf("refused requests changed tags (-want +got):\n%s", diff)
	}
}

func TestCatalogue(t *testing.T) {
	c := start(t)
	images := func(account string, pairs ...string) (names []string) {
		for _, i := range do[ec2model.DescribeImagesOutput](t, c, root(account), "DescribeImages", pairs...).Images {
			names = append(names, *i.Name)
		}
		return names
	}
	for _, tt := range []struct {
		name, account string
		pairs, want   []string
	}{
		{name: "user", account: demo, want: []string{"web"}},
		{name: "system", account: system, want: []string{"lbvm", "web"}},
		{name: "by id", account: system, pairs: []string{"ImageId.1=" + ec2.ImageID("web")}, want: []string{"web"}},
		{name: "by name", account: system, pairs: []string{"Filter.1.Name=name", "Filter.1.Value.1=lb*"},
			want: []string{"lbvm"}},
		{name: "own", account: demo, pairs: []string{"Owner.1=self"}},
		{name: "of the cloud", account: demo, pairs: []string{"Owner.1=amazon"}, want: []string{"web"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, images(tt.account, tt.pairs...)); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
		})
	}
	_, err := c.call(t, root(demo), "DescribeImages", "ImageId.1="+ec2.ImageID("lbvm"))
	wantCode(t, err, "InvalidAMIID.NotFound", "ami-")
	types := do[ec2model.DescribeInstanceTypesOutput](t, c, root(demo), "DescribeInstanceTypes", "InstanceType.1=t3.nano")
	if len(types.InstanceTypes) != 1 || *types.InstanceTypes[0].MemoryInfo.SizeInMiB != 96 {
		t.Errorf("t3.nano: %+v", types)
	}
	_, err = c.call(t, root(demo), "DescribeInstanceTypes", "InstanceType.1=x")
	wantCode(t, err, "InvalidInstanceType", "x")
	zones := do[ec2model.DescribeAvailabilityZonesOutput](t, c, root(demo), "DescribeAvailabilityZones")
	if len(zones.AvailabilityZones) != 1 || *zones.AvailabilityZones[0].ZoneName != "us-east-1a" {
		t.Errorf("zones: %+v", zones)
	}
	_, err = c.call(t, root(demo), "DescribeAvailabilityZones", "ZoneName.1=mars-1a")
	wantCode(t, err, "InvalidParameterValue", "mars")
	if regions := do[ec2model.DescribeRegionsOutput](t, c, root(demo),
		"DescribeRegions"); *regions.Regions[0].RegionName != "us-east-1" {
		t.Errorf("regions: %+v", regions)
	}
}

func BenchmarkDescribeInstances1000(b *testing.B) {
	c := start(b)
	st := bigNode()
	st.MemoryMBTotal, st.MemoryMBFree = 1<<20, 1<<20
	st.Cores = 64
	c.addNode(b, "node-1", st)
	c.run(b, demo, "MinCount=1000", "MaxCount=1000")
	c.run(b, other, "MinCount=100", "MaxCount=100")
	b.ReportAllocs()
	for b.Loop() {
		out, err := c.call(b, root(demo), "DescribeInstances")
		if err != nil {
			b.Fatal(err)
		}
		if n := len(described(out.(*ec2model.DescribeInstancesOutput))); n != 1000 {
			b.Fatal(n)
		}
	}
}
