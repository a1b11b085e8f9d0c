package threats

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	cloudec2 "github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

const systemAccount = "000000000001"

// roleName is that of a party's load balancer.
func (p *party) roleName() string { return "loadbalancer-vm-123456789012-" + p.lb.Name }

func (p *party) listen(arn string) {
	GinkgoHelper()
	_, err := cloud.ELB.CreateLoadBalancerListeners(background(), &elb.CreateLoadBalancerListenersInput{
		LoadBalancerName: aws.String(p.lb.Name), Listeners: []elbtypes.Listener{twin.HTTPS(tlsPort, arn)}})
	Expect(err).NotTo(HaveOccurred())
}

// naming is an honest request for another ARN than the party's first.
func naming(p *party, cert *twin.Certificate) (*party, *draft) {
	GinkgoHelper()
	other := &party{Guest: p.Guest, lb: p.lb, cert: cert}
	return other, honest(other)
}

// replica is a second control plane's IAM on the suite's records: what it writes is there for the cloud as well.
func replica() *iam.Service {
	GinkgoHelper()
	s, err := store.Open(background(), store.Config{Endpoints: []string{records.URL}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(s.Close)
	service, err := iam.New(background(), iam.Config{Store: s,
		RootKeyFile: filepath.Join(cloud.StateDir, "cloud", "root.key")})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(service.Close)
	return service
}

var _ = Describe("A grant", Label(twin.NeedsSim), func() {
	var thief keys // a user's who may do everything

	It("goes with the certificate that a listener no longer names", repels(grantRemoved, "policy", "withdraw"), func() {
		p := newParty()
		next := cloud.Upload(pki.P256, host)
		expectGranted(p, honest(p))
		p.lb.SetCertificate(tlsPort, next.ARN)
		settle()
		expectRefused(honest(p), because(keydelivery.ReasonPolicy))
		other, request := naming(p, next)
		expectGranted(other, request)
		By("granting the first once the listener names it again")
		p.lb.SetCertificate(tlsPort, p.cert.ARN)
		expectGranted(p, honest(p))
	})

	It("goes with its listener", repels(listenerRemoved, "policy", "withdraw"), func() {
		p := newParty()
		expectGranted(p, honest(p))
		p.lb.DeleteListener(tlsPort)
		settle()
		expectRefused(honest(p), because(keydelivery.ReasonPolicy))
		By("granting it once there is a listener again")
		p.listen(p.cert.ARN)
		expectGranted(p, honest(p))
	})

	It("goes with its load balancer, and so does the role", repels(listenerRemoved), func() {
		p := newParty()
		expectGranted(p, honest(p))
		_, err := cloud.ELB.DeleteLoadBalancer(background(),
			&elb.DeleteLoadBalancerInput{LoadBalancerName: aws.String(p.lb.Name)})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() string { return honest(p).send().code }).WithTimeout(twin.ChangeTimeout).
			Should(Equal("InvalidClientTokenId"))
		settle()
		expectRefused(honest(p), unsigned(http.StatusForbidden, "InvalidClientTokenId"))
		expectGranted(world.mine, honest(world.mine))
	})

	It("does not outlive the certificate, whatever has its name afterwards", repels(grantRemoved, "policy"), func() {
		p := newParty()
		expectGranted(p, honest(p))
		p.lb.DeleteListener(tlsPort)
		Expect(cloud.DeleteCertificate(p.cert.Name)).To(Succeed())
		settle()
		expectRefused(honest(p), because(keydelivery.ReasonPolicy))
		again := cloud.UploadAs(p.cert.Name, pki.P256, host)
		Expect(again.ARN).To(Equal(p.cert.ARN))
		settle()
		expectRefused(honest(p), because(keydelivery.ReasonPolicy))
		By("granting the new key to a listener that names it")
		p.listen(again.ARN)
		other, request := naming(p, again)
		expectGranted(other, request)
	})

	It("of a certificate that is not there opens nothing", repels(grantRemoved, "exists"), func() {
		p := newParty()
		missing := p.cert.ARN + "-not"
		attack := honest(p)
		attack.arn = missing
		expectRefused(attack, because(keydelivery.ReasonPolicy))
		// Nothing but the cloud itself grants what is not there.
		Expect(replica().PutServiceRolePolicy(background(), systemAccount, p.roleName(), "left-over",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:DownloadServerCertificate",`+
				`"Resource":"`+missing+`"}]}`)).To(Succeed())
		settle()
		Eventually(func() string {
			d := honest(p)
			d.arn = missing
			return d.send().code
		}).WithTimeout(reaction).Should(Equal("NoSuchEntity"))
		attack = honest(p)
		attack.arn = missing
		a := expectRefused(attack, because(keydelivery.ReasonNoSuchCertificate))
		Expect(a.message).To(Equal("Server certificate " + missing + " cannot be found."))
		expectGranted(p, honest(p))
	})

	DescribeTable(
		"is not a user's to give",
		func(give func(p *party) error, code string) {
			thief = userKeys()
			settle()
			before := look()
			err := give(world.mine)
			var fault smithy.APIError
			Expect(errorAs(err, &fault)).To(BeTrue(), "%v", err)
			Expect(fault.ErrorCode()).To(Equal(code))
			Expect(look()).To(Equal(before))
			other := honest(world.mine)
			other.arn = world.theirs.cert.ARN
			expectRefused(other, because(keydelivery.ReasonPolicy))
			expectGranted(world.mine, honest(world.mine))
		},
		Entry("by a policy in the role", repels(grantByUser), func(p *party) error {
			_, err := cloud.IAM.PutRolePolicy(background(), &awsiam.PutRolePolicyInput{RoleName: aws.String(p.roleName()),
				PolicyName: aws.String("all"), PolicyDocument: aws.String(everything)})
			return err
		}, "NoSuchEntity"),
		Entry("by the trust in the role", repels(grantByUser), func(p *party) error {
			_, err := cloud.IAM.UpdateAssumeRolePolicy(background(), &awsiam.UpdateAssumeRolePolicyInput{
				RoleName: aws.String(p.roleName()), PolicyDocument: aws.String(
					`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*"}]}`)})
			return err
		}, "NoSuchEntity"),
		Entry("by assuming the role", repels(grantByUser, "assume"), func(p *party) error {
			_, err := sts.NewFromConfig(cloud.As(thief.id, thief.secret, "")).AssumeRole(background(), &sts.AssumeRoleInput{
				RoleArn:         aws.String("arn:aws:iam::" + systemAccount + ":role/internal/loadbalancer/" + p.roleName()),
				RoleSessionName: aws.String(p.InstanceID)})
			return err
		}, "AccessDenied"),
		Entry("by launching an instance with it", repels(grantByUser), func(p *party) error {
			_, err := cloud.EC2.RunInstances(background(), &ec2.RunInstancesInput{
				ImageId: aws.String(cloudec2.ImageID("web")), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
				IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Arn: aws.String("arn:aws:iam::" +
					systemAccount + ":instance-profile/internal/loadbalancer/" + p.roleName())}})
			return err
		}, "InvalidParameterValue"),
	)

	It("to a user's own role is no LBVM's", repels(notAnLBVM, "system-account"), func() {
		name := aws.String("own-" + strings.ToLower(world.mine.lb.Name))
		_, err := cloud.IAM.CreateRole(background(), &awsiam.CreateRoleInput{RoleName: name,
			AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` +
				`"Action":"sts:AssumeRole","Principal":{"Service":"ec2.amazonaws.com"}}]}`)})
		Expect(err).NotTo(HaveOccurred())
		_, err = cloud.IAM.PutRolePolicy(background(), &awsiam.PutRolePolicyInput{RoleName: name,
			PolicyName: aws.String("all"), PolicyDocument: aws.String(everything)})
		Expect(err).NotTo(HaveOccurred())
		_, err = cloud.IAM.CreateInstanceProfile(background(), &awsiam.CreateInstanceProfileInput{InstanceProfileName: name})
		Expect(err).NotTo(HaveOccurred())
		_, err = cloud.IAM.AddRoleToInstanceProfile(background(), &awsiam.AddRoleToInstanceProfileInput{
			InstanceProfileName: name, RoleName: name})
		Expect(err).NotTo(HaveOccurred())
		out, err := cloud.EC2.RunInstances(background(), &ec2.RunInstancesInput{
			ImageId: aws.String(cloudec2.ImageID("web")), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: name}})
		Expect(err).NotTo(HaveOccurred())
		id := *out.Instances[0].InstanceId
		DeferCleanup(settle)
		DeferCleanup(cloud.Terminate, id)
		role := world.node.RoleCredentials(id)
		settle()
		// A role session of an instance, made by the cloud for a node, of a role that may do everything.
		d := honest(world.mine)
		d.keys = keys{role.GetAccessKeyId(), role.GetSecretAccessKey(), role.GetToken()}
		expectRefused(d, because(keydelivery.ReasonNotRoleSession))
		By("taking the same credentials for what the user's account may do")
		who := d.post(url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}})
		Expect(who.status).To(Equal(http.StatusOK), "%s", who)
		expectGranted(world.mine, honest(world.mine))
	})
})

var _ = Describe("The keyword", Label(twin.NeedsSim), func() {
	It("is plain user data in a user's launch", repels(keywordByUser, "keyword"), func() {
		text := string(keydelivery.WithKeyword(1, []byte("hello")))
		out, err := cloud.EC2.RunInstances(background(), &ec2.RunInstancesInput{
			ImageId: aws.String(cloudec2.ImageID("web")), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			UserData: aws.String(base64Of(text))})
		Expect(err).NotTo(HaveOccurred())
		id := *out.Instances[0].InstanceId
		DeferCleanup(settle)
		DeferCleanup(cloud.Terminate, id)
		Eventually(world.node.Instances).WithTimeout(twin.ChangeTimeout).Should(HaveKey(id))
		sent := world.node.Instances()[id]
		Expect(sent.GetCredential()).To(BeNil())
		Expect(string(sent.GetUserData())).To(Equal(text))
		By("sending one to the LBVM whose launch has it")
		Expect(world.node.Instances()[world.mine.InstanceID].GetCredential()).NotTo(BeNil())
		Expect(string(world.node.Instances()[world.mine.InstanceID].GetUserData())).NotTo(
			ContainSubstring(keydelivery.Keyword))
	})
})

var _ = Describe("A request larger than any", Label(twin.NeedsSim), func() {
	It("is refused before it is looked at", repels(oversize, "body-limit", "header-limit"), func() {
		d := honest(world.mine)
		form := d.fields()
		form.Set("Padding", strings.Repeat("x", 2<<20))
		expectUnchanged(func() *answer { return d.post(form) },
			unread(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge"))
		By("ending one whose headers are too large before there is a request that could be explained")
		before := look()
		d.wire = func(r *http.Request) { r.Header.Set("X-Padding", strings.Repeat("x", 100<<10)) }
		Expect(d.send().status).To(Equal(http.StatusRequestHeaderFieldsTooLarge))
		Expect(look()).To(Equal(before))
		d = honest(world.mine)
		form = d.fields()
		By("giving an ARN twice")
		form.Add("CertificateArn", world.theirs.cert.ARN)
		expectUnchanged(func() *answer { return d.post(form) }, unread(http.StatusBadRequest, "MalformedQueryString"))
		form.Del("CertificateArn")
		form.Set("CertificateArn", d.arn)
		form.Set("Padding", strings.Repeat("x", 100<<10))
		expectOpens(world.mine, d, d.post(form))
	})
})
