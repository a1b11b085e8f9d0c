package clients

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("aws-sdk-go-v2", Label(twin.NeedsSim), func() {
	It("makes the example, with its waiters and paginators", func(ctx context.Context) {
		id := example(ctx)
		out, err := cloud.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		Expect(err).NotTo(HaveOccurred())
		Expect(out.Reservations).To(HaveLen(1))
		Expect(aws.ToString(out.Reservations[0].Instances[0].IamInstanceProfile.Arn)).To(
			Equal("arn:aws:iam::123456789012:instance-profile/s3access"))

		text, err := cloud.IAM.GetRolePolicy(ctx, &iam.GetRolePolicyInput{
			RoleName: aws.String(exampleRole), PolicyName: aws.String(examplePolicy)})
		Expect(err).NotTo(HaveOccurred())
		Expect(url.QueryUnescape(aws.ToString(text.PolicyDocument))).To(Equal(grant))

		var names []string
		pages := iam.NewListRolesPaginator(cloud.IAM, &iam.ListRolesInput{MaxItems: aws.Int32(1)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			Expect(err).NotTo(HaveOccurred())
			for _, r := range page.Roles {
				names = append(names, aws.ToString(r.RoleName))
			}
		}
		Expect(names).To(Equal([]string{exampleRole}))

		_, err = cloud.IAM.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String(exampleRole)})
		var conflict *iamtypes.DeleteConflictException
		Expect(err).To(MatchError(ContainSubstring("DeleteConflict")))
		Expect(errors.As(err, &conflict)).To(BeTrue(), "the SDK's own type of error, got %v", err)
		who, err := cloud.STS.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		Expect(err).NotTo(HaveOccurred())
		Expect(aws.ToString(who.Account)).To(Equal("123456789012"))
	})
})

// example makes the example with the SDK and returns its instance; all of it goes after the spec.
func example(ctx context.Context) string {
	GinkgoHelper()
	role, policy := aws.String(exampleRole), aws.String(examplePolicy)
	check := func(err error) {
		GinkgoHelper()
		Expect(err).NotTo(HaveOccurred())
	}
	_, err := cloud.IAM.CreateRole(ctx, &iam.CreateRoleInput{RoleName: role, AssumeRolePolicyDocument: aws.String(trust)})
	check(err)
	DeferCleanup(func(ctx context.Context) {
		_, err := cloud.IAM.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: role})
		check(err)
	})
	check(iam.NewRoleExistsWaiter(cloud.IAM).Wait(ctx, &iam.GetRoleInput{RoleName: role}, twin.ChangeTimeout))
	_, err = cloud.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
		RoleName: role, PolicyName: policy, PolicyDocument: aws.String(grant)})
	check(err)
	DeferCleanup(func(ctx context.Context) {
		_, err := cloud.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: role, PolicyName: policy})
		check(err)
	})
	_, err = cloud.IAM.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: role})
	check(err)
	DeferCleanup(func(ctx context.Context) {
		_, err := cloud.IAM.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: role})
		check(err)
	})
	check(iam.NewInstanceProfileExistsWaiter(cloud.IAM).Wait(ctx,
		&iam.GetInstanceProfileInput{InstanceProfileName: role}, twin.ChangeTimeout))
	_, err = cloud.IAM.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{
		InstanceProfileName: role, RoleName: role})
	check(err)
	DeferCleanup(func(ctx context.Context) {
		_, err := cloud.IAM.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{
			InstanceProfileName: role, RoleName: role})
		check(err)
	})
	images, err := cloud.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Filters: []ec2types.Filter{{Name: aws.String("name"), Values: []string{"web"}}}})
	check(err)
	out, err := cloud.EC2.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: role}})
	check(err)
	id := aws.ToString(out.Instances[0].InstanceId)
	only := &ec2.DescribeInstancesInput{InstanceIds: []string{id}}
	DeferCleanup(func(ctx context.Context) {
		_, err := cloud.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		check(err)
		check(ec2.NewInstanceTerminatedWaiter(cloud.EC2, func(o *ec2.InstanceTerminatedWaiterOptions) {
			o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
		}).Wait(ctx, only, twin.ChangeTimeout))
	})
	check(ec2.NewInstanceRunningWaiter(cloud.EC2, func(o *ec2.InstanceRunningWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	}).Wait(ctx, only, cloud.BootTimeout()))
	return id
}
