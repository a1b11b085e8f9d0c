// Package forks proves that copies of one template are told apart in everything that must differ, that a template holds
// no key, and that a node without a usable template starts its guests all the same. distinct_test.go has the first,
// secrets_test.go the second, faults_test.go the third.
package forks

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

func TestForks(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "forks")
}

const (
	many = 20
	host = "www.example.test"
	port = 8443
)

// The suite's cloud, whose node runs in this process, with load balancers that all serve one certificate. Its templates
// are made in this run, when its keys are there already.
var (
	cloud     *twin.Twin
	cert      *twin.Certificate
	templates string
	media     *leakscan.Media
	forks     []*fork
)

// fork is a load balancer of the suite.
type fork struct {
	lb       *twin.LoadBalancer
	client   *twin.Client
	instance string
	frames   *frames
}

var _ = twin.CheckMode()

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = BeforeSuite(func(ctx context.Context) {
	cloud = twin.StartCloud()
	cert = cloud.Upload(pki.P256, host)
	templates = filepath.Join(GinkgoT().TempDir(), "templates")
	var err error
	media, err = leakscan.WatchMedia(filepath.Join(local.Layout(cloud.NodeDir()).Media(), "media"))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(media.Close)
	watched := watch(ctx, cloud.StartNodeHere(templates).Network())
	for range many {
		f := &fork{lb: cloud.CreateLoadBalancer(nil, twin.HTTPS(port, cert.ARN))}
		f.client = f.lb.Listener(port, cert.CA, host)
		forks = append(forks, f)
	}
	// The templates are made first, each by a cold boot, and then all are started at once.
	ready := 3 * cloud.BootTimeout()
	for _, f := range forks {
		Eventually(f.client).WithTimeout(ready).Should(twin.PresentCertificate(cert))
		f.instance = f.lb.Machine().ID
		f.frames = watched.of(f.instance)
	}
})

// milestone returns a guest's milestone from the journal.
func milestone(instance, stage string) journal.Event {
	GinkgoHelper()
	return find(func(ev journal.Event) bool {
		return ev.Kind == "guest.milestone" && ev.Subject == instance && ev.Attributes["stage"] == stage
	}, stage+" of "+instance)
}

// launch is when the cloud launched an instance.
func launch(instance string) journal.Event {
	GinkgoHelper()
	return find(func(ev journal.Event) bool {
		return ev.Kind == "instance.state" && ev.Subject == instance && ev.Attributes["state"] == "pending"
	}, "launch of "+instance)
}

// delivery returns the delivery that was granted to an LBVM.
func delivery(instance string) journal.Event {
	GinkgoHelper()
	return find(func(ev journal.Event) bool {
		return ev.Kind == "delivery.granted" && (ev.Subject == instance || ev.Attributes["instance"] == instance)
	}, "delivery to "+instance)
}

func find(wanted func(journal.Event) bool, what string) journal.Event {
	GinkgoHelper()
	events, err := cloud.Events()
	Expect(err).NotTo(HaveOccurred())
	for _, ev := range events {
		if wanted(ev) {
			return ev
		}
	}
	Fail("the journal tells of no " + what)
	return journal.Event{}
}

// templateFolders are those of the suite's templates.
func templateFolders(dir string) []string {
	GinkgoHelper()
	notes, err := filepath.Glob(filepath.Join(dir, "[0-9a-f]*", "template.json"))
	Expect(err).NotTo(HaveOccurred())
	var folders []string
	for _, note := range notes {
		folders = append(folders, filepath.Dir(note))
	}
	return folders
}

// modified is when a file was written.
func modified(path string) int64 {
	GinkgoHelper()
	info, err := os.Stat(path)
	Expect(err).NotTo(HaveOccurred())
	return info.ModTime().UnixNano()
}
