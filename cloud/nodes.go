package cloud

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

// RemoveNode takes a node out of the cloud: its NODECERT opens nothing any more, and its instances end. elb launches
// others for its load balancers on the nodes that are left.
func (c *Cloud) RemoveNode(ctx context.Context, nodeID, reason string) (operator.NodeRemoval, error) {
	if err := errors.Join(nodelink.CheckNodeID(nodeID), ec2.CheckReason(reason)); err != nil {
		return operator.NodeRemoval{}, &operator.Refusal{Message: "remove node: " + err.Error()}
	}
	ended, err := c.ec2.RemoveNode(ctx, nodeID, operator.PeerFrom(ctx), reason)
	if err != nil {
		return operator.NodeRemoval{}, refuseNode(err)
	}
	removal := operator.NodeRemoval{NodeID: nodeID, Ended: ended}
	for _, n := range c.placement.Nodes() {
		if operatorNode(&n.Node).State == "up" {
			removal.Left++
		}
	}
	return removal, nil
}

// RenewNode has a node renew its NODECERT.
func (c *Cloud) RenewNode(ctx context.Context, nodeID string) (operator.Node, error) {
	if err := nodelink.CheckNodeID(nodeID); err != nil {
		return operator.Node{}, &operator.Refusal{Message: "renew the certificate of a node: " + err.Error()}
	}
	if err := c.placement.AskRenewal(ctx, nodeID); err != nil {
		return operator.Node{}, refuseNode(err)
	}
	node, ok := c.placement.Node(nodeID)
	if !ok {
		return operator.Node{}, refuseNode(fmt.Errorf("%w: %s", placement.ErrNoNode, nodeID))
	}
	return operatorNode(&node), nil
}

// refuseNode marks what is wrong with the request itself.
func refuseNode(err error) error {
	if errors.Is(err, placement.ErrNoNode) {
		err = fmt.Errorf("%w; 'cloudtwin ps' lists the nodes", err)
	}
	return refusal(err, placement.ErrNoNode)
}

// operatorNode is a node as its operator sees it.
func operatorNode(n *placement.Node) operator.Node {
	out := operator.Node{
		ID: n.ID, State: "up", Hypervisor: n.Status.Hypervisor, Accelerator: n.Status.Accelerator,
		MemoryMB: uint64(n.Status.MemoryMBTotal), MemoryFreeMB: uint64(n.Status.MemoryMBFree),
	}
	if n.Down || n.Status.MemoryMBTotal == 0 {
		out.State = "down"
	}
	if cert, err := x509.ParseCertificate(n.CertificateDER); err == nil {
		out.Certificate = operator.NodeCertificate{
			Serial: cert.SerialNumber.Text(16), NotAfter: cert.NotAfter,
			Renewing: !n.RenewalAsked.IsZero() || n.NextDER != nil,
		}
	}
	return out
}
