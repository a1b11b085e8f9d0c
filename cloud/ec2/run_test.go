package ec2_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestRunInstances(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	out := do[ec2model.RunInstancesOutput](t, c, root(demo), "RunInstances",
		"ImageId="+ec2.ImageID("web"), "MinCount=2", "MaxCount=3", "InstanceType=t3.micro", "UserData="+b64("hello"),
		"IamInstanceProfile.Name=app", "TagSpecification.1.ResourceType=instance", "TagSpecification.1.Tag.1.Key=Name",
		"TagSpecification.1.Tag.1.Value=backend", "MetadataOptions.HttpTokens=required")
	if len(out.Instances) != 3 || *out.OwnerId != demo {
		t.Fatalf("%d instances of %s", len(out.Instances), *out.OwnerId)
	}
	seen := map[string]bool{}
	for i, got := range out.Instances {
		inst, err := c.Instance(t.Context(), *got.InstanceId)
		if err != nil {
			t.Fatal(err)
		}
		ip := netip.MustParseAddr(inst.PrivateIP)
		if seen[inst.PrivateIP] || !netip.MustParsePrefix("10.64.0.0/16").Contains(ip) ||
			ip.Less(netip.MustParseAddr("10.64.0.16")) {
			t.Errorf("private address %s", ip)
		}
		seen[inst.PrivateIP] = true
		if *got.State.Name != "pending" || inst.LaunchIndex != i || inst.MemoryMB != 256 ||
			string(inst.UserData) != "hello" ||
			inst.Tags["Name"] != "backend" || inst.RoleName != "app-role" || !inst.Metadata.TokensRequired ||
			inst.NodeID != "node-1" || inst.ImageDigest != "sha256:bb" || inst.Credential != nil {
			t.Errorf("instance %+v", inst)
		}
		if !strings.HasPrefix(inst.MAC, "02:00:0a:40:") || len(inst.ID) != 19 {
			t.Errorf("MAC %s, id %s", inst.MAC, inst.ID)
		}
	}
	eventually(t, func() error {
		if load := c.placement.Nodes()[0].Load; load.Instances != 3 || load.MemoryMB < 3*256 {
			return fmt.Errorf("reserved %+v", load)
		}
		return nil
	})
}

func TestRunInstancesRefuses(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	web := "ImageId=" + ec2.ImageID("web")
	counts := []string{"MinCount=1", "MaxCount=1"}
	tests := []struct {
		name       string
		caller     authn.Caller
		pairs      []string
		code, word string
	}{
		{name: "no image", pairs: counts, code: "MissingParameter", word: "ImageId"},
		{name: "no counts", pairs: []string{web}, code: "MissingParameter", word: "M"},
		{name: "malformed image", pairs: append(counts, "ImageId=web"), code: "InvalidAMIID.Malformed", word: "web"},
		{name: "unknown image", pairs: append(counts, "ImageId=ami-00000000000000000"), code: "InvalidAMIID.NotFound",
			word: "ami-0"},
		{name: "the cloud's own image", pairs: append(counts, "ImageId="+ec2.ImageID("lbvm")),
			code: "InvalidAMIID.NotFound", word: "ami-"},
		{name: "unknown type", pairs: append(counts, web, "InstanceType=m9.huge"), code: "InvalidParameterValue",
			word: "InstanceType"},
		{name: "min zero", pairs: []string{web, "MinCount=0", "MaxCount=1"}, code: "InvalidParameterValue", word: "MinCount"},
		{name: "max below min", pairs: []string{web, "MinCount=2", "MaxCount=1"}, code: "InvalidParameterValue",
			word: "MaxCount"},
		{name: "too many", pairs: []string{web, "MinCount=1", "MaxCount=5000"}, code: "InstanceLimitExceeded",
			word: "MaxCount"},
		{name: "no number", pairs: []string{web, "MinCount=x", "MaxCount=1"}, code: "InvalidParameterValue",
			word: "MinCount"},
		{name: "user data no base64", pairs: append(counts, web, "UserData=***"), code: "InvalidUserData.Malformed",
			word: "UserData"},
		{name: "user data too long", pairs: append(counts, web, "UserData="+b64(strings.Repeat("x", 16385))),
			code: "InvalidParameterValue", word: "UserData"},
		{name: "unknown profile", pairs: append(counts, web, "IamInstanceProfile.Name=none"), code: "InvalidParameterValue",
			word: "IamInstanceProfile.Name"},
		{name: "profile named twice", pairs: append(counts, web, "IamInstanceProfile.Name=app",
			"IamInstanceProfile.Arn=arn:x"), code: "InvalidParameterCombination", word: "Arn"},
		{name: "profile of another account", pairs: append(counts, web,
			"IamInstanceProfile.Arn=arn:aws:iam::"+other+":instance-profile/app"),
			code: "InvalidParameterValue", word: "IamInstanceProfile.Arn"},
		{name: "key pair", pairs: append(counts, web, "KeyName=k"), code: "InvalidKeyPair.NotFound", word: "k"},
		{name: "subnet", pairs: append(counts, web, "SubnetId=subnet-1"), code: "InvalidSubnetID.NotFound", word: "subnet-1"},
		{name: "security group", pairs: append(counts, web, "SecurityGroupId.1=sg-1"), code: "InvalidGroup.NotFound",
			word: "sg-1"},
		{name: "zone", pairs: append(counts, web, "Placement.AvailabilityZone=us-east-1z"), code: "InvalidParameterValue",
			word: "AvailabilityZone"},
		{name: "launch template", pairs: append(counts, web, "LaunchTemplate.LaunchTemplateName=x"),
			code: "UnsupportedOperation", word: "LaunchTemplate"},
		{name: "chosen address", pairs: append(counts, web, "PrivateIpAddress=10.64.0.99"), code: "UnsupportedOperation",
			word: "PrivateIpAddress"},
		{name: "client token", pairs: append(counts, web, "ClientToken="+strings.Repeat("t", 65)),
			code: "InvalidParameterValue", word: "ClientToken"},
		{name: "reserved tag", pairs: append(counts, web, "TagSpecification.1.ResourceType=instance",
			"TagSpecification.1.Tag.1.Key=aws:x"), code: "InvalidParameterValue", word: "aws:"},
		{name: "tag of another thing", pairs: append(counts, web, "TagSpecification.1.ResourceType=vpc"),
			code: "InvalidParameterValue", word: "ResourceType"},
		{name: "hop limit", pairs: append(counts, web, "MetadataOptions.HttpPutResponseHopLimit=65"),
			code: "InvalidParameterValue", word: "HopLimit"},
		{name: "keyword with bad days", caller: root(system),
			pairs: append(counts, web,
				"UserData="+b64(keydelivery.Keyword+":0\n")), code: "InvalidParameterValue", word: "UserData"},
		{name: "dry run", pairs: append(counts, web, "DryRun=true"), code: "DryRunOperation", word: "DryRun"},
		{name: "no room", pairs: []string{web, "MinCount=500", "MaxCount=500"}, code: "InsufficientInstanceCapacity",
			word: "96 MB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.caller.AccountID == "" {
				tt.caller = root(demo)
			}
			_, err := c.call(t, tt.caller, "RunInstances", tt.pairs...)
			wantCode(t, err, tt.code, tt.word)
			if n := len(c.Instances()); n != 0 {
				t.Errorf("%d instances after a refusal", n)
			}
		})
	}
	t.Run("pass role", func(t *testing.T) {
		c.iam.denyPass = true
		defer func() { c.iam.denyPass = false }()
		_, err := c.call(t, root(demo), "RunInstances", append(counts, web, "IamInstanceProfile.Name=app")...)
		wantCode(t, err, "AccessDenied", "iam:PassRole")
	})
	t.Run("no caller", func(t *testing.T) {
		_, err := c.call(t, authn.Caller{}, "RunInstances", append(counts, web)...)
		wantCode(t, err, "AuthFailure", "caller")
	})
	eventually(t, func() error {
		if load := c.placement.Nodes()[0].Load; load.Instances != 0 || load.MemoryMB != 0 {
			return errors.New("refused launches left reservations")
		}
		return nil
	})
}

func TestPartialLaunchAndRollBack(t *testing.T) {
	c := start(t)
	st := bigNode()
	st.MemoryMBTotal = 30 * (96 + 16) // room for 30: more than one transaction's batch
	c.addNode(t, "node-1", st)
	_, err := c.call(t, root(demo), "RunInstances", "ImageId="+ec2.ImageID("web"), "MinCount=31", "MaxCount=40")
	wantCode(t, err, "InsufficientInstanceCapacity", "room")
	failed := c.events("placement.failed")
	if len(failed) != 1 || failed[0]["memoryMB"] != "96" || !strings.Contains(failed[0]["reason"], "room for 30 of 31") {
		t.Errorf("told of the placement: %v", failed)
	}
	eventually(t, func() error {
		if n := len(c.Instances()); n != 0 {
			return errors.New("the refused launch left instances")
		}
		return nil
	})
	// Both see room at first; the one that comes too late must take back what it created.
	var wg sync.WaitGroup
	var mu sync.Mutex
	launched := 0
	for range 2 {
		wg.Go(func() {
			out, err := c.call(t, root(demo), "RunInstances", "ImageId="+ec2.ImageID("web"), "MinCount=25", "MaxCount=25")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				launched += len(out.(*ec2model.RunInstancesOutput).Instances)
			}
		})
	}
	wg.Wait()
	eventually(t, func() error {
		load := c.placement.Nodes()[0].Load.Instances
		if n := len(c.Instances()); n != launched || load != launched || launched > 25 {
			return fmt.Errorf("%d launched, %d instances, %d reserved", launched, n, load)
		}
		return nil
	})
	if left := 30 - launched; len(c.run(t, demo, "MinCount=1", "MaxCount=40")) != left {
		t.Errorf("launched another number than the %d there is room for", left)
	}
}

func TestClientToken(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	const callers = 6
	var wg sync.WaitGroup
	results := make([][]string, callers)
	for i := range callers {
		wg.Go(func() { results[i] = c.run(t, demo, "ClientToken=once") })
	}
	wg.Wait()
	for _, ids := range results {
		if diff := cmp.Diff(results[0], ids); diff != "" {
			t.Errorf("one token, two answers:\n%s", diff)
		}
	}
	if n := len(c.Instances()); n != 1 {
		t.Errorf("%d instances from one token", n)
	}
	_, err := c.call(t, root(demo), "RunInstances", "ImageId="+ec2.ImageID("web"), "MinCount=1", "MaxCount=2",
		"ClientToken=once")
	wantCode(t, err, "IdempotentParameterMismatch", "ClientToken")
	if ids := c.run(t, other, "ClientToken=once"); slices.Equal(ids, results[0]) {
		t.Error("a client token reached into another account")
	}
}

func TestConcurrentLaunchesShareNoAddressAndNoRoom(t *testing.T) {
	c := start(t)
	st := bigNode()
	st.MemoryMBTotal = 10 * (96 + 16)
	c.addNode(t, "node-1", st)
	c.addNode(t, "node-2", st)
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for range 30 {
		wg.Go(func() {
			_, err := c.Launch(context.Background(), ec2.Launch{AccountID: demo, ImageName: "web"})
			if errors.Is(err, placement.ErrNoCapacity) {
				mu.Lock()
				refused++
				mu.Unlock()
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	addresses, perNode := map[string]bool{}, map[string]int{}
	for _, inst := range c.Instances() {
		if addresses[inst.PrivateIP] {
			t.Errorf("address %s was given twice", inst.PrivateIP)
		}
		addresses[inst.PrivateIP] = true
		perNode[inst.NodeID]++
	}
	if refused != 10 || perNode["node-1"] != 10 || perNode["node-2"] != 10 {
		t.Errorf("placed %v, refused %d; want 10 on each and 10 refused", perNode, refused)
	}
}

func TestCredentialKeyword(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	userData := keydelivery.WithKeyword(30, []byte("payload"))
	inst, err := c.Launch(t.Context(), ec2.Launch{
		AccountID: system, System: true, ImageName: "lbvm", UserData: userData, InstanceProfileName: "app",
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(inst.UserData) != "payload" || inst.Credential == nil {
		t.Fatalf("user data %q, credential %v", inst.UserData, inst.Credential != nil)
	}
	id, err := inst.Credential.Open(n.key, "node-1", inst.ID)
	if err != nil {
		t.Fatalf("the node cannot open its credential: %v", err)
	}
	cert, err := id.Certificate()
	if err != nil || cert.Subject.CommonName != inst.ID {
		t.Errorf("LBCERT for %v, %v; want %s", cert, err, inst.ID)
	}
	if days := cert.NotAfter.Sub(c.clock.Now()).Hours() / 24; days < 29 || days > 31 {
		t.Errorf("LBCERT is valid for %.1f days, want 30", days)
	}
	if _, err := inst.Credential.Open(n.key, "node-2", inst.ID); err == nil {
		t.Error("the credential opens for another node")
	}
	if _, err := inst.Credential.Open(n.key, "node-1", "i-00000000000000000"); err == nil {
		t.Error("the credential opens for another instance")
	}
	other := c.addNode(t, "node-2", bigNode())
	if _, err := inst.Credential.Open(other.key, "node-1", inst.ID); err == nil {
		t.Error("the credential opens with another node's key")
	}
}

func TestKeywordOfAUserAccountIsPlainUserData(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	userData := string(keydelivery.WithKeyword(30, []byte("payload")))
	ids := c.run(t, demo, "UserData="+b64(userData))
	inst, err := c.Instance(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if string(inst.UserData) != userData || inst.Credential != nil {
		t.Errorf("a user account's keyword was honoured: %q, credential %v", inst.UserData, inst.Credential != nil)
	}
	// The control: the same request by a system account.
	ids = c.run(t, system, "UserData="+b64(userData))
	inst, err = c.Instance(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if string(inst.UserData) != "payload" || inst.Credential == nil {
		t.Error("a system account's keyword was not honoured")
	}
}

func TestLaunchRefuses(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	tests := []struct {
		name   string
		launch ec2.Launch
		word   string
	}{
		{name: "unknown image", launch: ec2.Launch{AccountID: demo, ImageName: "x"}, word: "image"},
		{name: "the cloud's image for a user", launch: ec2.Launch{AccountID: demo, ImageName: "lbvm"}, word: "image"},
		{name: "unknown type", launch: ec2.Launch{AccountID: demo, ImageName: "web", InstanceType: "x"}, word: "type"},
		{name: "unknown profile", launch: ec2.Launch{AccountID: demo, ImageName: "web", InstanceProfileName: "x"},
			word: "profile"},
		{name: "long user data", launch: ec2.Launch{AccountID: demo, ImageName: "web", UserData: make([]byte, 16385)},
			word: "user data"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Launch(t.Context(), tt.launch)
			if err == nil || !strings.Contains(err.Error(), tt.word) {
				t.Errorf("error %v, want one about the %s", err, tt.word)
			}
		})
	}
	if n := len(c.Instances()); n != 0 {
		t.Errorf("%d instances after refusals", n)
	}
}
