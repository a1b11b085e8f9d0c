// Package original runs a cloud for load-balancer guests that are not its own: an image registered as delivery profile
// 1, whose guests speak the original's protocol with code that shares nothing with the product (package stock), and the
// same protocol by openssl and curl.
package original

import (
	"context"
	"os/exec"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestOriginal(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "original")
}

const (
	host = "www.example.test"
	port = 8443
)

var (
	cloud  *twin.Twin
	images string
)

var _ = twin.CheckMode()

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = BeforeSuite(func(ctx context.Context) {
	images = twin.BuildImages(map[string]string{
		"lbvm": "github.com/cloudtwin/cloudtwin/e2e/original/guest", "web": ""})
	out, err := exec.CommandContext(ctx, twin.Program(), "image", "register", "lbvm", "--delivery-profile", "1",
		"--images", images).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "register the image: %s", out)
	cloud = twin.Start(twin.Images(images), twin.CloudFlags("--min-delivery-profile", "1"))
})
