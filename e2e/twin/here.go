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
	n, err := local.StartNode(ctx, local.NodeConfig{
		Layout: local.Layout(t.NodeDir()), Images: cmp.Or(t.images, local.DefaultImages()), ID: nodeID,
		Cloud: status.NodeLink, Token: token, Guests: local.Guests{Mode: t.Mode, Templates: templates},
	})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "start a node in this process")
	ginkgo.DeferCleanup(n.Close)
	t.awaitNode(begun, n.Done())
	return n
}
