package harness

import (
	"bytes"
	"context"
	"encoding/base64"
	"image/jpeg"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

// What must be so all along holds beside each spec of this suite.
var _ = twin.KeepInvariants(func() *twin.Twin { return cloud })

var _ = Describe("Reboot", func() {
	It("gives a guest a new life with the same name, address and user data", func(ctx context.Context) {
		m := cloud.Launch("web", "hello")
		m.WaitForMilestone("serving")
		before := described(ctx, m.ID)
		m.Reboot()
		m.WaitForMilestone("serving")
		after := described(ctx, m.ID)
		Expect(after.State.Name).To(Equal(ec2types.InstanceStateNameRunning))
		Expect(aws.ToString(after.PrivateIpAddress)).To(Equal(aws.ToString(before.PrivateIpAddress)))
		Expect(aws.ToTime(after.LaunchTime)).To(Equal(aws.ToTime(before.LaunchTime)))
		By("again")
		m.Reboot()
		m.WaitForMilestone("serving")
	})

	It("makes a load balancer's guest ask for its keys anew, with a new identity", func(ctx context.Context) {
		certificate := cloud.Upload(pki.P256, "reboot.example.test")
		lb := cloud.CreateLoadBalancer(cloud.Backends(1), twin.HTTPS(8443, certificate.ARN))
		client := lb.Listener(8443, certificate.CA, "reboot.example.test")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		m := lb.Machine()
		old := identity(ctx, m.ID).Serial

		_, err := cloud.EC2.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{m.ID}})
		Expect(err).To(MatchError(ContainSubstring("InvalidInstanceID.NotFound")), "a user reboots what is not theirs")
		m.Reboot()
		m.WaitForMilestone("serving")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		Expect(identity(ctx, m.ID).Serial).NotTo(Equal(old))
		status, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Instances).To(Equal([]string{m.ID}), "the guest was rebooted, not replaced")
		events, err := cloud.Events()
		Expect(err).NotTo(HaveOccurred())
		Expect(events).To(ContainElement(And(HaveField("Kind", "ec2.instance_reboot"), HaveField("Subject", m.ID),
			HaveField("Attributes", HaveKeyWithValue("replaced", old)))))
	})
})

var _ = Describe("A display", func() {
	It("shows what its guest says", func(ctx context.Context) {
		m := cloud.Launch("web", "")
		m.WaitForMilestone("serving")
		Eventually(m.Screenshot).WithTimeout(cloud.BootTimeout()).Should(Satisfy(twin.ShowsSomething))
		out, err := cloud.EC2.GetConsoleScreenshot(ctx, &ec2.GetConsoleScreenshotInput{InstanceId: aws.String(m.ID)})
		Expect(err).NotTo(HaveOccurred())
		data, err := base64.StdEncoding.DecodeString(aws.ToString(out.ImageData))
		Expect(err).NotTo(HaveOccurred())
		picture, err := jpeg.Decode(bytes.NewReader(data))
		Expect(err).NotTo(HaveOccurred())
		Expect(picture.Bounds().Size()).To(Equal(m.Screenshot().Bounds().Size()))
	})

	It("is nothing that a load balancer's guest has", func(ctx context.Context) {
		certificate := cloud.Upload(pki.P256, "blind.example.test")
		lb := cloud.CreateLoadBalancer(cloud.Backends(1), twin.HTTPS(8443, certificate.ARN))
		client := lb.Listener(8443, certificate.CA, "blind.example.test")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		_, err := cloud.Operator.Screenshot(ctx, lb.Machine().ID)
		Expect(err).To(MatchError(ContainSubstring("no display")))
	})
})

var _ = Describe("A guest's verbs, further", func() {
	It("have its kernel panic, which its cloud notices", func() {
		cloud.Allow("Kernel panic|Machine check|mce: ")
		m := cloud.Launch("web", "")
		m.WaitForMilestone("ssh") // its last word
		m.Panic()
		m.WaitForState("terminated")
	})

	It("keep a medium from it, and give it back", func(ctx context.Context) {
		certificate := cloud.Upload(pki.P256, "medium.example.test")
		lb := cloud.CreateLoadBalancer(cloud.Backends(1), twin.HTTPS(8443, certificate.ARN))
		client := lb.Listener(8443, certificate.CA, "medium.example.test")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		m := lb.Machine()
		m.EjectMedium()
		_, err := cloud.Operator.RenewLBVM(ctx, m.ID)
		Expect(err).NotTo(HaveOccurred())
		renewals := func() int { return identity(ctx, m.ID).Renewals }
		Consistently(renewals).Should(BeZero())
		m.InsertMedium()
		Eventually(renewals).WithTimeout(cloud.BootTimeout()).Should(Equal(1))
	})

	It("wait for its ports, from inside", func() {
		m := cloud.Launch("web", "port: 8080")
		m.WaitForPort(8080)
		m.WaitForPort(22) // where no HTTP is spoken
		Expect(m.ListensOn(80)).To(BeFalse())
	})

	It("connect to its ports where its node is in this process", Label(twin.NeedsSim), func() {
		here := twin.StartCloud(twin.Guests(node.GuestsSim))
		here.StartNodeHere("")
		m := here.Launch("web", "")
		m.WaitForPort(80)
		Expect(m.ListensOn(81)).To(BeFalse())
	})
})

func described(ctx context.Context, id string) ec2types.Instance {
	GinkgoHelper()
	out, err := cloud.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	Expect(err).NotTo(HaveOccurred())
	Expect(out.Reservations).To(HaveLen(1))
	Expect(out.Reservations[0].Instances).To(HaveLen(1))
	return out.Reservations[0].Instances[0]
}

// identity is that of a load balancer's guest, as the operator sees it.
func identity(ctx context.Context, id string) operator.Identity {
	GinkgoHelper()
	status, err := cloud.Operator.Status(ctx)
	Expect(err).NotTo(HaveOccurred())
	for _, i := range status.Instances {
		if i.ID == id && i.Identity != nil {
			return *i.Identity
		}
	}
	Fail("no identity of " + id)
	return operator.Identity{}
}
