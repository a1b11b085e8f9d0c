package accounts

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

const (
	appRole  = "app"
	trustEC2 = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},` +
		`"Action":"sts:AssumeRole"}]}`
	mayGetRole = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:GetRole","Resource":"*"}]}`
	// atOnce is what a change of an instance's profile may take until its guest notices.
	atOnce = time.Second
	// rounds are the times that a change is made: this machine may stand still in one, a slow cloud is slow in all.
	rounds = 10
)

var _ = Describe("A role of an instance", Label(twin.NeedsSim), func() {
	It("takes effect in its guest within a second, and so does its end", func(ctx context.Context) {
		cloud := twin.Start()
		name := aws.String(appRole)
		call := func(_ any, err error) {
			GinkgoHelper()
			Expect(err).NotTo(HaveOccurred())
		}
		call(cloud.IAM.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name,
			AssumeRolePolicyDocument: aws.String(trustEC2)}))
		call(cloud.IAM.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: name}))
		put := func() {
			call(cloud.IAM.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{
				InstanceProfileName: name, RoleName: name}))
		}
		take := func() {
			call(cloud.IAM.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{
				InstanceProfileName: name, RoleName: name}))
		}
		put()
		m := cloud.Launch("web", "")
		m.WaitForMilestone("ssh")
		associate := func() {
			call(cloud.EC2.AssociateIamInstanceProfile(ctx, &ec2.AssociateIamInstanceProfileInput{
				InstanceId: aws.String(m.ID), IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: name}}))
		}
		disassociate := func() {
			links, err := cloud.EC2.DescribeIamInstanceProfileAssociations(ctx,
				&ec2.DescribeIamInstanceProfileAssociationsInput{})
			call(links, err)
			Expect(links.IamInstanceProfileAssociations).To(HaveLen(1))
			call(cloud.EC2.DisassociateIamInstanceProfile(ctx, &ec2.DisassociateIamInstanceProfileInput{
				AssociationId: links.IamInstanceProfileAssociations[0].AssociationId}))
		}
		given := func() bool { return credentials(m).AccessKeyId != "" }
		none := func() bool { return !given() }

		By("having credentials from its metadata service while it has a profile that holds a role")
		fastest(associate, given, disassociate, none)
		associate()
		Eventually(given).WithTimeout(twin.ChangeTimeout).Should(BeTrue())
		fastest(take, none, put, given)

		By("being allowed what the role is allowed from the answer on, with the credentials that it has already")
		c := credentials(m)
		session := cloud.As(c.AccessKeyId, c.SecretAccessKey, c.Token)
		who, err := sts.NewFromConfig(session).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		Expect(err).NotTo(HaveOccurred())
		Expect(aws.ToString(who.Arn)).To(HaveSuffix(":assumed-role/" + appRole + "/" + m.ID))
		getRole := func() error {
			_, err := iam.NewFromConfig(session).GetRole(ctx, &iam.GetRoleInput{RoleName: name})
			return err
		}
		for range rounds {
			Expect(getRole()).To(MatchError(ContainSubstring("AccessDenied")))
			call(cloud.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("look"),
				PolicyDocument: aws.String(mayGetRole)}))
			Expect(getRole()).To(Succeed())
			call(cloud.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name,
				PolicyName: aws.String("look")}))
		}
		Expect(getRole()).To(MatchError(ContainSubstring("AccessDenied")))
	})
})

// roleDocument is what the metadata service tells of a role's credentials.
type roleDocument struct{ Code, AccessKeyId, SecretAccessKey, Token string }

// credentials asks from inside a guest; they are empty when there are none.
func credentials(m *twin.Machine) (c roleDocument) {
	GinkgoHelper()
	out := m.Run("curl -sS -f http://169.254.169.254/latest/meta-data/iam/security-credentials/" + appRole)
	if out.Code != 0 {
		Expect(out.Stderr).To(ContainSubstring("404"))
		return roleDocument{}
	}
	Expect(json.Unmarshal([]byte(out.Stdout), &c)).To(Succeed())
	Expect(c.Code).To(Equal("Success"))
	return c
}

// fastest makes two changes that undo each other a few times and wants each to be seen at once, in one round at least.
// Time counts from the answer to the change.
func fastest(change func(), seen func() bool, undo func(), undone func() bool) {
	GinkgoHelper()
	took := [2]time.Duration{time.Hour, time.Hour}
	for range rounds {
		for i, step := range []struct {
			change func()
			seen   func() bool
		}{{change, seen}, {undo, undone}} {
			step.change()
			answered := time.Now()
			Eventually(step.seen).WithTimeout(twin.ChangeTimeout).WithPolling(10 * time.Millisecond).Should(BeTrue())
			took[i] = min(took[i], time.Since(answered))
		}
		if max(took[0], took[1]) < atOnce {
			return
		}
	}
	Expect(took).To(HaveEach(BeNumerically("<", atOnce)), "from the answers to the changes until the guest noticed")
}
