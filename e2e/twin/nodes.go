package twin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/node/shares"
)

// Node is a further node of a twin, beside the one of Start: a process of its own.
type Node struct {
	ID      string
	twin    *Twin
	process *process
	lease   *shares.Lease
	media   sync.Once
}

// AddNode starts a node, whose id begins with a name, and returns when the cloud sees it up. After the spec it is
// removed from the cloud and ends with its guests.
func (t *Twin) AddNode(name string) *Node {
	ginkgo.GinkgoHelper()
	n := &Node{ID: t.name(name), twin: t}
	t.cleanup(n.leave)
	n.Start()
	return n
}

// Dir is the node's state folder.
func (n *Node) Dir() string { return filepath.Join(n.twin.dir, n.ID) }

// Files is the folder of the node's identity.
func (n *Node) Files() string { return local.Layout(n.Dir()).Node() }

// Media is the folder of the node's floppies.
func (n *Node) Media() string { return mediaOf(n.Dir()) }

// Start starts the node's process, with a new token, and returns when the cloud sees it up.
func (n *Node) Start() {
	ginkgo.GinkgoHelper()
	begun := time.Now()
	status, err := n.twin.Operator.Status(context.Background())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	n.Launch(status.NodeLink)
	n.twin.awaitConnected(n.ID, begun, n.process.done, func() string {
		n.process.blameExit()
		return n.process.tail()
	})
}

// Launch starts the node's process for a cloud at an address, and returns at once.
func (n *Node) Launch(cloud string) {
	ginkgo.GinkgoHelper()
	token, err := n.twin.Operator.NewNodeToken(context.Background())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	command := []string{"node", "--id", n.ID, "--state", n.Dir(), "--cloud", cloud, "--token", token}
	if n.lease == nil {
		n.lease = n.twin.admit(n.ID)
	}
	n.media.Do(func() { n.twin.keys.Watch(n.Media()) })
	n.process = n.twin.run(n.ID, n.lease, slices.Concat(command, n.twin.memoryFlags(), n.twin.nodeFlags)...)
	n.twin.note(n.process, n.Dir())
}

// Kill ends the node's process with SIGKILL.
func (n *Node) Kill() {
	ginkgo.GinkgoHelper()
	gomega.Expect(n.process.signal(syscall.SIGKILL)).To(gomega.Succeed())
	gomega.Eventually(n.process.done).WithTimeout(startTimeout).Should(gomega.BeClosed(), "the end of %s", n.ID)
}

// ExitCode is that of the node's process, -1 while it runs.
func (n *Node) ExitCode() int {
	if code, ended := n.process.exited(); ended {
		return code
	}
	return -1
}

// Log is all that the node's processes printed.
func (n *Node) Log() string {
	text, err := os.ReadFile(n.process.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Status is what the cloud says of the node; nil when it knows no such node.
func (n *Node) Status(ctx context.Context) (*operator.Node, error) {
	status, err := n.twin.Operator.Status(ctx)
	if err != nil {
		return nil, err
	}
	for i := range status.Nodes {
		if status.Nodes[i].ID == n.ID {
			return &status.Nodes[i], nil
		}
	}
	return nil, nil
}

func (n *Node) leave() {
	ginkgo.GinkgoHelper()
	if ginkgo.CurrentSpecReport().Failed() {
		ginkgo.AddReportEntry("log of "+n.ID, n.process.tail(), ginkgo.ReportEntryVisibilityFailureOrVerbose)
	}
	n.twin.searchNode(n.ID, n.Dir(), n.process.running())
	// So that no later spec's guests are placed there.
	_, err := n.twin.Operator.RemoveNode(context.Background(), n.ID, "its spec is over")
	if refusal := (*operator.Refusal)(nil); !errors.As(err, &refusal) { // it was removed
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), "remove %s", n.ID)
	}
	n.process.end(startTimeout)
	code, _, stderr := n.twin.command(context.Background(), "node", "--remove", "--state", n.Dir())
	gomega.Expect(code).To(gomega.BeZero(), "remove %s: %s", n.ID, stderr)
	gomega.Expect(n.twin.GuestProcesses(n.Dir())).To(gomega.BeEmpty(), "guests that outlive %s", n.ID)
	gomega.Expect(n.lease.Release()).To(gomega.Succeed())
}

// CommandAt runs the program under test with args on another state folder than the twin's.
func (t *Twin) CommandAt(ctx context.Context, state string, args ...string) (code int, stdout, stderr string) {
	ginkgo.GinkgoHelper()
	return t.command(ctx, append(args, "--state", state)...)
}

// NodeIdentity is a NODECERT with its NODEPK and the cloud's CA, as a thief would have them.
type NodeIdentity struct {
	twin *Twin
	pair tls.Certificate
	ca   *x509.CertPool
}

// Steal copies the identity that a node has now.
func (n *Node) Steal() *NodeIdentity {
	ginkgo.GinkgoHelper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(n.Files(), "node.crt"), filepath.Join(n.Files(), "node.key"))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	text, err := os.ReadFile(filepath.Join(n.Files(), "cloud-ca.crt"))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	pool := x509.NewCertPool()
	gomega.Expect(pool.AppendCertsFromPEM(text)).To(gomega.BeTrue())
	return &NodeIdentity{twin: n.twin, pair: pair, ca: pool}
}

// Serial is the NODECERT's, in hexadecimal.
func (i *NodeIdentity) Serial() string { return i.pair.Leaf.SerialNumber.Text(16) }

// Call makes a call that a node makes, and returns how it was refused: a typed reason, or a code when there is none.
// Empty means that it was answered.
func (i *NodeIdentity) Call(ctx context.Context, name, instanceID string) string {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	cloud, err := i.twin.Operator.Status(ctx)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	conn, err := nodelink.Dial(cloud.NodeLink, nodelink.NodeTLS(i.pair, i.ca))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	defer func() { _ = conn.Close() }()
	client := nodelink.NewNodeLinkClient(conn)
	switch name {
	case "Sync":
		err = syncOnce(ctx, client)
	case "RoleCredentials":
		_, err = client.RoleCredentials(ctx, &nodelink.RoleCredentialsRequest{InstanceId: instanceID})
	case "RenewCertificate":
		_, err = client.RenewCertificate(ctx, &nodelink.RenewCertificateRequest{})
	default:
		ginkgo.Fail("a node makes no call " + name)
	}
	if refused, ok := nodelink.RefusalOf(err); ok {
		return string(refused.Reason)
	}
	if code := status.Code(err); code != codes.OK {
		return code.String()
	}
	return ""
}

func syncOnce(ctx context.Context, client nodelink.NodeLinkClient) error {
	stream, err := client.Sync(ctx)
	if err != nil {
		return err
	}
	// A refusal may come before the report is sent; it is what Recv returns.
	_ = stream.Send(&nodelink.Report{First: true})
	desired, err := stream.Recv()
	if err == nil && !desired.GetSnapshot() {
		return errors.New("the first message is no snapshot")
	}
	return err
}
