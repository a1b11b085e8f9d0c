package twin

import (
	"cmp"
	"context"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

// StartNodeHere starts the twin's node in the suite's own process, whose network a spec can then capture. libvirt takes
// one folder a process, so a suite can do it for one twin. templates is the folder of what forks are copies of; empty
// means the one that all share.
func (t *Twin) StartNodeHere(templates string) *local.Node {
	ginkgo.GinkgoHelper()
	ctx, begun := context.Background(), time.Now()
	status, err := t.Operator.Status(ctx)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	token, err := t.Operator.NewNodeToken(ctx)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	t.watchMedia()
	if t.lease == nil {
		t.lease = t.admit(nodeID)
	}
	n, err := local.StartNode(ctx, local.NodeConfig{
		Layout: local.Layout(t.NodeDir()), Images: cmp.Or(t.images, local.DefaultImages()), ID: nodeID,
		MemoryMB: t.shareOf().MemoryMB, Cloud: status.NodeLink, Token: token,
		Guests: local.Guests{Mode: t.Mode, Templates: templates},
	})
	ExpectMachine(err, "start a node in this process")
	t.here = n
	ginkgo.DeferCleanup(n.Close)
	ginkgo.DeferCleanup(t.searchNode, "", t.NodeDir(), 0) // before: its guests end with it
	t.awaitNode(begun, n.Done())
	return n
}
