package ec2

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// InstanceIdentity signs the identity document of an instance for the node that it is placed on, and for no other. The
// document is what the cloud knows; the node has no part in it.
func (n *nodeServer) InstanceIdentity(ctx context.Context,
	in *nodelink.InstanceIdentityRequest) (*nodelink.InstanceIdentityResponse, error) {
	peer, err := n.authenticate(ctx, "InstanceIdentity")
	if err != nil {
		return nil, err
	}
	e, err := n.ownInstance(ctx, peer.NodeID, in.GetInstanceId(), "InstanceIdentity")
	if err != nil {
		return nil, err
	}
	if !journal.SameTrace(journal.Traceparent(ctx), e.inst.Trace) {
		ctx = journal.Join(ctx, e.inst.Trace)
	}
	ctx, cancel := context.WithTimeout(journal.Begin(ctx), credentialsTimeout)
	defer cancel()
	document, err := e.inst.identityDocument(n.s.cfg.Region)
	if err != nil {
		return nil, status.Error(codes.Internal, "the document cannot be encoded")
	}
	signed, err := n.s.documents.sign(ctx, document)
	if err == nil {
		return signed, nil
	}
	n.s.record(ctx, "node.identity_unsigned", e.inst.ID, map[string]string{"reason": err.Error()})
	if errors.Is(err, errUnsigned) {
		return nil, status.Error(codes.FailedPrecondition, errUnsigned.Error())
	}
	return nil, status.Error(codes.Unavailable, "the document cannot be signed now")
}
