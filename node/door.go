package node

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

var (
	_ nodelink.NodeLinkClient    = (*door)(nil)
	_ nodelink.NodeFaultsClient  = (*door)(nil)
	_ nodelink.NodeScreensClient = (*door)(nil)
)

// door is the node's way to the cloud. Calls go through the passage that was opened last.
type door struct {
	address string

	mu      sync.Mutex
	present *passage
	leaving sync.WaitGroup // passages that were left and have calls under way
}

// passage is a connection made with one NODECERT.
type passage struct {
	client nodelink.NodeLinkClient
	conn   *grpc.ClientConn
	calls  sync.WaitGroup
}

func openDoor(address string, as *identity) (*door, error) {
	d := &door{address: address}
	p, err := d.open(as)
	if err != nil {
		return nil, err
	}
	d.present = p
	return d, nil
}

// open prepares a connection, which is made when it is first used.
func (d *door) open(as *identity) (*passage, error) {
	conn, err := nodelink.Dial(d.address, as.tls())
	if err != nil {
		return nil, err
	}
	return &passage{client: nodelink.NewNodeLinkClient(conn), conn: conn}, nil
}

// change has later calls go through p. The passage before it is closed when its calls have ended.
func (d *door) change(p *passage) {
	d.mu.Lock()
	before := d.present
	d.present = p
	d.mu.Unlock()
	d.leaving.Go(func() {
		before.calls.Wait()
		_ = before.conn.Close()
	})
}

// enter returns the present passage for one call, whose end the returned function tells.
func (d *door) enter() (*passage, func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.present
	p.calls.Add(1)
	return p, p.calls.Done
}

// Sync implements nodelink.NodeLinkClient. Its passage stays open until ctx ends.
func (d *door) Sync(ctx context.Context, opts ...grpc.CallOption) (nodelink.NodeLink_SyncClient, error) {
	p, leave := d.enter()
	context.AfterFunc(ctx, leave)
	return p.client.Sync(ctx, opts...)
}

// RoleCredentials implements nodelink.NodeLinkClient.
func (d *door) RoleCredentials(ctx context.Context, in *nodelink.RoleCredentialsRequest,
	opts ...grpc.CallOption) (*nodelink.RoleCredentialsResponse, error) {
	p, leave := d.enter()
	defer leave()
	return p.client.RoleCredentials(ctx, in, opts...)
}

// InstanceIdentity implements nodelink.NodeLinkClient.
func (d *door) InstanceIdentity(ctx context.Context, in *nodelink.InstanceIdentityRequest,
	opts ...grpc.CallOption) (*nodelink.InstanceIdentityResponse, error) {
	p, leave := d.enter()
	defer leave()
	return p.client.InstanceIdentity(ctx, in, opts...)
}

// RenewCertificate implements nodelink.NodeLinkClient.
func (d *door) RenewCertificate(ctx context.Context, in *nodelink.RenewCertificateRequest,
	opts ...grpc.CallOption) (*nodelink.RenewCertificateResponse, error) {
	p, leave := d.enter()
	defer leave()
	return p.client.RenewCertificate(ctx, in, opts...)
}

// Play implements nodelink.NodeFaultsClient. Its passage stays open until ctx ends.
func (d *door) Play(ctx context.Context, opts ...grpc.CallOption) (nodelink.NodeFaults_PlayClient, error) {
	p, leave := d.enter()
	context.AfterFunc(ctx, leave)
	return nodelink.NewNodeFaultsClient(p.conn).Play(ctx, opts...)
}

// Look implements nodelink.NodeScreensClient. Its passage stays open until ctx ends.
func (d *door) Look(ctx context.Context, opts ...grpc.CallOption) (nodelink.NodeScreens_LookClient, error) {
	p, leave := d.enter()
	context.AfterFunc(ctx, leave)
	return nodelink.NewNodeScreensClient(p.conn).Look(ctx, opts...)
}

// sever cuts the connection with all calls on it.
func (d *door) sever() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.present.conn.Close()
}

// close ends every connection and the calls on them.
func (d *door) close() {
	d.mu.Lock()
	_ = d.present.conn.Close()
	d.mu.Unlock()
	d.leaving.Wait()
}
