package badinput

import (
	"context"
	"net/http"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("Who is no load-balancer VM", func() {
	It("gets no credential for the keyword in user data, but the words as they are", func() {
		node := cloud.Impostor()
		for _, text := range []string{
			keydelivery.Keyword, keydelivery.Keyword + ":forever\n", string(keydelivery.WithKeyword(1, []byte("hello"))),
		} {
			ids := launch(run().with("UserData", userData(text)))
			Eventually(node.Instances).WithTimeout(twin.ChangeTimeout).Should(HaveKey(ids[0]))
			sent := node.Instances()[ids[0]]
			Expect(string(sent.GetUserData())).To(Equal(text))
			Expect(sent.GetCredential()).To(BeNil())
		}

		By("telling that from an instance that has one")
		guest := node.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTP(80)))
		Expect(node.Instances()[guest.InstanceID].GetCredential()).NotTo(BeNil())
	})

	It("becomes none by a session of its name", func(context.Context) {
		node := cloud.Impostor()
		secret := cloud.Upload(pki.P256, host)
		guest := node.LBVM(cloud.CreateLoadBalancer(nil, twin.HTTPS(443, secret.ARN)))
		describe := func() call {
			c := ask(elbService, "DescribeLoadBalancersByServo")
			c.form = servo.DescribeForm(guest.InstanceID, "", 0)
			return c
		}
		Expect(guest.Download(secret.ARN).Key).NotTo(BeNil())
		expectDone(keysOf{guest.Role.GetAccessKeyId(), guest.Role.GetSecretAccessKey(), guest.Role.GetToken()}.
			sign(describe()))

		thief := roleSession(guest.InstanceID)
		expectDone(thief.sign(whoAmI()))
		stolen := *guest
		stolen.Role = &nodelink.RoleCredentialsResponse{AccessKeyId: thief.id, SecretAccessKey: thief.secret,
			Token: thief.token}
		before := records.Snapshot()
		attempt := stolen.Download(secret.ARN)
		Expect(attempt).To(twin.BeDeniedBecause(keydelivery.ReasonNotRoleSession))
		Expect(attempt.Status).To(Equal(http.StatusForbidden))
		Expect(records.Snapshot()).To(Equal(before))
		expectRefused(thief.sign(describe()), 403, "AccessDenied", "")
		expectRefused(root().sign(describe()), 403, "AccessDenied", "")
	})
})

// roleSession lets the user assume a role that may do everything, under a session name.
func roleSession(name string) keysOf {
	GinkgoHelper()
	const all = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",` +
		`"Principal":{"AWS":"` + accountARN + `root"}}]}`
	key, _ := newKey()
	expectDone(ask(iamService, "PutUserPolicy", "UserName", aUser, "PolicyName", "all", "PolicyDocument", all))
	DeferCleanup(func() {
		expectDone(ask(iamService, "DeleteUserPolicy", "UserName", aUser, "PolicyName", "all"))
	})
	role := expectDone(ask(iamService, "CreateRole", "RoleName", "all", "AssumeRolePolicyDocument", trust))
	expectDone(ask(iamService, "PutRolePolicy", "RoleName", "all", "PolicyName", "all", "PolicyDocument", all))
	DeferCleanup(func() {
		expectDone(ask(iamService, "DeleteRolePolicy", "RoleName", "all", "PolicyName", "all"))
		expectDone(ask(iamService, "DeleteRole", "RoleName", "all"))
	})
	arn := between(role.Body, "<Arn>", "</Arn>")
	Expect(arn).To(HaveLen(1))
	return read(expectDone(key.sign(ask(stsService, "AssumeRole", "RoleArn", arn[0], "RoleSessionName", name))))
}
