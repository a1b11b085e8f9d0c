package twin

import (
	"context"
	"net/url"
	"os"
	"slices"
	"syscall"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// Instance returns what the cloud says of an instance of any account.
func (t *Twin) Instance(ctx context.Context, id string) (operator.Instance, error) {
	return t.instance(ctx, id)
}

// EventsOf returns the journal's events of a kind about a subject, oldest first.
func (t *Twin) EventsOf(kind, subject string) ([]journal.Event, error) {
	events, err := t.Events()
	var found []journal.Event
	for _, ev := range events {
		if ev.Kind == kind && ev.Subject == subject {
			found = append(found, ev)
		}
	}
	return found, err
}

// Milestones returns the events that tell that a guest reached a stage, oldest first.
func (t *Twin) Milestones(instance, stage string) ([]journal.Event, error) {
	told, err := t.EventsOf("guest.milestone", instance)
	return slices.DeleteFunc(told, func(ev journal.Event) bool { return ev.Attributes["stage"] != stage }), err
}

// PauseCloud stops the cloud's process where it stands: connections to it hang, and nothing is decided any more. Nodes
// and guests go on. resume lets it go on; the spec's end does at the latest.
func (t *Twin) PauseCloud() (resume func()) {
	ginkgo.GinkgoHelper()
	gomega.Expect(t.cloud.signal(syscall.SIGSTOP)).To(gomega.Succeed())
	resume = func() {
		ginkgo.GinkgoHelper()
		gomega.Expect(t.cloud.signal(syscall.SIGCONT)).To(gomega.Succeed())
	}
	ginkgo.DeferCleanup(func() { _ = t.cloud.signal(syscall.SIGCONT) })
	return resume
}

// ReadConsole returns what a guest wrote so far, without asking the cloud.
func ReadConsole(path string) (string, error) {
	data, err := os.ReadFile(path)
	return string(data), err
}

// Renewed waits until the cloud has sent the impostor another credential for a guest than the one that it has, and
// returns the guest with that.
func (i *Impostor) Renewed(g *Guest) *Guest {
	ginkgo.GinkgoHelper()
	renewed := *g
	gomega.Eventually(func(g2 gomega.Gomega) {
		sent := i.Instances()[g.InstanceID].GetCredential()
		g2.Expect(sent).NotTo(gomega.BeNil())
		credential := keydelivery.Credential{SealedKey: sent.GetSealedKey(), SealedCert: sent.GetSealedCert(),
			IAMCertPEM: sent.GetIamCertPem(), Profile: keydelivery.Profile(sent.GetProfile())}
		identity, err := credential.Open(i.key, i.id, g.InstanceID)
		g2.Expect(err).NotTo(gomega.HaveOccurred())
		g2.Expect(string(identity.CertPEM)).NotTo(gomega.Equal(string(g.Identity.CertPEM)), "LBCERT of %s", g.InstanceID)
		renewed.Identity, renewed.IAMCert = identity, sent.GetIamCertPem()
	}).WithTimeout(ChangeTimeout).WithPolling(pollInterval).Should(gomega.Succeed(), "another credential")
	return &renewed
}

// SayRead tells the cloud that a guest has read the medium with its present credential, and that it was wiped.
func (i *Impostor) SayRead(g *Guest) { i.sayWiped(g, nodelink.WipedRead) }

// SayUnread tells the cloud that the medium with a guest's present credential was wiped, and that nobody had read it.
func (i *Impostor) SayUnread(g *Guest) { i.sayWiped(g, nodelink.WipedExpired) }

func (i *Impostor) sayWiped(g *Guest, reason string) {
	ginkgo.GinkgoHelper()
	status := &nodelink.InstanceStatus{InstanceId: g.InstanceID, State: "running",
		Milestones: []*nodelink.Milestone{{Stage: nodelink.StageMediumWiped, UnixNanos: time.Now().UnixNano(),
			Attributes: map[string]string{"source": "node", "reason": reason,
				"credential": i.Instances()[g.InstanceID].GetCredential().Fingerprint()}}}}
	gomega.Expect(i.stream.Send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{status}})).To(gomega.Succeed())
}

// Serial is the serial number of the guest's LBCERT in hexadecimal, as the audit has it.
func (g *Guest) Serial() string {
	ginkgo.GinkgoHelper()
	cert, err := g.Identity.Certificate()
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return cert.SerialNumber.Text(16)
}

// Describe asks what the guest is to serve, as its agent does.
func (g *Guest) Describe() *Attempt {
	ginkgo.GinkgoHelper()
	return g.send("/services/LoadBalancing/", url.Values{"Action": {servo.DescribeAction},
		"InstanceId": {g.InstanceID}, "Version": {"2012-06-01"}})
}
