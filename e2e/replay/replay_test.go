package replay

import (
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	cloudec2 "github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

const (
	host       = "www.example.test"
	securePort = 8443
	// hidden is in user data, and must not be in any bundle.
	hidden = "hidden-in-user-data"
)

var _ = Describe("A recording of users and load balancers", Label(twin.NeedsSim), Ordered, func() {
	var (
		cloud *twin.Twin
		file  string
	)
	BeforeAll(func(ctx context.Context) {
		cloud = twin.Start(twin.Guests(node.GuestsSim))
		file = filepath.Join(GinkgoT().TempDir(), "bundle.zip")
		backend := startBackend(ctx, cloud)
		operateAs(ctx, cloud, "ann")
		cert := cloud.Upload(pki.P384, host)
		lb := cloud.CreateLoadBalancer([]string{backend}, twin.HTTPS(securePort, cert.ARN))
		Eventually(lb.Listener(securePort, cert.CA, host)).WithTimeout(cloud.BootTimeout()).
			Should(twin.PresentCertificate(cert))
		second := cloud.Upload(pki.P256, host)
		lb.SetCertificate(securePort, second.ARN)
		Eventually(lb.Listener(securePort, second.CA, host)).WithTimeout(twin.ChangeTimeout).
			Should(twin.PresentCertificate(second))
		_, err := cloud.ELB.DeleteLoadBalancer(ctx,
			&elasticloadbalancing.DeleteLoadBalancerInput{LoadBalancerName: aws.String("no-such-load-balancer")})
		Expect(err).NotTo(HaveOccurred())
		_, err = cloud.Bundle(ctx, file)
		Expect(err).NotTo(HaveOccurred())
	})
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	It("comes out the same on new guests", func(ctx context.Context) {
		got := play(ctx, 0, file)
		Expect(got.Same).To(BeTrue())
		Expect(got.Replayed.Calls).To(And(Equal(got.Recorded.Calls), BeNumerically(">", 10)))
		Expect(got.Tracks).To(BeNumerically(">", 8))
		Expect(got.NotPlayed).To(BeEmpty())
	})

	It("holds no user data", func(ctx context.Context) {
		text, err := exec.CommandContext(ctx, "unzip", "-p", file).Output()
		Expect(err).NotTo(HaveOccurred())
		for _, form := range []string{hidden, base64.StdEncoding.EncodeToString([]byte("port: 8081\n" + hidden))} {
			Expect(string(text)).NotTo(ContainSubstring(form))
		}
		Expect(string(text)).To(ContainSubstring("userDataBytes"))
	})

	It("stops where it is told to, with everything alive", func(ctx context.Context) {
		state, err := os.MkdirTemp("", "ctr")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(os.RemoveAll, state)
		cmd := exec.CommandContext(ctx, program, "replay", "--guests", "sim", "--state", state, "--until",
			"guest.milestone::listener="+strconv.Itoa(securePort), file)
		session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
		Eventually(session.Err).WithTimeout(cloud.BootTimeout()).Should(gbytes.Say("end it: Ctrl-C or 'cloudtwin down"))
		Expect(session.Out).To(gbytes.Say(`stopped   at event \d+`))
		entry := regexp.MustCompile(`cloudtwin console (i-[0-9a-f]+) --state ` + regexp.QuoteMeta(state))
		Expect(string(session.Err.Contents())).To(MatchRegexp(entry.String()))

		ps := run(ctx, "ps", "--state", state)
		Expect(ps.Code).To(BeZero(), ps.Stderr)
		Expect(ps.Stdout).To(ContainSubstring("lbvm"))
		down := run(ctx, "down", "--state", state)
		Expect(down.Code).To(BeZero(), down.Stderr)
		Eventually(session).WithTimeout(cloud.BootTimeout()).Should(gexec.Exit(0))
	})

	DescribeTable("is refused", func(ctx context.Context, says string, args ...string) {
		for i := range args {
			if args[i] == "BUNDLE" {
				args[i] = file
			}
		}
		r := run(ctx, append([]string{"replay"}, args...)...)
		Expect(r.Code).To(Equal(2), r.Stderr)
		Expect(r.Stderr).To(ContainSubstring(says))
	},
		Entry("without a file", "takes one argument"),
		Entry("when it is none", "not a bundle", "/etc/hostname"),
		Entry("with a speed that is none", "--speed \"0\"", "--speed", "0", "BUNDLE"),
		Entry("with an event that is not there", "no such event", "--until", "guest.milestone::stage=flying", "BUNDLE"),
		Entry("with flags that exclude each other", "--bisect plays many times", "--bisect", "--keep", "BUNDLE"),
		Entry("when nothing failed that could be bisected", "no failure in the recording", "--bisect", "BUNDLE"),
	)
})

// startBackend starts an instance that serves on a port which its user data name.
func startBackend(ctx context.Context, cloud *twin.Twin) string {
	GinkgoHelper()
	data := base64.StdEncoding.EncodeToString([]byte("port: 8081\n" + hidden))
	out, err := cloud.EC2.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(cloudec2.ImageID("web")),
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), UserData: &data})
	Expect(err).NotTo(HaveOccurred())
	id := aws.ToString(out.Instances[0].InstanceId)
	Eventually(cloud.Stage).WithContext(ctx).WithArguments(id).WithTimeout(cloud.BootTimeout()).Should(Equal("serving"))
	return id
}

// operateAs makes a user who may little, lets it try more, and gives it that.
func operateAs(ctx context.Context, cloud *twin.Twin, name string) {
	GinkgoHelper()
	_, err := cloud.IAM.CreateUser(ctx, &iam.CreateUserInput{UserName: &name})
	Expect(err).NotTo(HaveOccurred())
	made, err := cloud.IAM.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &name})
	Expect(err).NotTo(HaveOccurred())
	own := iam.NewFromConfig(cloud.As(aws.ToString(made.AccessKey.AccessKeyId),
		aws.ToString(made.AccessKey.SecretAccessKey), ""))
	_, err = own.ListUsers(ctx, &iam.ListUsersInput{})
	Expect(err).To(MatchError(ContainSubstring("AccessDenied")))
	_, err = cloud.IAM.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: aws.String("list"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[` +
			`{"Effect":"Allow","Action":"iam:List*","Resource":"*"}]}`)})
	Expect(err).NotTo(HaveOccurred())
	_, err = own.ListUsers(ctx, &iam.ListUsersInput{})
	Expect(err).NotTo(HaveOccurred())
	stranger := iam.NewFromConfig(cloud.As("AKIA0000000000000000", "no secret", ""))
	_, err = stranger.ListUsers(ctx, &iam.ListUsersInput{})
	Expect(err).To(MatchError(ContainSubstring("InvalidClientTokenId")))
}
