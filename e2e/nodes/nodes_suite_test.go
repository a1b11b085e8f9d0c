// Package nodes proves the life of a node's identity: removal, renewal of its NODECERT, and what a node says when it
// cannot reach its cloud. Its guests are simulated but where a spec says otherwise; the nodes are processes of their
// own.
package nodes

import (
	"context"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/node"
)

func TestNodes(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "nodes")
}

// cloud is shared; each spec brings its nodes, so that no spec removes another's.
var cloud *twin.Twin

var _ = BeforeSuite(func() { cloud = twin.StartCloud(twin.Guests(node.GuestsSim)) })

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = twin.KeepInvariants(func() *twin.Twin { return cloud })

var _ = twin.CheckMode()

const host = "www.example.test"

// events are those of a kind in the journal, of one subject.
func events(of *twin.Twin, kind, subject string) []journal.Event {
	GinkgoHelper()
	all, err := of.Events()
	Expect(err).NotTo(HaveOccurred())
	var found []journal.Event
	for _, ev := range all {
		if ev.Kind == kind && ev.Subject == subject {
			found = append(found, ev)
		}
	}
	return found
}

// vm returns the one LBVM of a load balancer.
func vm(ctx context.Context, of *twin.Twin, lb *twin.LoadBalancer) operator.Instance {
	GinkgoHelper()
	instance, err := of.Instance(ctx, lb.Machine().ID)
	Expect(err).NotTo(HaveOccurred())
	return instance
}
