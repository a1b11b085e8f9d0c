package threats

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

const everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

var _ = Describe("A caller", Label(twin.NeedsSim), func() {
	DescribeTable(
		"that is another LBVM, in part or whole, is refused",
		expectRepelled,
		Entry("asking for a key that is not its listener's", repels(anotherLB, "policy"), change(func(d *draft) {
			*d = *honest(world.theirs)
			d.arn = world.mine.cert.ARN
		}), nil, because(keydelivery.ReasonPolicy)),
		Entry("asking for a certificate that is not there", repels(anotherLB, "policy"), change(func(d *draft) {
			d.arn += "-not"
		}), nil, because(keydelivery.ReasonPolicy)),
		Entry("with another instance's LBCERT", repels(anotherLBCert, "instance"), change(func(d *draft) {
			d.cert, d.key = world.theirs.Identity.CertPEM, privateKey(world.theirs.Identity.Key)
		}), nil, because(keydelivery.ReasonInstanceMismatch)),
		Entry("with another LBVM's role", repels(anotherRole, "instance"), change(func(d *draft) {
			d.keys = roleOf(world.theirs)
		}), nil, because(keydelivery.ReasonInstanceMismatch)),
		Entry("with another LBVM's role, for what that may have", repels(anotherRole, "instance"), change(func(d *draft) {
			d.keys, d.arn = roleOf(world.theirs), world.theirs.cert.ARN
		}), nil, because(keydelivery.ReasonInstanceMismatch)),
	)

	DescribeTable(
		"that is no LBVM is refused, with the LBVM's own LBCERT and LBPK",
		expectRepelled,
		Entry("root user of the certificate's account", repels(notAnLBVM, "role-session"),
			change(func(d *draft) { d.keys = rootKeys() }), nil, because(keydelivery.ReasonNotRoleSession)),
		Entry("user who may do everything", repels(notAnLBVM, "role-session"),
			change(func(d *draft) { d.keys = userKeys() }), nil, because(keydelivery.ReasonNotRoleSession)),
		Entry("session of the root user", repels(notAnLBVM), change(func(d *draft) {
			out, err := cloud.STS.GetSessionToken(background(), &sts.GetSessionTokenInput{})
			Expect(err).NotTo(HaveOccurred())
			c := out.Credentials
			d.keys = keys{*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken}
		}), nil, because(keydelivery.ReasonNotRoleSession)),
		Entry("role session of a user's account, named like the instance", repels(notAnLBVM, "system-account"),
			change(func(d *draft) { d.keys = roleSession(world.mine.InstanceID) }), nil,
			because(keydelivery.ReasonNotRoleSession)),
	)

	DescribeTable(
		"whose HTTP signature does not hold is refused before anything else",
		expectRepelled,
		Entry("wrong secret", repels(httpSignature, "sigv4"), change(func(d *draft) { d.keys.secret += "x" }), nil,
			unsigned(http.StatusForbidden, "SignatureDoesNotMatch")),
		Entry("16 minutes old", repels(httpSignature, "sigv4-time"), signs(func(s *signer) {
			s.at = s.at.Add(-16 * time.Minute)
		}), signs(func(s *signer) { s.at = s.at.Add(-14 * time.Minute) }),
			unsigned(http.StatusForbidden, "SignatureDoesNotMatch")),
		Entry("hash of another body", repels(httpSignature), signs(func(s *signer) { s.payload = hexSum([]byte("other")) }),
			nil, unsigned(http.StatusForbidden, "SignatureDoesNotMatch")),
		Entry("no hash of the body", repels(httpSignature), signs(func(s *signer) { s.payload = "UNSIGNED-PAYLOAD" }), nil,
			unsigned(http.StatusBadRequest, "IncompleteSignature")),
		Entry("none", repels(httpSignature), sends(func(r *http.Request) { r.Header.Del("Authorization") }), nil,
			unsigned(http.StatusForbidden, "MissingAuthenticationToken")),
		Entry("scope of another region than was signed", repels(httpSignature, "sigv4"), sends(func(r *http.Request) {
			was := r.Header.Get("Authorization")
			r.Header.Set("Authorization", strings.Replace(was, "/us-east-1/", "/eu-west-1/", 1))
		}), signs(func(s *signer) { s.region, s.service = "eucalyptus", "odd" }),
			unsigned(http.StatusForbidden, "SignatureDoesNotMatch")),
		Entry("host that was not signed", repels(httpSignature, "sigv4"), sends(func(r *http.Request) {
			r.Host = "elsewhere.example.test"
		}), nil, unsigned(http.StatusForbidden, "SignatureDoesNotMatch")),
		Entry("token of another session", repels(httpSignature, "session-token"), change(func(d *draft) {
			d.keys.token = roleOf(world.theirs).token
		}), nil, unsigned(http.StatusForbidden, "InvalidClientTokenId")),
		Entry("token altered", repels(httpSignature), change(func(d *draft) {
			d.keys.token = d.keys.token[:len(d.keys.token)-4] + "AAAA"
		}), nil, unsigned(http.StatusForbidden, "InvalidClientTokenId")),
		Entry("no token", repels(httpSignature), change(func(d *draft) { d.keys.token = "" }), nil,
			unsigned(http.StatusForbidden, "InvalidClientTokenId")),
	)

	It("reads nothing out of how a denial is worded", repels(anotherLB), func() {
		texts := map[string]int{}
		for _, attack := range []change{
			func(d *draft) { d.arn = world.theirs.cert.ARN }, func(d *draft) { d.arn += "-not" },
			func(d *draft) { d.keys = roleOf(world.theirs) }, func(d *draft) { d.key = newECKey() },
			func(d *draft) { d.cert = []byte("no certificate") }, signedAt(-time.Hour),
			func(d *draft) { d.keys = rootKeys() },
		} {
			d := honest(world.mine)
			attack(d)
			texts[d.send().without()]++
		}
		Expect(texts).To(HaveLen(1))
		expectGranted(world.mine, honest(world.mine))
	})

	It("cannot have the answer wordier by asking in another way", repels(httpSignature), func() {
		d := honest(world.mine)
		d.path = "/"
		d.arn = world.theirs.cert.ARN
		a := expectRefused(d, because(keydelivery.ReasonPolicy))
		Expect(a.without()).To(Equal(notAuthorized))
		d = honest(world.mine)
		d.path = "/"
		expectGranted(world.mine, d)
	})

	It("that asks what another LBVM serves is refused", repels(anotherLB, "servo"), func() {
		d := honest(world.mine)
		describe := func(instance string) *answer {
			d.path = "/services/LoadBalancing/"
			return d.post(url.Values{"Action": {"DescribeLoadBalancersByServo"}, "Version": {"2012-06-01"},
				"InstanceId": {instance}})
		}
		before := look()
		a := describe(world.theirs.InstanceID)
		Expect(a.status).To(Equal(http.StatusForbidden), "%s", a)
		Expect(a.code).To(Equal("AccessDenied"))
		Expect(a.body).NotTo(ContainSubstring(world.theirs.cert.ARN))
		Expect(explained(a)).To(And(HaveField("Check", "servo"),
			HaveField("Reason", "the caller is not the instance that it names")))
		Expect(look()).To(Equal(before))
		a = describe(world.mine.InstanceID)
		Expect(a.status).To(Equal(http.StatusOK), "%s", a)
		Expect(a.body).To(ContainSubstring(world.mine.cert.ARN))
	})
})

func signs(f func(*signer)) change { return func(d *draft) { d.sign = f } }

func sends(f func(*http.Request)) change { return func(d *draft) { d.wire = f } }

func rootKeys() keys {
	GinkgoHelper()
	c, err := cloud.Config.Credentials.Retrieve(background())
	Expect(err).NotTo(HaveOccurred())
	return keys{c.AccessKeyID, c.SecretAccessKey, ""}
}

var users int

// userKeys are those of a new user who may do everything.
func userKeys() keys {
	GinkgoHelper()
	users++
	name := aws.String("thief-" + strconv.Itoa(users))
	_, err := cloud.IAM.CreateUser(background(), &iam.CreateUserInput{UserName: name})
	Expect(err).NotTo(HaveOccurred())
	_, err = cloud.IAM.PutUserPolicy(background(), &iam.PutUserPolicyInput{UserName: name, PolicyName: aws.String("all"),
		PolicyDocument: aws.String(everything)})
	Expect(err).NotTo(HaveOccurred())
	out, err := cloud.IAM.CreateAccessKey(background(), &iam.CreateAccessKeyInput{UserName: name})
	Expect(err).NotTo(HaveOccurred())
	return keys{*out.AccessKey.AccessKeyId, *out.AccessKey.SecretAccessKey, ""}
}

// roleSession is a session of a new role of the user's account that may do everything.
func roleSession(session string) keys {
	GinkgoHelper()
	user := userKeys()
	users++
	name := aws.String("thieves-" + strconv.Itoa(users))
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",` +
		`"Principal":{"AWS":"*"}}]}`
	role, err := cloud.IAM.CreateRole(background(), &iam.CreateRoleInput{RoleName: name,
		AssumeRolePolicyDocument: aws.String(trust)})
	Expect(err).NotTo(HaveOccurred())
	_, err = cloud.IAM.PutRolePolicy(background(), &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("all"),
		PolicyDocument: aws.String(everything)})
	Expect(err).NotTo(HaveOccurred())
	out, err := sts.NewFromConfig(cloud.As(user.id, user.secret, "")).AssumeRole(background(), &sts.AssumeRoleInput{
		RoleArn: role.Role.Arn, RoleSessionName: aws.String(session)})
	Expect(err).NotTo(HaveOccurred())
	c := out.Credentials
	return keys{*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken}
}
