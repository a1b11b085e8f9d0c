package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// fakeNetwork remembers what is plugged in.
type fakeNetwork struct {
	mu       sync.Mutex
	attached map[string]vnet.PortConfig
	exposed  map[string]string
	forward  map[string]string
	busy     map[string]bool
	counts   map[string]vnet.Counters
}

// Stats counts frames for those that a test gave some.
func (n *fakeNetwork) Stats(id string) (vnet.Counters, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	counters, ok := n.counts[id]
	return counters, ok
}

func (n *fakeNetwork) count(id string, c vnet.Counters) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.counts == nil {
		n.counts = map[string]vnet.Counters{}
	}
	n.counts[id] = c
}

func newFakeNetwork() *fakeNetwork {
	return &fakeNetwork{
		attached: map[string]vnet.PortConfig{}, exposed: map[string]string{},
		forward: map[string]string{}, busy: map[string]bool{},
	}
}

func (n *fakeNetwork) Attach(_ context.Context, p vnet.PortConfig) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := p.Validate(); err != nil {
		return err
	}
	n.attached[p.InstanceID] = p
	return nil
}

func (n *fakeNetwork) Detach(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attached, id)
}

func (n *fakeNetwork) Expose(address, id string, port int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[address] {
		return errors.New("the port is busy")
	}
	n.exposed[address] = fmt.Sprintf("%s:%d", id, port)
	return nil
}

func (n *fakeNetwork) Unexpose(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.exposed, address)
}

func (n *fakeNetwork) Forward(addr netip.AddrPort, target string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forward[addr.String()] = target
}

func (n *fakeNetwork) exposures() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.exposed)
}

func (n *fakeNetwork) ports() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.attached))
}

// fakeCloud is the other end of nodelink. It remembers the last word on each instance.
type fakeCloud struct {
	mu       sync.Mutex
	away     bool
	refusal  error // of the NODECERT
	snapshot []*nodelink.Instance
	stream   *fakeStream
	syncs    int
	said     map[string]*nodelink.InstanceStatus
	stages   map[string][]string // as told: stage, or stage/reason for the node's own
	happened []*nodelink.Event   // as they came
	attrs    map[string]string   // of the node's own milestones: instance/stage/name
	reports  int                 // that came
	statuses int                 // of those with the node's status
	serve    int                 // guests that told that they serve
	firsts   [][]string          // instances of each first report
	roles    int
	signed   int
	roleErr  error
	roleEnd  time.Duration
}

func newFakeCloud() *fakeCloud {
	return &fakeCloud{
		said: map[string]*nodelink.InstanceStatus{}, stages: map[string][]string{}, attrs: map[string]string{},
		roleEnd: time.Hour,
	}
}

var errAway = status.Error(codes.Unavailable, "away")

func (c *fakeCloud) Sync(ctx context.Context, _ ...grpc.CallOption) (nodelink.NodeLink_SyncClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.syncs++
	if c.refusal != nil {
		return nil, c.refusal
	}
	if c.away {
		return nil, errAway
	}
	c.stream = &fakeStream{ctx: ctx, cloud: c, down: make(chan struct{}), out: make(chan *nodelink.Desired, 64)}
	return c.stream, nil
}

func (c *fakeCloud) RoleCredentials(context.Context, *nodelink.RoleCredentialsRequest,
	...grpc.CallOption) (*nodelink.RoleCredentialsResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roles++
	if c.roleErr != nil {
		return nil, c.roleErr
	}
	now := time.Now()
	return &nodelink.RoleCredentialsResponse{
		AccessKeyId: fmt.Sprintf("ASIA%d", c.roles), SecretAccessKey: "s", Token: "t", LastUpdatedUnix: now.Unix(),
		ExpirationUnix: now.Add(c.roleEnd).Unix(),
	}, nil
}

func (c *fakeCloud) InstanceIdentity(_ context.Context, in *nodelink.InstanceIdentityRequest,
	_ ...grpc.CallOption) (*nodelink.InstanceIdentityResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, errAway
	}
	c.signed++
	return &nodelink.InstanceIdentityResponse{
		Document: []byte(in.GetInstanceId()), Signature: fmt.Sprintf("signature %d", c.signed), Pkcs7: "pkcs7",
		Rsa2048: "rsa2048",
	}, nil
}

func (c *fakeCloud) RenewCertificate(context.Context, *nodelink.RenewCertificateRequest,
	...grpc.CallOption) (*nodelink.RenewCertificateResponse, error) {
	return nil, status.Error(codes.Unimplemented, "the controller does not renew")
}

func services() *nodelink.Services {
	return &nodelink.Services{
		GuestAddress: "169.254.169.253:443", ApiAddress: "127.0.0.1:8443", ApiUrl: "https://169.254.169.253",
		CaPem: []byte("ca"), CloudCertPem: []byte("cloud"), Region: "us-east-1",
	}
}

// run sends instances, which are also part of later snapshots.
func (c *fakeCloud) run(instances ...*nodelink.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, inst := range instances {
		c.snapshot = slices.DeleteFunc(c.snapshot, func(i *nodelink.Instance) bool { return i.GetId() == inst.GetId() })
		c.snapshot = append(c.snapshot, inst)
	}
	if c.stream != nil {
		c.stream.out <- &nodelink.Desired{Run: instances}
	}
}

func (c *fakeCloud) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshot = slices.DeleteFunc(c.snapshot, func(i *nodelink.Instance) bool { return i.GetId() == id })
	if c.stream != nil {
		c.stream.out <- &nodelink.Desired{Remove: []string{id}}
	}
}

// cut breaks the connection; with away it does not come back.
func (c *fakeCloud) cut(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
	if c.stream != nil {
		close(c.stream.down)
		c.stream = nil
	}
}

// refuse ends the connection and refuses later ones, until it is called with nil.
func (c *fakeCloud) refuse(refused *nodelink.RefusedError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusal = nil; refused != nil {
		c.refusal = refused.GRPCStatus().Err()
	}
	if c.stream != nil && refused != nil {
		close(c.stream.down)
		c.stream = nil
	}
}

func (c *fakeCloud) state(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said[id].GetState()
}

func (c *fakeCloud) reason(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said[id].GetReason()
}

func (c *fakeCloud) told(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.stages[id], " ")
}

// serving counts the guests that said so.
func (c *fakeCloud) serving() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serve
}

// attribute returns one of the last milestone of a stage.
func (c *fakeCloud) attribute(id, stage, name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attrs[id+"/"+stage+"/"+name]
}

type fakeStream struct {
	grpc.ClientStream
	ctx   context.Context //nolint:containedctx // as gRPC's own
	cloud *fakeCloud
	down  chan struct{}
	out   chan *nodelink.Desired
}

func (s *fakeStream) Send(r *nodelink.Report) error {
	select {
	case <-s.down:
		return io.EOF
	default:
	}
	c := s.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports++
	if r.GetNode() != nil {
		c.statuses++
	}
	c.happened = append(c.happened, r.GetEvents()...)
	var ids []string
	for _, is := range r.GetInstances() {
		ids = append(ids, is.GetInstanceId()+"="+is.GetState())
		c.said[is.GetInstanceId()] = is
		for _, m := range is.GetMilestones() {
			text := m.GetStage()
			if text == stageServing {
				c.serve++
			}
			for name, value := range m.GetAttributes() {
				c.attrs[is.GetInstanceId()+"/"+m.GetStage()+"/"+name] = value
			}
			if m.GetAttributes()["source"] == "node" && m.GetAttributes()["reason"] != "" {
				text += "/" + m.GetAttributes()["reason"]
			}
			c.stages[is.GetInstanceId()] = append(c.stages[is.GetInstanceId()], text)
		}
	}
	if r.GetFirst() {
		c.firsts = append(c.firsts, ids)
		s.out <- &nodelink.Desired{Snapshot: true, Run: slices.Clone(c.snapshot), Services: services()}
	}
	return nil
}

func (s *fakeStream) Recv() (*nodelink.Desired, error) {
	select {
	case d := <-s.out:
		return d, nil
	case <-s.down:
		s.cloud.mu.Lock()
		defer s.cloud.mu.Unlock()
		if s.cloud.refusal != nil {
			return nil, s.cloud.refusal
		}
		return nil, errAway
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}
