package twin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"maps"
	"sync"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// roomy is the memory that an impostor claims, in MB: more than any real node, so that instances come to it.
const roomy = 1 << 24

// Impostor is an enrolled node that boots nothing: the credentials that a real node would write on a floppy come
// into the spec's hands. That is how a spec becomes a load-balancer VM, and an attacker.
type Impostor struct {
	twin   *Twin
	id     string
	key    *ecdsa.PrivateKey
	conn   *grpc.ClientConn
	link   nodelink.NodeLinkClient
	stream grpc.BidiStreamingClient[nodelink.Report, nodelink.Desired]

	mu        sync.Mutex
	instances map[string]*nodelink.Instance
	services  *nodelink.Services
}

// Impostor enrols a new impostor and takes every launch from now on until the spec ends.
func (t *Twin) Impostor() *Impostor {
	ginkgo.GinkgoHelper()
	i := &Impostor{twin: t, id: t.name("impostor"), instances: map[string]*nodelink.Instance{}}
	ca, cert := i.enrol()
	i.connect(ca, cert)
	t.cleanup(i.leave)
	return i
}

func (i *Impostor) enrol() (*x509.CertPool, tls.Certificate) {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	text, err := i.twin.Operator.NewNodeToken(ctx)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	token, err := nodelink.ParseToken(text)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	i.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: i.id}}, i.key)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	conn, err := nodelink.Dial(i.nodeLink(ctx), nodelink.EnrolTLS(token))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	defer func() { _ = conn.Close() }()
	out, err := nodelink.NewEnrolmentClient(conn).Enrol(ctx,
		&nodelink.EnrolRequest{Token: text, NodeId: i.id, CsrDer: csr}, grpc.WaitForReady(true))
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "enrol the impostor")
	pool := x509.NewCertPool()
	gomega.Expect(pool.AppendCertsFromPEM(out.GetCloudCaPem())).To(gomega.BeTrue())
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	pair, err := tls.X509KeyPair(out.GetNodeCertPem(), encodePEM("PRIVATE KEY", der))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return pool, pair
}

func (i *Impostor) nodeLink(ctx context.Context) string {
	ginkgo.GinkgoHelper()
	status, err := i.twin.Operator.Status(ctx)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return status.NodeLink
}

func (i *Impostor) connect(ca *x509.CertPool, cert tls.Certificate) {
	ginkgo.GinkgoHelper()
	ctx := context.Background()
	var err error
	i.conn, err = nodelink.Dial(i.nodeLink(ctx), nodelink.NodeTLS(cert, ca))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	i.link = nodelink.NewNodeLinkClient(i.conn)
	i.stream, err = i.link.Sync(ctx, grpc.WaitForReady(true))
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "connect the impostor")
	gomega.Expect(i.stream.Send(i.report(roomy, true))).To(gomega.Succeed())
	orders, err := i.stream.Recv()
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "the impostor's first orders")
	i.take(orders)
	go func() {
		for {
			desired, err := i.stream.Recv()
			if err != nil {
				return
			}
			i.take(desired)
		}
	}()
}

func (i *Impostor) report(memory uint64, first bool) *nodelink.Report {
	return &nodelink.Report{First: first, Node: &nodelink.NodeStatus{
		MemoryMbTotal: roomy, MemoryMbFree: memory, Cores: 64, Hypervisor: "none", Accelerator: "none",
		Images: i.twin.imageDigests(),
	}}
}

func (i *Impostor) take(d *nodelink.Desired) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if d.GetServices() != nil {
		i.services = d.GetServices()
	}
	for _, one := range d.GetRun() {
		// Later messages about an instance may no longer carry its credential.
		if old := i.instances[one.GetId()]; one.GetCredential() == nil && old != nil {
			one.Credential = old.GetCredential()
		}
		i.instances[one.GetId()] = one
	}
}

// Claim says how much memory the impostor has free from now on, in MB, and returns when the cloud knows.
func (i *Impostor) Claim(memoryMB uint64) {
	ginkgo.GinkgoHelper()
	gomega.Expect(i.stream.Send(i.report(memoryMB, false))).To(gomega.Succeed())
	gomega.Eventually(func(g gomega.Gomega) {
		status, err := i.twin.Operator.Status(context.Background())
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(status.Nodes).To(gomega.ContainElement(gomega.And(
			gomega.HaveField("ID", i.id), gomega.HaveField("MemoryFreeMB", memoryMB))))
	}).WithTimeout(ChangeTimeout).WithPolling(pollInterval).Should(gomega.Succeed(), "memory of %s", i.id)
}

// leave says that there is no room any more, so that later specs' guests go to the real node, and hangs up.
func (i *Impostor) leave() {
	ginkgo.GinkgoHelper()
	i.Claim(0)
	_ = i.conn.Close()
}

// LBVM waits until an LBVM of lb was sent to the impostor, opens its credential and becomes it.
func (i *Impostor) LBVM(lb *LoadBalancer) *Guest {
	ginkgo.GinkgoHelper()
	var instance *nodelink.Instance
	gomega.Eventually(func(g gomega.Gomega) {
		status, err := lb.Status(context.Background())
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(status.Instances).NotTo(gomega.BeEmpty())
		i.mu.Lock()
		defer i.mu.Unlock()
		g.Expect(i.instances).To(gomega.HaveKey(status.Instances[0]))
		instance = i.instances[status.Instances[0]]
	}).WithTimeout(ChangeTimeout).WithPolling(pollInterval).Should(gomega.Succeed(), "the LBVM of %s", lb.Name)
	sent := instance.GetCredential()
	gomega.Expect(sent).NotTo(gomega.BeNil(), "credential of %s", instance.GetId())
	credential := keydelivery.Credential{SealedKey: sent.GetSealedKey(), SealedCert: sent.GetSealedCert(),
		IAMCertPEM: sent.GetIamCertPem(), Profile: keydelivery.Profile(sent.GetProfile())}
	identity, err := credential.Open(i.key, i.id, instance.GetId())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return &Guest{twin: i.twin, InstanceID: instance.GetId(), Identity: identity, IAMCert: sent.GetIamCertPem(),
		Role: i.RoleCredentials(instance.GetId())}
}

// RoleCredentials asks the cloud for an instance's role credentials, as a node does for its metadata service.
func (i *Impostor) RoleCredentials(instanceID string) *nodelink.RoleCredentialsResponse {
	ginkgo.GinkgoHelper()
	out, err := i.AskRoleCredentials(instanceID)
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "role credentials of %s", instanceID)
	return out
}

// AskRoleCredentials is RoleCredentials for specs that expect a refusal.
func (i *Impostor) AskRoleCredentials(instanceID string) (*nodelink.RoleCredentialsResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	return i.link.RoleCredentials(ctx, &nodelink.RoleCredentialsRequest{InstanceId: instanceID})
}

// Instances are the ids of what the impostor was told to run.
func (i *Impostor) Instances() map[string]*nodelink.Instance {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.instances)
}
