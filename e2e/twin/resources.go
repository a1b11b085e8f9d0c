package twin

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// Certificate is a server certificate that was uploaded.
type Certificate struct {
	*pki.Pair
	Name string
	ARN  string
	CA   *pki.Authority
}

// Upload makes a certificate for hostname and uploads it under a new name.
func (t *Twin) Upload(algorithm pki.Algorithm, hostname string) *Certificate {
	ginkgo.GinkgoHelper()
	return t.UploadAs(t.name("cert"), algorithm, hostname)
}

// UploadAs makes a certificate for hostname and uploads it under name.
func (t *Twin) UploadAs(name string, algorithm pki.Algorithm, hostname string) *Certificate {
	ginkgo.GinkgoHelper()
	ca, err := pki.NewAuthority(name + " CA")
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	pair, err := ca.Server(algorithm, hostname)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	out, err := t.IAM.UploadServerCertificate(context.Background(), &iam.UploadServerCertificateInput{
		ServerCertificateName: aws.String(name), CertificateBody: aws.String(string(pair.CertPEM)),
		PrivateKey: aws.String(string(pair.KeyPEM)), CertificateChain: aws.String(string(ca.PEM)),
	})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "upload certificate %s", name)
	t.keys.Add(aws.ToString(out.ServerCertificateMetadata.Arn), pair.KeyPEM)
	// An account has room for twenty. A spec that renamed its certificate has taken care of it.
	arn := aws.ToString(out.ServerCertificateMetadata.Arn)
	t.cleanup(func() {
		t.deleteLoadBalancersNaming(arn)
		err := t.DeleteCertificate(name)
		if _, gone := errors.AsType[*iamtypes.NoSuchEntityException](err); !gone {
			gomega.Expect(err).NotTo(gomega.HaveOccurred(), "delete certificate %s", name)
		}
	})
	return &Certificate{Pair: pair, Name: name, ARN: arn, CA: ca}
}

// RenameCertificate gives a certificate another name, and with it another ARN; listeners and grants follow. It is
// deleted after the spec, with the load balancers that name it.
func (t *Twin) RenameCertificate(name, to string) {
	ginkgo.GinkgoHelper()
	_, err := t.IAM.UpdateServerCertificate(context.Background(), &iam.UpdateServerCertificateInput{
		ServerCertificateName: aws.String(name), NewServerCertificateName: aws.String(to)})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "rename certificate %s", name)
	t.cleanup(func() {
		if out, err := t.IAM.GetServerCertificate(context.Background(),
			&iam.GetServerCertificateInput{ServerCertificateName: aws.String(to)}); err == nil {
			t.deleteLoadBalancersNaming(aws.ToString(out.ServerCertificate.ServerCertificateMetadata.Arn))
		}
		gomega.Expect(t.DeleteCertificate(to)).To(gomega.Succeed())
	})
}

// DeleteCertificate deletes a server certificate and returns the cloud's answer.
func (t *Twin) DeleteCertificate(name string) error {
	_, err := t.IAM.DeleteServerCertificate(context.Background(),
		&iam.DeleteServerCertificateInput{ServerCertificateName: aws.String(name)})
	return err
}

// Backends starts n web guests. Their pages' text is their name; they are terminated after the spec or suite.
func (t *Twin) Backends(n int) []string {
	ginkgo.GinkgoHelper()
	ctx := context.Background()
	images, err := t.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{})
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	at := slices.IndexFunc(images.Images, func(i ec2types.Image) bool { return aws.ToString(i.Name) == "web" })
	gomega.Expect(at).NotTo(gomega.Equal(-1), "no image is called web")
	ids := make([]string, n)
	for i := range ids {
		name := t.name("backend")
		out, err := t.EC2.RunInstances(ctx, &ec2.RunInstancesInput{
			ImageId: images.Images[at].ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(name))),
			TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance,
				Tags: []ec2types.Tag{{Key: aws.String("Name"), Value: aws.String(name)}}}},
		})
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), "run a backend")
		ids[i] = aws.ToString(out.Instances[0].InstanceId)
	}
	t.cleanup(func() {
		_, err := t.EC2.TerminateInstances(context.Background(), &ec2.TerminateInstancesInput{InstanceIds: ids})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
	})
	return ids
}

// Terminate terminates an instance of the first account.
func (t *Twin) Terminate(id string) {
	ginkgo.GinkgoHelper()
	_, err := t.EC2.TerminateInstances(context.Background(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "terminate %s", id)
}
