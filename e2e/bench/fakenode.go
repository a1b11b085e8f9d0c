package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

const (
	fakeNodeID = "bench-node"
	// fakeMemory and fakeCores are room for any number of instances.
	fakeMemory = 1 << 24 // MB
	fakeCores  = 1 << 12
)

// fakeNode is an enrolled node that boots nothing and says that everything runs.
type fakeNode struct {
	conn   *grpc.ClientConn
	stop   context.CancelFunc
	ended  chan struct{} // closed when the stream has ended
	err    error         // what ended it; read it after ended
	stream grpc.BidiStreamingClient[nodelink.Report, nodelink.Desired]
}

func enrol(ctx context.Context, c *cloud.Cloud) (*fakeNode, error) {
	text, err := c.NewNodeToken(ctx)
	if err != nil {
		return nil, err
	}
	token, err := nodelink.ParseToken(text)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make NODEPK: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: fakeNodeID}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	conn, err := nodelink.Dial(c.NodeLink(), nodelink.EnrolTLS(token))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	out, err := nodelink.NewEnrolmentClient(conn).Enrol(ctx,
		&nodelink.EnrolRequest{Token: text, NodeId: fakeNodeID, CsrDer: csr}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("enrol node: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode NODEPK: %w", err)
	}
	cert, err := tls.X509KeyPair(out.GetNodeCertPem(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return nil, fmt.Errorf("use NODECERT: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(out.GetCloudCaPem()) {
		return nil, errors.New("use the cloud's CA: not a certificate")
	}
	return connect(ctx, c.NodeLink(), nodelink.NodeTLS(cert, pool))
}

// connect reports room and returns when the cloud has sent its first orders.
func connect(ctx context.Context, address string, config *tls.Config) (*fakeNode, error) {
	conn, err := nodelink.Dial(address, config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	n := &fakeNode{conn: conn, stop: stop, ended: make(chan struct{})}
	if err := n.begin(ctx); err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("connect node: %w", err), conn.Close())
	}
	go func() {
		defer close(n.ended)
		n.err = n.obey()
	}()
	return n, nil
}

func (n *fakeNode) begin(ctx context.Context) (err error) {
	if n.stream, err = nodelink.NewNodeLinkClient(n.conn).Sync(ctx, grpc.WaitForReady(true)); err != nil {
		return err
	}
	if err := n.stream.Send(&nodelink.Report{First: true, Node: &nodelink.NodeStatus{
		MemoryMbTotal: fakeMemory, MemoryMbFree: fakeMemory, Cores: fakeCores, Hypervisor: "none", Accelerator: "none",
		Images: map[string]string{"web": webDigest}}}); err != nil {
		return err
	}
	_, err = n.stream.Recv()
	return err
}

// obey says of every instance that it is told to run that it does.
func (n *fakeNode) obey() error {
	for {
		desired, err := n.stream.Recv()
		if err != nil {
			return err
		}
		report := &nodelink.Report{}
		for _, i := range desired.GetRun() {
			report.Instances = append(report.Instances,
				&nodelink.InstanceStatus{InstanceId: i.GetId(), State: "running"})
		}
		if err := n.stream.Send(report); err != nil {
			return err
		}
	}
}

// leave hangs up.
func (n *fakeNode) leave() error {
	n.stop()
	<-n.ended
	return n.conn.Close()
}
