package accounts

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

const (
	systemAccount = "000000000001"
	userAccount   = "123456789012"
)

// The seed's three answers to whose a load balancer's VM is. Whatever the answer, it serves, its role is the system
// account's, the operator sees and replaces it, its use is accounted to whom the load balancer is, and no user can
// see or end it.
var _ = DescribeTable("A load balancer's VM", Label(twin.NeedsSim),
	func(ctx context.Context, owner string) {
		cloud := twin.Start(twin.CloudFlags("--lbvm-owner", owner))
		const host = "www.example.test"
		backends := cloud.Backends(1)
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		id := lb.Machine().ID

		By("running in the account that the setting names, on behalf of the load balancer's")
		vm, err := cloud.Instance(ctx, id)
		Expect(err).NotTo(HaveOccurred())
		Expect(vm.OwnedFor).To(Equal(userAccount))
		accounts, err := cloud.Operator.ListAccounts(ctx)
		Expect(err).NotTo(HaveOccurred())
		home := map[string]string{"system": systemAccount, "user": userAccount,
			"linked": linkedTo(accounts, userAccount)}[owner]
		Expect(home).NotTo(BeEmpty())
		Expect(vm.AccountID).To(Equal(home))

		By("being accounted to that account, and to nobody else")
		for _, a := range accounts {
			switch a.ID {
			case userAccount:
				Expect(a).To(And(HaveField("Instances", 1), HaveField("LoadBalancerVMs", 1)))
			default:
				Expect(a).To(And(HaveField("Instances", 0), HaveField("LoadBalancerVMs", 0), HaveField("MemoryMB", 0)))
			}
		}

		By("being out of the reach of its account's users and of strangers")
		_, stranger := account(ctx, cloud, "stranger")
		for _, who := range []aws.Config{cloud.Config, stranger} {
			outOfReach(ctx, ec2.NewFromConfig(who), id)
		}
		_, err = cloud.ELB.RegisterInstancesWithLoadBalancer(ctx,
			&elasticloadbalancing.RegisterInstancesWithLoadBalancerInput{LoadBalancerName: aws.String(lb.Name),
				Instances: []elbtypes.Instance{{InstanceId: aws.String(id)}}})
		Expect(err).To(MatchError(ContainSubstring("InvalidInstance")))
		profiles, err := cloud.IAM.ListInstanceProfiles(ctx, &iam.ListInstanceProfilesInput{})
		Expect(err).NotTo(HaveOccurred())
		for _, p := range profiles.InstanceProfiles {
			Expect(aws.ToString(p.InstanceProfileName)).NotTo(HavePrefix("loadbalancer-vm-"))
		}

		By("being the operator's to replace")
		replaced, err := cloud.Operator.RevokeLBVM(ctx, id, "a spec")
		Expect(err).NotTo(HaveOccurred())
		Expect(replaced.ID).To(Equal(id))
		Eventually(func(g Gomega) {
			now, err := lb.Status(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(now.Instances).To(And(HaveLen(1), Not(ContainElement(id))))
		}).WithTimeout(cloud.BootTimeout()).Should(Succeed())
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())

		By("having been launched by a role of its account, unless that is the cloud's own")
		assumed, err := cloud.EventsOf("elb.assumed_role", home)
		Expect(err).NotTo(HaveOccurred())
		if owner == "system" {
			Expect(assumed).To(BeEmpty())
			return
		}
		Expect(assumed).To(ContainElement(HaveField("Attributes", And(
			HaveKeyWithValue("action", "ec2:RunInstances"), HaveKeyWithValue("caller", HavePrefix("arn:aws:sts::"+home+":"))))))
	},
	Entry("of the system account", "system"),
	Entry("of the user's account, hidden there", "user"),
	Entry("of an account that is linked to the user's", "linked"),
)

func linkedTo(accounts []operator.Account, id string) string {
	for _, a := range accounts {
		if a.LinkedTo == id {
			return a.ID
		}
	}
	return ""
}

// outOfReach tries on an instance what its account's users may do to theirs.
func outOfReach(ctx context.Context, client *ec2.Client, id string) {
	GinkgoHelper()
	one := []string{id}
	all, err := client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	Expect(err).NotTo(HaveOccurred())
	for _, r := range all.Reservations {
		for _, i := range r.Instances {
			Expect(aws.ToString(i.InstanceId)).NotTo(Equal(id))
		}
	}
	tags, err := client.DescribeTags(ctx, &ec2.DescribeTagsInput{})
	Expect(err).NotTo(HaveOccurred())
	Expect(tags.Tags).NotTo(ContainElement(HaveField("ResourceId", HaveValue(Equal(id)))))
	for name, try := range map[string]func() error{
		"describe": func() error {
			_, err := client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: one})
			return err
		},
		"terminate": func() error {
			_, err := client.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: one})
			return err
		},
		"change its metadata's options": func() error {
			_, err := client.ModifyInstanceMetadataOptions(ctx, &ec2.ModifyInstanceMetadataOptionsInput{
				InstanceId: aws.String(id), HttpTokens: "optional"})
			return err
		},
		"tag": func() error {
			_, err := client.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: one})
			return err
		},
		"describe its status": func() error {
			_, err := client.DescribeInstanceStatus(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: one})
			return err
		},
		"reboot": func() error {
			_, err := client.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: one})
			return err
		},
		"see its screen": func() error {
			_, err := client.GetConsoleScreenshot(ctx, &ec2.GetConsoleScreenshotInput{InstanceId: aws.String(id)})
			return err
		},
		"give it a profile": func() error {
			_, err := client.AssociateIamInstanceProfile(ctx, &ec2.AssociateIamInstanceProfileInput{
				InstanceId:         aws.String(id),
				IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: aws.String("any")}})
			return err
		},
	} {
		Expect(try()).To(MatchError(ContainSubstring("InvalidInstanceID.NotFound")), name)
	}

	links, err := client.DescribeIamInstanceProfileAssociations(ctx,
		&ec2.DescribeIamInstanceProfileAssociationsInput{})
	Expect(err).NotTo(HaveOccurred())
	Expect(links.IamInstanceProfileAssociations).To(BeEmpty())
}
