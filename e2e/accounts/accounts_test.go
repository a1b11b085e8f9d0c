package accounts

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("Accounts", Label(twin.NeedsSim), Ordered, func() {
	var cloud *twin.Twin
	BeforeAll(func() { cloud = twin.StartCloud() })
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("are made, listed and refused", func(ctx context.Context) {
		id, _ := account(ctx, cloud, "research")
		code, out, errs := cloud.Command(ctx, "account", "ls")
		Expect(code).To(BeZero(), errs)
		Expect(out).To(MatchRegexp(`(?m)^ *000000000001 +cloudtwin-system +system`))
		Expect(out).To(MatchRegexp(`(?m)^ *` + id + ` +research +user +0 +0 +0 MB`))

		code, out, errs = cloud.Command(ctx, "account", "create", "fixed", "--id", "012345678901")
		Expect(code).To(BeZero(), errs)
		Expect(out).To(Equal("012345678901\n"))
		for _, wrong := range []struct{ args, says string }{
			{"create research", "there is such an account"},
			{"create other --id 012345678901", "there is such an account"},
			{"create other --id 12", "a number has twelve digits"},
			{"create no/slash", "a name has 1 to 50"},
			{"create 012345678902", "a name has 1 to 50"},
			{"create", "takes one account"},
			{"keys nobody", "there is no such account"},
		} {
			code, _, errs := cloud.Command(ctx, append([]string{"account"}, strings.Fields(wrong.args)...)...)
			Expect(code).To(Equal(2), wrong.args)
			Expect(errs).To(ContainSubstring(wrong.says), wrong.args)
		}
	})

	It("have root users who reach nothing of another's, by the keys that the command line prints", func(
		ctx context.Context,
	) {
		_, first := account(ctx, cloud, "first")
		second, root := account(ctx, cloud, "second")
		_, err := iam.NewFromConfig(first).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("ann")})
		Expect(err).NotTo(HaveOccurred())
		users, err := iam.NewFromConfig(root).ListUsers(ctx, &iam.ListUsersInput{})
		Expect(err).NotTo(HaveOccurred())
		Expect(users.Users).To(BeEmpty())
		_, err = iam.NewFromConfig(root).GetUser(ctx, &iam.GetUserInput{UserName: aws.String("ann")})
		Expect(err).To(MatchError(ContainSubstring("NoSuchEntity")))

		code, out, errs := cloud.Command(ctx, "account", "keys", second)
		Expect(code).To(BeZero(), errs)
		keys, err := root.Credentials.Retrieve(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(And(ContainSubstring("export AWS_ACCESS_KEY_ID='"+keys.AccessKeyID+"'"),
			ContainSubstring("export AWS_SECRET_ACCESS_KEY='"+keys.SecretAccessKey+"'")))
		events, err := cloud.Events()
		Expect(err).NotTo(HaveOccurred())
		Expect(events).To(ContainElement(And(HaveField("Kind", "account.keys_given"), HaveField("Subject", second))))
	})

	It("lend roles to one another, against an external id", func(ctx context.Context) {
		_, owner := account(ctx, cloud, "owner")
		guest, guestRoot := account(ctx, cloud, "guest")
		trust := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"%s"},`+
			`"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"contract-7"}}}]}`, guest)
		role, err := iam.NewFromConfig(owner).CreateRole(ctx, &iam.CreateRoleInput{
			RoleName: aws.String("lent"), AssumeRolePolicyDocument: aws.String(trust)})
		Expect(err).NotTo(HaveOccurred())
		user := userOf(ctx, cloud, guestRoot, "bea", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",`+
			`"Action":"sts:AssumeRole","Resource":"`+aws.ToString(role.Role.Arn)+`"}]}`)
		stranger := userOf(ctx, cloud, guestRoot, "cid", "")

		assume := func(who aws.Config, externalID *string) (*sts.AssumeRoleOutput, error) {
			return sts.NewFromConfig(who).AssumeRole(ctx, &sts.AssumeRoleInput{
				RoleArn: role.Role.Arn, RoleSessionName: aws.String("visit"), ExternalId: externalID})
		}
		_, err = assume(user, nil)
		Expect(err).To(MatchError(ContainSubstring("AccessDenied")))
		_, err = assume(user, aws.String("contract-8"))
		Expect(err).To(MatchError(ContainSubstring("AccessDenied")))
		_, err = assume(stranger, aws.String("contract-7"))
		Expect(err).To(MatchError(ContainSubstring("AccessDenied")))
		out, err := assume(user, aws.String("contract-7"))
		Expect(err).NotTo(HaveOccurred())
		c := out.Credentials
		who, err := sts.NewFromConfig(cloud.As(aws.ToString(c.AccessKeyId), aws.ToString(c.SecretAccessKey),
			aws.ToString(c.SessionToken))).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		Expect(err).NotTo(HaveOccurred())
		keys, err := cloud.Operator.AccountKeys(ctx, "owner")
		Expect(err).NotTo(HaveOccurred())
		Expect(aws.ToString(who.Account)).To(Equal(keys.AccountID))
		Expect(aws.ToString(who.Arn)).To(HaveSuffix(":assumed-role/lent/visit"))
	})

	It("keep their numbers when the cloud is killed and started again", func(ctx context.Context) {
		before, err := cloud.Operator.ListAccounts(ctx)
		Expect(err).NotTo(HaveOccurred())
		cloud.KillCloud()
		cloud.RestartCloud()
		after, err := cloud.Operator.ListAccounts(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(after).To(Equal(before))
	})
})

// userOf makes a user with a key, and an inline policy unless it is empty, and returns the user's configuration.
func userOf(ctx context.Context, cloud *twin.Twin, root aws.Config, name, policy string) aws.Config {
	GinkgoHelper()
	client := iam.NewFromConfig(root)
	_, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String(name)})
	Expect(err).NotTo(HaveOccurred())
	if policy != "" {
		_, err = client.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String(name),
			PolicyName: aws.String("own"), PolicyDocument: aws.String(policy)})
		Expect(err).NotTo(HaveOccurred())
	}
	key, err := client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String(name)})
	Expect(err).NotTo(HaveOccurred())
	return cloud.As(aws.ToString(key.AccessKey.AccessKeyId), aws.ToString(key.AccessKey.SecretAccessKey), "")
}
