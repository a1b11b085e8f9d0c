package cli

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("A running cloud", Label("vm"), Ordered, func() {
	var cloud *twin.Twin
	BeforeAll(func() { cloud = twin.Start() })
	twin.KeepEvidence(func() *twin.Twin { return cloud })

	// shell runs a script as a user would type it, after eval "$(cloudtwin env)".
	shell := func(ctx context.Context, script string) (string, error) {
		cmd := exec.CommandContext(
			ctx,
			"bash",
			"-euo",
			"pipefail",
			"-c",
			`eval "$("$PROGRAM" env --state "$STATE")"; `+script,
		)
		cmd.Env = append(cmd.Environ(), "PROGRAM="+program, "STATE="+cloud.StateDir)
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}

	It("answers the stock AWS command line", func(ctx context.Context) {
		out, err := shell(ctx, "aws sts get-caller-identity --query Arn --output text")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(Equal("arn:aws:iam::123456789012:root"))

		ca, err := pki.NewAuthority("test")
		Expect(err).NotTo(HaveOccurred())
		pair, err := ca.Server(pki.P256, "cli.example.test")
		Expect(err).NotTo(HaveOccurred())
		dir := GinkgoT().TempDir()
		Expect(writeFiles(dir, map[string][]byte{"cert.pem": pair.CertPEM, "key.pem": pair.KeyPEM})).To(Succeed())
		out, err = shell(ctx, `cd `+dir+`
			arn=$(aws iam upload-server-certificate --server-certificate-name cli --certificate-body file://cert.pem \
				--private-key file://key.pem --query ServerCertificateMetadata.Arn --output text)
			aws elb create-load-balancer --load-balancer-name cli --availability-zones us-east-1a --listeners \
				Protocol=HTTPS,LoadBalancerPort=8443,InstanceProtocol=HTTP,InstancePort=80,SSLCertificateId=$arn >/dev/null
			aws elb describe-load-balancers --output text \
				--query 'LoadBalancerDescriptions[].ListenerDescriptions[].Listener.SSLCertificateId'
			aws elb delete-load-balancer --load-balancer-name cli
			aws iam list-server-certificates --query 'ServerCertificateMetadataList[].ServerCertificateName' --output text
			aws ec2 describe-images --query 'Images[].Name' --output text`)
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(strings.Split(out, "\n")).To(HaveExactElements(
			"arn:aws:iam::123456789012:server-certificate/cli", "cli", ContainSubstring("web")))
	})

	It("answers boto3", func(ctx context.Context) {
		out, err := shell(ctx, `/usr/bin/python3 -c '
import boto3, os
url = os.environ["AWS_ENDPOINT_URL"]
print(boto3.client("iam", endpoint_url=url).list_users()["Users"])
print(boto3.client("elb", endpoint_url=url).describe_load_balancers()["ResponseMetadata"]["HTTPStatusCode"])
print(boto3.client("ec2", endpoint_url=url).describe_instances()["Reservations"])'`)
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(Equal("[]\n200\n[]"))
	})

	It("serves a page to curl --cacert, shows its guests and their consoles", func(ctx context.Context) {
		backend := cloud.Backends(1)
		cert := cloud.Upload(pki.P256, "www.example.test")
		lb := cloud.CreateLoadBalancer(backend, twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, "www.example.test")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())

		dir := GinkgoT().TempDir()
		Expect(writeFiles(dir, map[string][]byte{"ca.pem": cert.CA.PEM})).To(Succeed())
		out, err := shell(ctx, `curl -sS --fail --cacert `+filepath.Join(dir, "ca.pem")+` --resolve "www.example.test:8443:$(
			aws elb describe-load-balancers --query 'LoadBalancerDescriptions[0].DNSName' --output text)" \
			https://www.example.test:8443/`)
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(ContainSubstring(backend[0]))

		code, stdout, stderr := cloud.Command(ctx, "ps")
		Expect(code).To(BeZero(), stderr)
		status, err := lb.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(stdout).To(And(ContainSubstring(backend[0]), ContainSubstring(status.Instances[0]), ContainSubstring(lb.Name),
			ContainSubstring(status.DNSName+":8443")))
		code, stdout, stderr = cloud.Command(ctx, "console", "--follow=false", status.Instances[0])
		Expect(code).To(BeZero(), stderr)
		Expect(twin.Stages(stdout, "serving")).To(HaveLen(1))
		Expect(stdout).NotTo(ContainSubstring("PRIVATE KEY"))
	})
})
