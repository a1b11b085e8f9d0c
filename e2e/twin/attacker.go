package twin

import (
	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// Tell sends the cloud what the impostor says of instances, its own and others'.
func (i *Impostor) Tell(statuses ...*nodelink.InstanceStatus) {
	ginkgo.GinkgoHelper()
	gomega.Expect(i.stream.Send(&nodelink.Report{Instances: statuses})).To(gomega.Succeed())
}

// Stay tells the cloud that the impostor lives, with so much room that every launch comes to it however many it has:
// a suite that keeps one for longer than the cloud waits for a sign of life does so now and then.
func (i *Impostor) Stay() {
	ginkgo.GinkgoHelper()
	report := i.report(roomy, false)
	report.Node.GuestMemoryPercent = 1
	gomega.Expect(i.stream.Send(report)).To(gomega.Succeed())
}

// ID is the impostor's name as a node.
func (i *Impostor) ID() string { return i.id }

// Endpoint is the base URL of the API.
func (t *Twin) Endpoint() string { return t.baseURL }

// NodeLink is the host:port at which nodes enrol and connect.
func (t *Twin) NodeLink() string {
	ginkgo.GinkgoHelper()
	return (&Impostor{twin: t}).nodeLink(ginkgo.GinkgoT().Context())
}

// Services are the cloud's endpoints as it tells them to its nodes.
func (i *Impostor) Services() *nodelink.Services {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.services
}
