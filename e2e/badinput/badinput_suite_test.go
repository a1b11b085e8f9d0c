// Package badinput proves that what is wrong is refused with AWS's own error code and a message that names the
// field, never with a 5xx, and that a refusal changes nothing: every spec compares all of the cloud's records before
// and after. It needs no guests. machine_test.go has the faults of the machine that the command line meets.
package badinput

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

func TestBadInput(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "bad input")
}

// The suite's cloud and its records.
var (
	records *twin.Records
	cloud   *twin.Twin
)

// What exists in the cloud before any spec.
const (
	host       = "www.example.test"
	accountARN = "arn:aws:iam::123456789012:"
	aUser      = "somebody"
	aBalancer  = "a-balancer" // on port 80 HTTP, on port 443 HTTPS with usedCert
	freeCert   = "free"
	usedCert   = "used"
	freeARN    = accountARN + "server-certificate/" + freeCert
	usedARN    = accountARN + "server-certificate/" + usedCert
)

var _ = BeforeSuite(func() {
	records = twin.StartRecords()
	cloud = twin.StartCloud(twin.Store(records.URL))
	cloud.UploadAs(freeCert, pki.P256, host)
	cloud.UploadAs(usedCert, pki.P256, host)
	expectDone(ask(iamService, "CreateUser", "UserName", aUser))
	By("refusing to run an instance as long as there is no node")
	expectRefused(run(), 400, "InsufficientInstanceCapacity", "no node is enrolled")
	expectDone(createBalancer(aBalancer).with(
		"Listeners.member.2.Protocol", "HTTPS", "Listeners.member.2.LoadBalancerPort", "443",
		"Listeners.member.2.InstancePort", "80", "Listeners.member.2.SSLCertificateId", usedARN))
	DeferCleanup(func() { expectDone(ask(elbService, "DeleteLoadBalancer", "LoadBalancerName", aBalancer)) })
	settle()
})

var _ = AfterSuite(func() {
	events, err := cloud.Events()
	Expect(err).NotTo(HaveOccurred())
	for _, ev := range events {
		Expect(ev.Attributes["status"]).NotTo(HavePrefix("5"), "answer to a request: %v", ev)
	}
})

var _ = It("A change is noticed by what these specs compare", func() {
	before := records.Snapshot()
	expectDone(ask(iamService, "UpdateUser", "UserName", aUser, "NewPath", "/path/"))
	Expect(records.Snapshot()).NotTo(Equal(before))
})

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

// settle gives the load balancer's VM a place, so that the cloud has nothing left to do by itself.
func settle() {
	GinkgoHelper()
	node := cloud.Impostor()
	Eventually(node.Instances).WithTimeout(twin.ChangeTimeout).Should(HaveLen(1))
	node.Claim(0)
	Eventually(records.Quiet).WithTimeout(twin.ChangeTimeout).Should(BeTrue())
}

// replica is a second control plane's IAM on the suite's records, whose clock is off.
func replica(off time.Duration) *iam.Service {
	GinkgoHelper()
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Endpoints: []string{records.URL}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(s.Close)
	service, err := iam.New(ctx, iam.Config{Store: s, RootKeyFile: filepath.Join(cloud.StateDir, "cloud", "root.key"),
		Clock: func() time.Time { return time.Now().Add(off) }})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(service.Close)
	return service
}
