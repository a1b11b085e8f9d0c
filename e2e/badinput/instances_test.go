package badinput

import (
	"encoding/base64"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

// anInstance has the form of an instance id; nobody has it.
const anInstance = "i-0123456789abcdef0"

// run asks for one instance.
func run() call {
	return ask(ec2Service, "RunInstances", "ImageId", ec2.ImageID("web"), "MinCount", "1", "MaxCount", "1",
		"InstanceType", "t3.nano")
}

func userData(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

var _ = Describe("An instance", func() {
	DescribeTable(
		"that cannot be run is refused",
		expectRefused,
		Entry("image that is malformed", run().with("ImageId", "web"), 400, "InvalidAMIID.Malformed", "web"),
		Entry("image that is not there", run().with("ImageId", "ami-0123456789abcdef0"), 400, "InvalidAMIID.NotFound",
			"ami-0123456789abcdef0"),
		Entry("image of the cloud's own", run().with("ImageId", ec2.ImageID("lbvm")), 400, "InvalidAMIID.NotFound",
			ec2.ImageID("lbvm")),
		Entry("type", run().with("InstanceType", "x1.huge"), 400, "InvalidParameterValue", "InstanceType"),
		Entry("user data that is not base64", run().with("UserData", "%%%"), 400, "InvalidUserData.Malformed", "UserData"),
		Entry("user data too long", run().with("UserData", userData(strings.Repeat("x", 16<<10+1))), 400,
			"InvalidParameterValue", "UserData"),
		Entry("no instance at all", run().with("MinCount", "0"), 400, "InvalidParameterValue", "MinCount"),
		Entry("at most fewer than at least", run().with("MinCount", "2"), 400, "InvalidParameterValue", "MaxCount"),
		Entry("too many", run().with("MinCount", "1001", "MaxCount", "1001"), 400, "InstanceLimitExceeded", "1001"),
		Entry("profile that is not there", run().with("IamInstanceProfile.Name", "nowhere"), 400, "InvalidParameterValue",
			"IamInstanceProfile.Name"),
		Entry("key pair", run().with("KeyName", "mine"), 400, "InvalidKeyPair.NotFound", "mine"),
		Entry("network interface", run().with("NetworkInterface.1.DeviceIndex", "0"), 400, "UnsupportedOperation",
			"NetworkInterface"),
		Entry("client token", run().with("ClientToken", "a token"), 400, "InvalidParameterValue", "ClientToken"),
		Entry("tag of a kind that is none", run().with("TagSpecification.1.ResourceType", "spoon",
			"TagSpecification.1.Tag.1.Key", "k"), 400, "InvalidParameterValue", "ResourceType"),
	)

	DescribeTable(
		"that is gone or never was is refused",
		expectRefused,
		Entry("terminated", ask(ec2Service, "TerminateInstances", "InstanceId.1", anInstance), 400,
			"InvalidInstanceID.NotFound", anInstance),
		Entry("terminated, malformed", ask(ec2Service, "TerminateInstances", "InstanceId.1", "web-1"), 400,
			"InvalidInstanceID.Malformed", "web-1"),
		Entry("described", ask(ec2Service, "DescribeInstances", "InstanceId.1", anInstance), 400,
			"InvalidInstanceID.NotFound", anInstance),
		Entry("described, malformed", ask(ec2Service, "DescribeInstances", "InstanceId.1", "i-xyz"), 400,
			"InvalidInstanceID.Malformed", "i-xyz"),
		Entry("tagged", ask(ec2Service, "CreateTags", "ResourceId.1", anInstance, "Tag.1.Key", "k"), 400,
			"InvalidInstanceID.NotFound", anInstance),
		Entry("image described", ask(ec2Service, "DescribeImages", "ImageId.1", "ami-0123456789abcdef0"), 400,
			"InvalidAMIID.NotFound", "ami-0123456789abcdef0"),
	)

	It("is refused when no node has the memory, and one that fits is not", func() {
		node := cloud.Impostor()
		node.Claim(300)
		expectRefused(run().with("InstanceType", "t3.small"), 400, "InsufficientInstanceCapacity", "512 MB")
		expectRefused(run().with("MinCount", "9", "MaxCount", "9"), 400, "InsufficientInstanceCapacity", "of 9")
		ids := launch(run().with("MinCount", "1", "MaxCount", "9"))
		Expect(len(ids)).To(BeNumerically("<", 9), "as many as there was room for")

		By("refusing the rest of a request when one of its instances does not exist")
		expectRefused(ask(ec2Service, "TerminateInstances", "InstanceId.1", ids[0], "InstanceId.2", anInstance), 400,
			"InvalidInstanceID.NotFound", anInstance)
		expectRefused(onBalancer("RegisterInstancesWithLoadBalancer", "Instances.member.1.InstanceId", ids[0],
			"Instances.member.2.InstanceId", anInstance), 400, "InvalidInstance", anInstance)

		By("refusing one that was terminated")
		terminate(ids[:1])
		expectRefused(onBalancer("RegisterInstancesWithLoadBalancer", "Instances.member.1.InstanceId", ids[0]), 400,
			"InvalidInstance", ids[0])
	})
})

// launch runs instances, which are terminated after the spec, and returns their ids.
func launch(c call) []string {
	GinkgoHelper()
	ids := between(expectDone(c).Body, "<instanceId>", "</instanceId>")
	Expect(ids).NotTo(BeEmpty())
	DeferCleanup(terminate, ids)
	return ids
}

func terminate(ids []string) {
	GinkgoHelper()
	c := ask(ec2Service, "TerminateInstances")
	for i, id := range ids {
		c = c.with("InstanceId."+strconv.Itoa(i+1), id)
	}
	expectDone(c)
}

// between returns every text between two others.
func between(text, left, right string) []string {
	var found []string
	for {
		_, rest, ok := strings.Cut(text, left)
		if !ok {
			return found
		}
		inside, after, _ := strings.Cut(rest, right)
		found, text = append(found, inside), after
	}
}
