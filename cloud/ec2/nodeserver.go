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
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

// credentialsTimeout bounds the making of a role session for a node.
const credentialsTimeout = 10 * time.Second

// NodeServer answers enrolled nodes. A node is who its verified NODECERT says, and only while that certificate is
// one that placement has for it.
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

// authenticate returns the calling node.
func (n *nodeServer) authenticate(ctx context.Context, call string) (nodelink.Peer, error) {
	peer, err := nodelink.NodeFrom(ctx)
	if err == nil {
		err = n.admit(ctx, peer, call)
	}
	return peer, err
}

// admit is check for a call that begins: a refusal goes into the journal.
func (n *nodeServer) admit(ctx context.Context, peer nodelink.Peer, call string) error {
	err := n.check(ctx, peer)
	if refused, ok := nodelink.RefusalOf(err); ok {
		n.s.record(ctx, "node.denied", peer.NodeID, map[string]string{
			"call": call, "reason": string(refused.Reason), "detail": refused.Detail, "serial": refused.Serial,
		})
	}
	return err
}

// check says whether the peer's NODECERT is still one that the node may use.
func (n *nodeServer) check(ctx context.Context, peer nodelink.Peer) error {
	err := n.s.cfg.Placement.Authenticate(ctx, peer.NodeID, peer.Certificate)
	if err == nil {
		return nil
	}
	if refused, ok := nodelink.RefusalOf(err); ok {
		return refused.GRPCStatus().Err()
	}
	if ctx.Err() != nil {
		return status.Error(codes.Aborted, fmt.Sprint(context.Cause(ctx)))
	}
	return status.Error(codes.Unavailable, "the cloud's store is not available")
}

// RoleCredentials gives the role's credentials of an instance to the node that it is placed on, and to no other.
func (n *nodeServer) RoleCredentials(ctx context.Context,
	in *nodelink.RoleCredentialsRequest) (*nodelink.RoleCredentialsResponse, error) {
	peer, err := n.authenticate(ctx, "RoleCredentials")
	if err != nil {
		return nil, err
	}
	e, err := n.ownInstance(ctx, peer.NodeID, in.GetInstanceId(), "RoleCredentials")
	if err != nil {
		return nil, err
	}
	if e.inst.RoleName == "" {
		return nil, status.Error(codes.NotFound, "the instance has no role")
	}
	if !journal.SameTrace(journal.Traceparent(ctx), e.inst.Trace) {
		ctx = journal.Join(ctx, e.inst.Trace)
	}
	ctx, cancel := context.WithTimeout(journal.Begin(ctx), credentialsTimeout)
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

// ownInstance returns an instance that the node runs. That it was asked for another is told.
func (n *nodeServer) ownInstance(ctx context.Context, nodeID, instanceID, call string) (*entry, error) {
	e, ok := n.s.view.get(instanceID)
	if ok && e.inst.NodeID == nodeID && e.inst.State.live() {
		return e, nil
	}
	reason := "the instance is not this node's"
	if ok && e.inst.NodeID == nodeID {
		reason = "the instance has ended"
	}
	n.s.record(ctx, "node.denied", nodeID, map[string]string{
		"call": call, "instance": bounded(instanceID, 64), "reason": reason,
	})
	return nil, status.Error(codes.PermissionDenied, "not an instance of this node")
}

// roleCredentials makes a session of the role that an instance's profile holds now.
func (s *Service) roleCredentials(ctx context.Context, inst *Instance) (iam.SessionCredentials, error) {
	profile, err := s.cfg.IAM.InstanceProfile(ctx, inst.profileAccount(), inst.ProfileName)
	if err != nil {
		return iam.SessionCredentials{}, err
	}
	if profile.ID != inst.ProfileID || profile.RoleName == "" || profile.RoleName != inst.RoleName {
		// The instance has not followed its profile: it was launched while that changed.
		if err := s.followProfile(ctx, inst); err != nil {
			return iam.SessionCredentials{}, err
		}
		return iam.SessionCredentials{}, model.Errorf("NoSuchEntity", http.StatusNotFound,
			"instance profile %s is not the one that the instance has, or holds another role", inst.ProfileName)
	}
	return s.cfg.IAM.InstanceCredentials(ctx, inst.profileAccount(), inst.RoleName, inst.ID)
}

// Sync holds a node's connection: its reports come in, what it shall run goes out. It ends at once when the node's
// NODECERT is no longer good.
func (n *nodeServer) Sync(stream nodelink.NodeLink_SyncServer) error {
	peer, err := nodelink.NodeFrom(stream.Context())
	if err != nil {
		return err
	}
	// Followed before it is authenticated: what changes from here on is not missed.
	changed, stopFollowing := n.s.cfg.Placement.Follow(peer.NodeID)
	defer stopFollowing()
	if err := n.admit(stream.Context(), peer, "Sync"); err != nil {
		return err
	}
	if n.s.ctx.Err() != nil {
		return errShuttingDown
	}
	nodeID := peer.NodeID
	ctx, done := n.s.sessions.begin(stream.Context(), nodeID)
	defer done()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if !first.GetFirst() {
		return status.Error(codes.InvalidArgument, "the first report must be marked first")
	}
	// Subscribed before the first report is worked in, for the same reason.
	sub, stop := n.s.view.subscribe(nodeID)
	defer stop()
	n.s.record(ctx, "node.connected", nodeID, connectedAttributes(ctx, peer))
	defer n.s.record(context.WithoutCancel(ctx), "node.disconnected", nodeID, nil)
	if err := n.take(ctx, peer, first); err != nil {
		return err
	}
	sender := &desiredSender{s: n.s, stream: stream, nodeID: nodeID, sent: map[string]uint64{}}
	if err := sender.snapshot(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	n.s.done.Go(func() { failed <- n.receive(ctx, stream, peer) })
	return n.tell(ctx, sender, peer, feeds{instances: sub, node: changed, failed: failed})
}

// connectedAttributes tell with which NODECERT a node connects and, if it says so, when it was started.
func connectedAttributes(ctx context.Context, peer nodelink.Peer) map[string]string {
	attributes := map[string]string{"serial": peer.Certificate.SerialNumber.Text(16)}
	if started, ok := nodelink.StartFrom(ctx); ok {
		attributes["started"] = started.Format(time.RFC3339Nano)
	}
	return attributes
}

// errShuttingDown ends connections with Close: a node tries again, perhaps with another process of the cloud.
var errShuttingDown = status.Error(codes.Unavailable, "the cloud is shutting down")

// feeds are what a connection's loop wakes for.
type feeds struct {
	instances *subscription
	node      <-chan struct{} // its record changed
	failed    <-chan error    // the other direction ended
}

// tell sends the node what changes until the connection ends.
func (n *nodeServer) tell(ctx context.Context, sender *desiredSender, peer nodelink.Peer, f feeds) error {
	for {
		var err error
		select {
		case <-f.instances.wake:
			err = sender.changes(f.instances.take())
		case <-f.node:
			if err = n.check(ctx, peer); err == nil {
				err = sender.renewal()
			}
		case err := <-f.failed:
			return err
		case <-ctx.Done():
			return status.Error(codes.Aborted, fmt.Sprint(context.Cause(ctx)))
		case <-n.s.ctx.Done():
			return errShuttingDown
		}
		if err != nil {
			return err
		}
	}
}

// receive works the node's reports in until the stream ends.
func (n *nodeServer) receive(ctx context.Context, stream nodelink.NodeLink_SyncServer, peer nodelink.Peer) error {
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
		// Another process of the cloud may have removed the node, and a NODECERT may end while it is in use.
		if err := n.check(ctx, peer); err != nil {
			return err
		}
		if err := n.take(ctx, peer, report); err != nil {
			return err
		}
	}
}

// take works one report in. One that could not be kept ends the connection; the node connects anew and tells everything
// again.
func (n *nodeServer) take(ctx context.Context, peer nodelink.Peer, report *nodelink.Report) error {
	err := n.s.handleReport(ctx, peer.NodeID, report)
	if err == nil {
		return nil
	}
	if errors.Is(err, placement.ErrNoNode) {
		if err := n.check(ctx, peer); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "the report could not be kept")
}

// desiredSender tells one node what it shall run.
type desiredSender struct {
	s      *Service
	stream nodelink.NodeLink_SyncServer
	nodeID string
	sent   map[string]uint64 // generation by instance
	asked  time.Time         // the last request to renew that the node was told of
}

func (d *desiredSender) snapshot() error {
	msg := &nodelink.Desired{Snapshot: true, Services: d.s.cfg.Services(), RenewCertificate: d.renewalDue()}
	for _, e := range d.s.view.onNode(d.nodeID) {
		if e.inst.State.live() {
			msg.Run = append(msg.Run, wireDesired(&e.inst, d.s.cfg.Region))
			d.sent[e.inst.ID] = e.inst.Generation
			if e.inst.State == Pending { // of the others the node knows
				d.s.recordMessage(d.stream.Context(), &e.inst, messageRun)
			}
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
				d.s.recordMessage(d.stream.Context(), &e.inst, messageRun)
			}
		case told:
			if ok {
				d.s.recordMessage(d.stream.Context(), &e.inst, messageRemove)
			}
			msg.Remove = append(msg.Remove, id)
			delete(d.sent, id)
		}
	}
	if len(msg.Run) == 0 && len(msg.Remove) == 0 {
		return nil
	}
	return d.stream.Send(msg)
}

// renewal tells the node to renew its NODECERT if the operator asked for that since the last time.
func (d *desiredSender) renewal() error {
	if !d.renewalDue() {
		return nil
	}
	return d.stream.Send(&nodelink.Desired{RenewCertificate: true})
}

func (d *desiredSender) renewalDue() bool {
	node, ok := d.s.cfg.Placement.Node(d.nodeID)
	if !ok || !node.RenewalAsked.After(d.asked) {
		return false
	}
	d.asked = node.RenewalAsked
	return true
}

// wireDesired is an instance as its node is told.
func wireDesired(i *Instance, region string) *nodelink.Instance {
	out := &nodelink.Instance{
		Id: i.ID, AccountId: i.AccountID, Image: i.ImageName, ImageDigest: i.ImageDigest, ImageId: i.ImageID,
		InstanceType: i.InstanceType, MemoryMb: clampUint32(i.MemoryMB), Vcpus: clampUint32(i.VCPUs),
		Mac: i.MAC, PrivateIp: i.PrivateIP, UserData: i.UserData,
		InstanceProfileArn: i.ProfileARN, InstanceProfileId: i.ProfileID, RoleName: i.RoleName,
		LaunchUnix: i.LaunchTime.Unix(), ReservationId: i.ReservationID, LaunchIndex: clampUint32(i.LaunchIndex),
		Region: region, AvailabilityZone: zoneOf(region), Tags: i.Tags, Generation: i.Generation, Traceparent: i.Trace,
		InstanceProfileUnix: unixOf(i.ProfileLink.Since), Reboots: i.Reboots,
		KeyName: i.KeyName, PublicKey: i.PublicKey, PublicIp: i.PublicIP,
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
	if i.ProfileGone {
		out.InstanceProfileId = "" // an ARN alone: there was such a profile
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

// unixOf is 0 for no time.
func unixOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// clampUint32 converts a number that is small and not negative by construction.
func clampUint32(n int) uint32 {
	return uint32(min(max(n, 0), 1<<31-1))
}
