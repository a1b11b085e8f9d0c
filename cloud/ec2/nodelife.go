package ec2

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

// RenewCertificate gives the calling node its next NODECERT. A node can ask for its own name only: the name is that of
// the NODECERT with which it asks.
func (n *nodeServer) RenewCertificate(ctx context.Context,
	in *nodelink.RenewCertificateRequest) (*nodelink.RenewCertificateResponse, error) {
	peer, err := n.authenticate(ctx, "RenewCertificate")
	if err != nil {
		return nil, err
	}
	cert, err := n.s.cfg.Placement.Renew(ctx, peer.NodeID, peer.Certificate, in.GetCsrDer())
	if refused, ok := nodelink.RefusalOf(err); ok {
		return nil, refused.GRPCStatus().Err()
	}
	switch {
	case err == nil:
		return &nodelink.RenewCertificateResponse{
			NodeCertPem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		}, nil
	case errors.Is(err, placement.ErrRequest):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	default:
		return nil, status.Error(codes.Unavailable, "the cloud's store is not available")
	}
}

// RemoveNode takes a node out of the cloud and ends its instances: no answer comes from there any more. Their
// services launch others elsewhere. by and why are for the audit. It returns how many instances it ended;
// placement.ErrNoNode when there is no such node.
func (s *Service) RemoveNode(ctx context.Context, nodeID, by, why string) (ended int, err error) {
	ctx = context.WithoutCancel(ctx) // half of it is worth nothing
	err = s.cfg.Placement.Remove(ctx, nodeID, by, why)
	if errors.Is(err, placement.ErrNoNode) {
		return 0, err
	}
	if _, there := s.cfg.Placement.Node(nodeID); there {
		return 0, err
	}
	ended, endErr := s.endOn(ctx, nodeID, why)
	return ended, errors.Join(err, endErr)
}

// endOn ends the instances of a node that is gone. The store is asked, since the view may not have what another call
// has just launched; nothing is launched there any more.
func (s *Service) endOn(ctx context.Context, nodeID, why string) (ended int, err error) {
	all, err := s.instances.List(ctx, "")
	if err != nil {
		return 0, fmt.Errorf("list the instances of node %s: %w", nodeID, err)
	}
	reason := StateReason{Code: reasonServer, Message: "its node " + nodeID + " was removed"}
	if why != "" {
		reason.Message += ": " + why
	}
	var errs []error
	for i := range all {
		if all[i].NodeID != nodeID || all[i].State == Terminated {
			continue
		}
		if err := s.end(ctx, all[i].ID, reason); err != nil {
			errs = append(errs, fmt.Errorf("end instance %s of node %s: %w", all[i].ID, nodeID, err))
			continue
		}
		ended++
	}
	return ended, errors.Join(errs...)
}

// endOrphans ends instances whose node was removed by a process that did not live to end them.
func (s *Service) endOrphans(ctx context.Context) {
	seen := map[string]bool{}
	for _, e := range s.view.everything() {
		id := e.inst.NodeID
		if e.inst.State == Terminated || seen[id] {
			continue
		}
		seen[id] = true
		if _, ok := s.cfg.Placement.Node(id); ok {
			continue
		}
		if enrolled, err := s.cfg.Placement.Enrolled(ctx, id); err != nil || enrolled {
			continue
		}
		if _, err := s.endOn(ctx, id, ""); err != nil {
			s.record(ctx, "node.orphans_remain", id, map[string]string{"reason": err.Error()})
		}
	}
}
