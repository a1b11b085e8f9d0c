package accounts

import (
	"context"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("service control policies", Label("sim"), func() {
	It("limit an account, its root user included, from the command on and until they are taken away", func(
		ctx context.Context) {
		cloud := twin.StartCloud()
		number, root := account(ctx, cloud, "bounded")
		client := iam.NewFromConfig(root)
		makeUser := func(name string) error {
			_, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String(name)})
			return err
		}
		Expect(makeUser("before")).To(Succeed())

		file := filepath.Join(GinkgoT().TempDir(), "no-users.json")
		document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},` +
			`{"Effect":"Deny","Action":"iam:CreateUser","Resource":"*"}]}`
		Expect(os.WriteFile(file, []byte(document), 0o600)).To(Succeed())
		code, _, errs := cloud.Command(ctx, "account", "policy", "put", "bounded", file)
		Expect(code).To(BeZero(), errs)
		Expect(makeUser("during")).To(MatchError(ContainSubstring("with an explicit deny in a service control policy")))
		_, err := client.ListUsers(ctx, &iam.ListUsersInput{})
		Expect(err).NotTo(HaveOccurred())
		code, out, errs := cloud.Command(ctx, "account", "policy", "ls", number)
		Expect(code).To(BeZero(), errs)
		Expect(out).To(Equal("no-users\n" + document + "\n"))

		cloud.KillCloud()
		cloud.RestartCloud()
		keys, err := root.Credentials.Retrieve(ctx)
		Expect(err).NotTo(HaveOccurred())
		client = iam.NewFromConfig(cloud.As(keys.AccessKeyID, keys.SecretAccessKey, "")) // the endpoint is another one
		Expect(makeUser("after-the-kill")).To(MatchError(ContainSubstring("AccessDenied")))

		code, _, errs = cloud.Command(ctx, "account", "policy", "rm", "bounded", "no-users")
		Expect(code).To(BeZero(), errs)
		Expect(makeUser("after")).To(Succeed())
		events, err := cloud.Events()
		Expect(err).NotTo(HaveOccurred())
		for _, kind := range []string{"account.policy_set", "account.policy_removed"} {
			Expect(events).To(ContainElement(And(HaveField("Kind", kind), HaveField("Subject", number),
				HaveField("Attributes", HaveKeyWithValue("policy", "no-users")))))
		}

		By("refusing what is none, and whom it cannot limit")
		bad := filepath.Join(GinkgoT().TempDir(), "bad.json")
		Expect(os.WriteFile(bad, []byte(`{"Statement":[]`), 0o600)).To(Succeed())
		for _, args := range [][]string{
			{"put", "bounded", bad}, {"put", "bounded", bad + ".none"}, {"put", "nobody", file},
			{"put", "000000000001", file}, {"rm", "bounded", "no-users"}, {"ls", "nobody"}, {"put", "bounded"}, {},
		} {
			code, _, errs := cloud.Command(ctx, append([]string{"account", "policy"}, args...)...)
			Expect(code).To(Equal(2), "%v: %s", args, errs)
		}
	})
})
