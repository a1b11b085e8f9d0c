package roles

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

const (
	role   = "app"
	policy = "look"
	trust  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},` +
		`"Action":"sts:AssumeRole"}]}`
	mayGetRole = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:GetRole","Resource":"*"}]}`
	// endpoint is where guests reach the API inside their network.
	endpoint = "https://169.254.169.253"
	// patience bounds each wait. The first is for the guest too, and with it for the template of an image that is new.
	patience = 2 * time.Minute
)

var _ = Describe("A program on an instance with the SDK's default chain", Label(twin.NeedsKernel, "slow"), func() {
	It("works without a key while the instance has a profile", func(ctx context.Context) {
		name := aws.String(role)
		call := func(_ any, err error) {
			GinkgoHelper()
			Expect(err).NotTo(HaveOccurred())
		}
		call(cloud.IAM.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(trust)}))
		call(cloud.IAM.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: name}))
		call(cloud.IAM.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{
			InstanceProfileName: name, RoleName: name}))
		id := launch(ctx)

		says := func(caller, getRole string) {
			GinkgoHelper()
			Eventually(func(g Gomega) {
				console, err := cloud.Console(ctx, id)
				g.Expect(err).NotTo(HaveOccurred())
				told := twin.Stages(console, "sdk")
				g.Expect(told).NotTo(BeEmpty())
				last := told[len(told)-1]
				g.Expect(last).To(HaveKeyWithValue("caller", caller))
				g.Expect(last).To(HaveKeyWithValue("getRole", getRole))
			}).WithTimeout(patience).Should(Succeed())
		}
		session := "arn:aws:sts::123456789012:assumed-role/" + role + "/" + id

		By("being its role, which may nothing yet")
		says(session, "AccessDenied")
		By("being allowed what its role is allowed from then on")
		call(cloud.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String(policy),
			PolicyDocument: aws.String(mayGetRole)}))
		says(session, "allowed")
		call(cloud.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: aws.String(policy)}))
		says(session, "AccessDenied")

		By("having no credentials when the role is taken out of the profile, and again when it is back")
		call(cloud.IAM.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{
			InstanceProfileName: name, RoleName: name}))
		says("", "no credentials")
		call(cloud.IAM.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{
			InstanceProfileName: name, RoleName: name}))
		says(session, "AccessDenied")

		By("having none when the instance loses its profile")
		links, err := cloud.EC2.DescribeIamInstanceProfileAssociations(ctx,
			&ec2.DescribeIamInstanceProfileAssociationsInput{})
		Expect(err).NotTo(HaveOccurred())
		Expect(links.IamInstanceProfileAssociations).To(HaveLen(1))
		call(cloud.EC2.DisassociateIamInstanceProfile(ctx, &ec2.DisassociateIamInstanceProfileInput{
			AssociationId: links.IamInstanceProfileAssociations[0].AssociationId}))
		says("", "no credentials")

		By("being somebody again when it gets one, and nobody when its metadata service is shut")
		call(cloud.EC2.AssociateIamInstanceProfile(ctx, &ec2.AssociateIamInstanceProfileInput{InstanceId: aws.String(id),
			IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: name}}))
		says(session, "AccessDenied")
		call(cloud.EC2.ModifyInstanceMetadataOptions(ctx, &ec2.ModifyInstanceMetadataOptionsInput{
			InstanceId: aws.String(id), HttpEndpoint: ec2types.InstanceMetadataEndpointStateDisabled}))
		Eventually(func(g Gomega) {
			console, err := cloud.Console(ctx, id)
			g.Expect(err).NotTo(HaveOccurred())
			told := twin.Stages(console, "sdk")
			g.Expect(told[len(told)-1]).To(HaveKeyWithValue("getRole", ContainSubstring("no task")))
		}).WithTimeout(patience).Should(Succeed())
	})
})

// launch starts a guest with the profile, whose metadata service wants tokens.
func launch(ctx context.Context) string {
	GinkgoHelper()
	status, err := cloud.Operator.Status(ctx)
	Expect(err).NotTo(HaveOccurred())
	ca, err := os.ReadFile(status.CAFile)
	Expect(err).NotTo(HaveOccurred())
	task, err := json.Marshal(map[string]string{"endpoint": endpoint, "ca": string(ca), "role": role})
	Expect(err).NotTo(HaveOccurred())
	images, err := cloud.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Filters: []ec2types.Filter{{Name: aws.String("name"), Values: []string{"web"}}}})
	Expect(err).NotTo(HaveOccurred())
	out, err := cloud.EC2.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		InstanceType:       ec2types.InstanceTypeT3Micro, // the SDK makes for a large image
		UserData:           aws.String(base64.StdEncoding.EncodeToString(task)),
		IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: aws.String(role)},
		MetadataOptions:    &ec2types.InstanceMetadataOptionsRequest{HttpTokens: ec2types.HttpTokensStateRequired},
	})
	Expect(err).NotTo(HaveOccurred())
	id := aws.ToString(out.Instances[0].InstanceId)
	DeferCleanup(func() { cloud.Terminate(id) })
	return id
}
