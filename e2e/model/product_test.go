package model

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/elb"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	systemAccount = "000000000001"
	userAccount   = "123456789012"
	nodeName      = "node-1"
	soon          = time.Minute
)

// product is the real iam, placement, ec2 and elb on a real store, with one enrolled node that runs nothing.
type product struct {
	iam  *iam.Service
	ec2  *ec2.Service
	elb  *elb.Service
	node nodelink.NodeLinkClient
	key  *ecdsa.PrivateKey // NODEPK
	// asked, when set, is called each time that iam asks whether an LBCERT was revoked, after the answer was found.
	asked atomic.Pointer[func()]
	// failing, when set, is what elb gets from iam instead of a grant or the end of a role.
	failing atomic.Pointer[error]
	// keeping, when set, is what elb gets instead of the end of a grant, so that no reconcile gets through.
	keeping atomic.Pointer[error]
}

// flaky is iam as elb sees it when iam's store is out of reach at times.
type flaky struct {
	*iam.Service
	p *product
}

func (f flaky) PutServiceRolePolicy(ctx context.Context, account, role, name, document string) error {
	if err := f.p.failing.Load(); err != nil {
		return *err
	}
	return f.Service.PutServiceRolePolicy(ctx, account, role, name, document)
}

func (f flaky) DeleteServiceRolePolicy(ctx context.Context, account, role, name string) error {
	if err := f.p.keeping.Load(); err != nil {
		return *err
	}
	return f.Service.DeleteServiceRolePolicy(ctx, account, role, name)
}

func (f flaky) DeleteServiceRole(ctx context.Context, account, name string) error {
	if err := f.p.failing.Load(); err != nil {
		return *err
	}
	return f.Service.DeleteServiceRole(ctx, account, name)
}

func newProduct(t *testing.T) *product {
	t.Helper()
	p := &product{}
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	log := journal.New(io.Discard)
	p.iam, err = iam.New(t.Context(), iam.Config{
		Store: s, Journal: log, RootKeyFile: filepath.Join(t.TempDir(), "root.key"), Revoked: p.revoked,
		Quotas: iam.Quotas{ServerCertificates: 1000},
	})
	check(t, err)
	t.Cleanup(p.iam.Close)
	for id, system := range map[string]bool{systemAccount: true, userAccount: false} {
		_, err := p.iam.EnsureAccount(t.Context(), id, "account-"+id, system)
		check(t, err)
	}
	ca, err := placement.OpenCA(t.Context(), placement.CAConfig{Store: s, Seal: p.iam.Seal, Open: p.iam.Open})
	check(t, err)
	nodes, err := placement.New(t.Context(), placement.Config{Store: s, CA: ca, DownAfter: time.Hour})
	check(t, err)
	t.Cleanup(nodes.Close)
	p.ec2, err = ec2.New(t.Context(), ec2.Config{
		Store: s, IAM: p.iam, Placement: nodes, Journal: log, Images: []ec2.ImageInfo{{Name: "lbvm"}},
	})
	check(t, err)
	t.Cleanup(p.ec2.Close)
	p.enrol(t, nodes, ca)
	p.elb, err = elb.New(t.Context(), elb.Config{
		Store: s, IAM: flaky{p.iam, p}, EC2: p.ec2, Journal: log, SystemAccountID: systemAccount,
		RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
	})
	check(t, err)
	t.Cleanup(p.elb.Close)
	return p
}

// revoked is the cloud's own rule.
func (p *product) revoked(ctx context.Context, cert *x509.Certificate) (string, error) {
	why, err := p.ec2.WhyRevoked(ctx, cert)
	if asked := p.asked.Load(); asked != nil {
		(*asked)()
	}
	return why, err
}

// enrol makes the node and opens its link to the cloud.
func (p *product) enrol(t *testing.T, nodes *placement.Service, ca *placement.CA) {
	t.Helper()
	var err error
	p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeName}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, request, p.key)
	check(t, err)
	token, err := nodes.NewToken(t.Context())
	check(t, err)
	cert, err := nodes.Enrol(t.Context(), token, nodeName, csr)
	check(t, err)
	check(t, nodes.Report(t.Context(), nodeName, &placement.Status{
		MemoryMBTotal: 1 << 20, MemoryMBFree: 1 << 20, Cores: 64, Images: map[string]string{"lbvm": "sha256:aa"},
	}))
	own, err := ca.SignServer(nodelink.ServerName)
	check(t, err)
	server := nodelink.NewServer(nodelink.ServerTLS(own, ca.Pool()))
	nodelink.RegisterNodeLinkServer(server, p.ec2.NodeServer())
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	connection, err := nodelink.Dial(listener.Addr().String(),
		nodelink.NodeTLS(tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: p.key}, ca.Pool()))
	check(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	p.node = nodelink.NewNodeLinkClient(connection)
}

// fatal is what *testing.T and *rapid.T share.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

func check(t fatal, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// user is the context of a call of the first user.
func user() context.Context {
	return authn.WithCaller(context.Background(), authn.Caller{
		Kind: authn.KindRoot, AccountID: userAccount, ARN: "arn:aws:iam::" + userAccount + ":root", UserID: userAccount,
	})
}

func (p *product) upload(name, path string, pair *pki.Pair) (arn string, err error) {
	out, err := p.iam.UploadServerCertificate(user(), &iammodel.UploadServerCertificateInput{
		ServerCertificateName: &name, Path: &path,
		CertificateBody: model.Ptr(string(pair.CertPEM)), PrivateKey: model.Ptr(string(pair.KeyPEM)),
	})
	if err != nil {
		return "", err
	}
	return model.Val(out.ServerCertificateMetadata.Arn), nil
}

func listener(port int64, arn string) elbmodel.Listener {
	return elbmodel.Listener{
		Protocol: model.Ptr("HTTPS"), LoadBalancerPort: &port, InstanceProtocol: model.Ptr("HTTP"),
		InstancePort: model.Ptr(int64(80)), SSLCertificateId: &arn,
	}
}

func (p *product) create(name, arn string) error {
	_, err := p.elb.CreateLoadBalancer(user(), &elbmodel.CreateLoadBalancerInput{
		LoadBalancerName: &name, AvailabilityZones: []string{"us-east-1a"},
		Listeners: []elbmodel.Listener{listener(443, arn)},
	})
	return err
}

func (p *product) addListener(name string, port int64, arn string) error {
	_, err := p.elb.CreateLoadBalancerListeners(user(), &elbmodel.CreateLoadBalancerListenersInput{
		LoadBalancerName: &name, Listeners: []elbmodel.Listener{listener(port, arn)},
	})
	return err
}

func (p *product) setCertificate(name string, port int64, arn string) error {
	_, err := p.elb.SetLoadBalancerListenerSSLCertificate(user(),
		&elbmodel.SetLoadBalancerListenerSSLCertificateInput{
			LoadBalancerName: &name, LoadBalancerPort: &port, SSLCertificateId: &arn,
		})
	return err
}

func (p *product) deleteListener(name string, port int64) error {
	_, err := p.elb.DeleteLoadBalancerListeners(user(), &elbmodel.DeleteLoadBalancerListenersInput{
		LoadBalancerName: &name, LoadBalancerPorts: []int64{port},
	})
	return err
}

func (p *product) delete(name string) error {
	_, err := p.elb.DeleteLoadBalancer(user(), &elbmodel.DeleteLoadBalancerInput{LoadBalancerName: &name})
	return err
}

// lbvms returns the live LBVMs that carry the load balancer's tag.
func (p *product) lbvms(name string) []ec2.Instance {
	var list []ec2.Instance
	for _, inst := range p.ec2.Instances() {
		if inst.Tags["cloudtwin:load-balancer"] == userAccount+"/"+name &&
			(inst.State == ec2.Pending || inst.State == ec2.Running) {
			list = append(list, inst)
		}
	}
	return list
}

// eventually waits for what elb's loop does by itself.
func eventually(t fatal, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", soon, what)
		}
	}
}

// guest is what an LBVM holds: its identity from the medium and credentials of its role.
type guest struct {
	id       string
	identity keydelivery.Identity
	sessions []session
}

type session struct{ accessKeyID, token string }

// newGuest waits for the load balancer's LBVM and takes its identity as its node does.
func (p *product) newGuest(t fatal, name string) *guest {
	t.Helper()
	var inst ec2.Instance
	eventually(t, "the LBVM of "+name, func() bool {
		list := p.lbvms(name)
		if len(list) == 1 {
			inst = list[0]
		}
		return len(list) == 1
	})
	identity, err := inst.Credential.Open(p.key, nodeName, inst.ID)
	check(t, err)
	g := &guest{id: inst.ID, identity: identity}
	check(t, p.mint(g))
	return g
}

// mint asks for a session of the guest's role, as its node does for it.
func (p *product) mint(g *guest) error {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	creds, err := p.node.RoleCredentials(ctx, &nodelink.RoleCredentialsRequest{InstanceId: g.id})
	if err == nil {
		g.sessions = append(g.sessions, session{creds.GetAccessKeyId(), creds.GetToken()})
	}
	return err
}

// send makes check 1 and 2 as the front door does and hands the request to iam.
func (p *product) send(s session, r *keydelivery.Request) (*keydelivery.Answer, error) {
	_, caller, err := p.iam.Identify(context.Background(), s.accessKeyID, s.token)
	if err != nil {
		return nil, err
	}
	_, body, err := p.iam.DownloadServerCertificate(authn.WithCaller(context.Background(), caller), r.Form())
	if err != nil {
		return nil, err
	}
	return keydelivery.ParseAnswer(body)
}

// download is an honest delivery with the guest's newest session.
func (p *product) download(g *guest, arn string) error {
	r, err := keydelivery.NewRequest(arn, g.identity, time.Now())
	if err != nil {
		return err
	}
	answer, err := p.send(g.sessions[len(g.sessions)-1], r)
	if err != nil {
		return err
	}
	_, err = r.Open(answer, p.iam.IAMCertificatePEM(), g.identity)
	return err
}

// code is what the caller of a refused request learns.
func code(err error) string {
	if answer, ok := errors.AsType[*model.Error](err); ok {
		return answer.Code
	}
	if refusal, ok := errors.AsType[*authn.Error](err); ok {
		return string(refusal.Code)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return ""
}
