package ec2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

// credentialsTimeout bounds the making of a role session for a node.
const credentialsTimeout = 10 * time.Second

// NodeServer answers enrolled nodes. A node is who its verified NODECERT says, and only while that certificate is
// the one that placement has for it.
func (s *Service) NodeServer() nodelink.NodeLinkServer { return &nodeServer{s: s} }

type nodeServer struct {
	nodelink.UnimplementedNodeLinkServer
	s *Service
}

// sessions knows each node's open Sync, so that a new one ends the one before: after a node was killed, the cloud
// may see its successor before it sees the connection's end.
type sessions struct {
	mu   sync.Mutex
	open map[string]*session
}

type session struct{ cancel context.CancelCauseFunc }

var errSuperseded = errors.New("the node connected anew")

func (s *sessions) init() { s.open = map[string]*session{} }

// begin registers a session; the returned function ends it.
func (s *sessions) begin(ctx context.Context, nodeID string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	own := &session{cancel: cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.open[nodeID]; old != nil {
		old.cancel(errSuperseded)
	}
	s.open[nodeID] = own
	return ctx, func() {
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[nodeID] == own {
			delete(s.open, nodeID)
		}
	}
}

// authenticate returns the calling node's id.
func (n *nodeServer) authenticate(ctx context.Context) (string, error) {
	peer, err := nodelink.NodeFrom(ctx)
	if err != nil {
		return "", err
	}
	err = n.s.cfg.Placement.Authenticate(ctx, peer.NodeID, peer.Certificate)
	switch {
	case err == nil:
		return peer.NodeID, nil
	case errors.Is(err, placement.ErrNoNode), errors.Is(err, placement.ErrNotCurrent):
		n.s.record(ctx, "node.denied", peer.NodeID, map[string]string{"call": "connect", "reason": err.Error()})
		return "", status.Error(codes.PermissionDenied, "the node's certificate is not one that is in use")
	default:
		return "", status.Error(codes.Unavailable, "the cloud's store is not available")
	}
}

// RoleCredentials gives the role's credentials of an instance to the node that it is placed on, and to no other.
func (n *nodeServer) RoleCredentials(ctx context.Context,
	in *nodelink.RoleCredentialsRequest) (*nodelink.RoleCredentialsResponse, error) {
	nodeID, err := n.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	e, ok := n.s.view.get(in.GetInstanceId())
	if !ok || e.inst.NodeID != nodeID || !e.inst.State.live() {
		reason := "the instance is not this node's"
		if ok && e.inst.NodeID == nodeID {
			reason = "the instance has ended"
		}
		n.s.record(ctx, "node.denied", nodeID, map[string]string{
			"call": "RoleCredentials", "instance": bounded(in.GetInstanceId(), 64), "reason": reason,
		})
		return nil, status.Error(codes.PermissionDenied, "not an instance of this node")
	}
	if e.inst.RoleName == "" {
		return nil, status.Error(codes.NotFound, "the instance has no role")
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	creds, err := n.s.roleCredentials(ctx, &e.inst)
	if err != nil {
		n.s.record(ctx, "node.credentials_refused", e.inst.ID,
			map[string]string{"role": e.inst.RoleName, "reason": err.Error()})
		return nil, credentialsError(err)
	}
	return &nodelink.RoleCredentialsResponse{
		AccessKeyId: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, Token: creds.Token,
		LastUpdatedUnix: creds.LastUpdated.Unix(), ExpirationUnix: creds.Expiration.Unix(),
	}, nil
}

// roleCredentials makes a session of an instance's role. An instance keeps to the profile that it was launched with:
// one that was made later under the same name is not its own.
func (s *Service) roleCredentials(ctx context.Context, inst *Instance) (iam.SessionCredentials, error) {
	profile, err := s.cfg.IAM.InstanceProfile(ctx, inst.AccountID, inst.ProfileName)
	if err != nil {
		return iam.SessionCredentials{}, err
	}
	if profile.ID != inst.ProfileID {
		return iam.SessionCredentials{}, model.Errorf("NoSuchEntity", http.StatusNotFound,
			"instance profile %s is not the one that the instance was launched with", inst.ProfileName)
	}
	return s.cfg.IAM.InstanceCredentials(ctx, inst.AccountID, inst.RoleName, inst.ID)
}

// Sync holds a node's connection: its reports come in, what it shall run goes out.
func (n *nodeServer) Sync(stream nodelink.NodeLink_SyncServer) error {
	nodeID, err := n.authenticate(stream.Context())
	if err != nil {
		return err
	}
	ctx, done := n.s.sessions.begin(stream.Context(), nodeID)
	defer done()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if !first.GetFirst() {
		return status.Error(codes.InvalidArgument, "the first report must be marked first")
	}
	// Subscribed before the first report is worked in: what changes from here on is not missed.
	sub, stop := n.s.view.subscribe(nodeID)
	defer stop()
	n.s.record(ctx, "node.connected", nodeID, nil)
	defer n.s.record(context.WithoutCancel(ctx), "node.disconnected", nodeID, nil)
	if err := n.s.handleReport(ctx, nodeID, first); err != nil {
		return reportError(err)
	}
	sender := &desiredSender{s: n.s, stream: stream, nodeID: nodeID, sent: map[string]uint64{}}
	if err := sender.snapshot(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	n.s.done.Go(func() { failed <- n.receive(ctx, stream, nodeID) })
	for {
		select {
		case <-sub.wake:
			if err := sender.changes(sub.take()); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return status.Error(codes.Aborted, fmt.Sprint(context.Cause(ctx)))
		case <-n.s.ctx.Done():
			return status.Error(codes.Unavailable, "the cloud is shutting down")
		}
	}
}

// receive works the node's reports in until the stream ends.
func (n *nodeServer) receive(ctx context.Context, stream nodelink.NodeLink_SyncServer, nodeID string) error {
	for {
		report, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return status.Error(codes.Aborted, "superseded")
		}
		if err := n.s.handleReport(ctx, nodeID, report); err != nil {
			return reportError(err)
		}
	}
}

// reportError ends a connection whose report could not be kept; the node connects anew and tells everything again.
func reportError(err error) error {
	if errors.Is(err, placement.ErrNoNode) {
		return status.Error(codes.PermissionDenied, "the node was removed")
	}
	return status.Error(codes.Unavailable, "the report could not be kept")
}

// desiredSender tells one node what it shall run.
type desiredSender struct {
	s      *Service
	stream nodelink.NodeLink_SyncServer
	nodeID string
	sent   map[string]uint64 // generation by instance
}

func (d *desiredSender) snapshot() error {
	msg := &nodelink.Desired{Snapshot: true, Services: d.s.cfg.Services()}
	for _, e := range d.s.view.onNode(d.nodeID) {
		if e.inst.State.live() {
			msg.Run = append(msg.Run, wireDesired(&e.inst, d.s.cfg.Region))
			d.sent[e.inst.ID] = e.inst.Generation
		}
	}
	return d.stream.Send(msg)
}

func (d *desiredSender) changes(ids []string) error {
	msg := &nodelink.Desired{}
	for _, id := range ids {
		e, ok := d.s.view.get(id)
		generation, told := d.sent[id]
		switch {
		case ok && e.inst.NodeID == d.nodeID && e.inst.State.live():
			if !told || generation != e.inst.Generation {
				msg.Run = append(msg.Run, wireDesired(&e.inst, d.s.cfg.Region))
				d.sent[id] = e.inst.Generation
			}
		case told:
			msg.Remove = append(msg.Remove, id)
			delete(d.sent, id)
		}
	}
	if len(msg.Run) == 0 && len(msg.Remove) == 0 {
		return nil
	}
	return d.stream.Send(msg)
}

// wireDesired is an instance as its node is told.
func wireDesired(i *Instance, region string) *nodelink.Instance {
	out := &nodelink.Instance{
		Id: i.ID, AccountId: i.AccountID, Image: i.ImageName, ImageDigest: i.ImageDigest, ImageId: i.ImageID,
		InstanceType: i.InstanceType, MemoryMb: clampUint32(i.MemoryMB), Vcpus: clampUint32(i.VCPUs),
		Mac: i.MAC, PrivateIp: i.PrivateIP, UserData: i.UserData,
		InstanceProfileArn: i.ProfileARN, InstanceProfileId: i.ProfileID, RoleName: i.RoleName,
		LaunchUnix: i.LaunchTime.Unix(), ReservationId: i.ReservationID, LaunchIndex: clampUint32(i.LaunchIndex),
		Region: region, AvailabilityZone: zoneOf(region), Tags: i.Tags, Generation: i.Generation,
		Metadata: &nodelink.MetadataOptions{
			TokensRequired: i.Metadata.TokensRequired, Disabled: i.Metadata.Disabled,
			HopLimit: clampUint32(i.Metadata.HopLimit), Tags: i.Metadata.Tags,
		},
	}
	for _, e := range i.Exposures {
		out.Exposures = append(out.Exposures, &nodelink.Exposure{
			HostAddress: e.HostAddress, GuestPort: clampUint32(e.GuestPort),
		})
	}
	out.Credential = wireCredential(i.Credential)
	return out
}

func wireCredential(c *keydelivery.Credential) *nodelink.Credential {
	if c == nil {
		return nil
	}
	return &nodelink.Credential{
		SealedKey: c.SealedKey, SealedCert: c.SealedCert, IamCertPem: c.IAMCertPEM, Profile: clampUint32(int(c.Profile)),
	}
}

// clampUint32 converts a number that is small and not negative by construction.
func clampUint32(n int) uint32 {
	return uint32(min(max(n, 0), 1<<31-1))
}
