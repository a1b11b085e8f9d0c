package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("cloudtwin explain", func() {
	It("tells of the latest denial, or that there was none", func(ctx context.Context) {
		cloud := twin.StartCloud()
		lastDenied := func(args ...string) string {
			GinkgoHelper()
			code, stdout, stderr := cloud.Command(ctx, append([]string{"explain"}, args...)...)
			Expect(code).To(BeZero(), stderr)
			return stdout
		}
		Expect(lastDenied("--last-denied")).To(Equal("no request was denied\n"))

		By("denying a user who may do nothing")
		name := aws.String("nobody")
		_, err := cloud.IAM.CreateUser(ctx, &iam.CreateUserInput{UserName: name})
		Expect(err).NotTo(HaveOccurred())
		keys, err := cloud.IAM.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: name})
		Expect(err).NotTo(HaveOccurred())
		nobody := elasticloadbalancing.NewFromConfig(cloud.As(aws.ToString(keys.AccessKey.AccessKeyId),
			aws.ToString(keys.AccessKey.SecretAccessKey), ""))
		_, err = nobody.DescribeLoadBalancers(ctx, &elasticloadbalancing.DescribeLoadBalancersInput{})
		Expect(err).To(MatchError(ContainSubstring("AccessDenied")))
		Expect(lastDenied("--last-denied")).To(And(ContainSubstring("elasticloadbalancing:DescribeLoadBalancers"),
			ContainSubstring("user/nobody"), ContainSubstring("denied by   IAM policy"),
			ContainSubstring("the caller has none")))

		By("denying a delivery at its first check")
		id := unsigned(ctx, cloud.Endpoint())
		Expect(lastDenied("--last-denied")).To(And(ContainSubstring("request "+id),
			ContainSubstring("check 1 of a delivery"), ContainSubstring("MissingAuthenticationToken"),
			ContainSubstring("server-certificate/somebody"), ContainSubstring("would pass")))
		Expect(lastDenied(id)).To(Equal(lastDenied("--last-denied")))
		events, err := cloud.Events()
		Expect(err).NotTo(HaveOccurred())
		Expect(events).To(ContainElement(And(HaveField("Kind", "delivery.denied"),
			HaveField("Attributes", And(HaveKeyWithValue("check", "1"), HaveKeyWithValue("requestId", id))))))

		By("leaving what succeeds out")
		_, err = cloud.IAM.ListUsers(ctx, &iam.ListUsersInput{})
		Expect(err).NotTo(HaveOccurred())
		Expect(lastDenied("--last-denied")).To(ContainSubstring("request " + id))
	})

	It("takes a request's id or --last-denied, and says so", func(ctx context.Context) {
		for _, args := range [][]string{{}, {"one", "two"}, {"one", "--last-denied"}} {
			r := invoke(ctx, append([]string{"explain"}, args...)...)
			Expect(r.Code).To(Equal(2), r.Stderr)
			Expect(r.Stderr).To(ContainSubstring("--last-denied"))
		}
	})
})

// unsigned asks for a key without any signature, and returns the request's id.
func unsigned(ctx context.Context, endpoint string) string {
	GinkgoHelper()
	form := url.Values{"Action": {"DownloadServerCertificate"}, "Version": {"2010-05-08"},
		"CertificateArn": {"arn:aws:iam::123456789012:server-certificate/somebody"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", bytes.NewBufferString(form.Encode()))
	Expect(err).NotTo(HaveOccurred())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(r)
	Expect(err).NotTo(HaveOccurred())
	_, _ = io.Copy(io.Discard, answer.Body)
	Expect(answer.Body.Close()).To(Succeed())
	Expect(answer.StatusCode).To(Equal(http.StatusForbidden))
	return answer.Header.Get("x-amzn-RequestId")
}
