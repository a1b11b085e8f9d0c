package original

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// download runs the script as a guest in a folder of its own, and returns what it said when it failed.
func download(ctx context.Context, endpoint string, guest *twin.Guest, arn string) (folder, said string, err error) {
	GinkgoHelper()
	folder = GinkgoT().TempDir()
	text := map[string]string{"iam_token": "NULL"}
	for name, value := range map[string][]byte{
		"instance_pk": guest.Identity.Key, "instance_pub_key": guest.Identity.CertPEM, "iam_pub_key": guest.IAMCert,
	} {
		text[name] = base64.StdEncoding.EncodeToString(value)
	}
	file, jsonErr := json.Marshal(text)
	Expect(jsonErr).NotTo(HaveOccurred())
	credential := filepath.Join(folder, "credential")
	Expect(os.WriteFile(credential, file, 0o600)).To(Succeed())
	script, pathErr := filepath.Abs("testdata/servo.sh")
	Expect(pathErr).NotTo(HaveOccurred())
	cmd := exec.CommandContext(ctx, script, credential, arn, endpoint+"/services/Euare/", folder)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+guest.Role.GetAccessKeyId(),
		"AWS_SECRET_ACCESS_KEY="+guest.Role.GetSecretAccessKey(), "AWS_SESSION_TOKEN="+guest.Role.GetToken())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	err = cmd.Run()
	return folder, errs.String(), err
}

var _ = Describe("openssl and curl", func() {
	It("fetch a key as the original guest's script does, for its own load balancer alone", func(ctx context.Context) {
		// Without a node, so that the spec is every load-balancer VM.
		own := twin.StartCloud(twin.Images(images), twin.CloudFlags("--min-delivery-profile", "1"))
		endpoint, impostor := aws.ToString(own.Config.BaseEndpoint), own.Impostor()
		for _, algorithm := range []pki.Algorithm{pki.RSA2048, pki.P256} {
			mine, theirs := own.Upload(algorithm, host), own.Upload(algorithm, host)
			guest := impostor.LBVM(own.CreateLoadBalancer(nil, twin.HTTPS(port, mine.ARN)))

			folder, said, err := download(ctx, endpoint, guest, mine.ARN)
			Expect(err).NotTo(HaveOccurred(), said)
			_, err = tls.LoadX509KeyPair(filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem"))
			Expect(err).NotTo(HaveOccurred(), "certificate and key that came")
			key, err := os.ReadFile(filepath.Join(folder, "key.pem"))
			Expect(err).NotTo(HaveOccurred())
			Expect(bytes.TrimSpace(key)).To(Equal(bytes.TrimSpace(mine.KeyPEM)))

			folder, said, err = download(ctx, endpoint, guest, theirs.ARN)
			Expect(err).To(HaveOccurred())
			Expect(said).To(ContainSubstring("NotAuthorized"))
			Expect(filepath.Join(folder, "key.pem")).NotTo(BeAnExistingFile())
		}
	})
})
