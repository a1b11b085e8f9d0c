package ec2_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	system = "000000000001"
	demo   = "123456789012"
	other  = "210987654321"
)

func root(account string) authn.Caller {
	return authn.Caller{
		Kind: authn.KindRoot, AccountID: account, System: account == system, ARN: "arn:aws:iam::" + account + ":root",
		UserID: account,
	}
}

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fakeIAM knows one profile, app, in every account, and those that a test sets.
type fakeIAM struct {
	now          func() time.Time
	mu           sync.Mutex // guards authority, signError
	signError    error
	authority    *keydelivery.Authority
	rsaAuthority *keydelivery.Authority // for tests with an image of profile 1
	denyPass     bool
	known        map[string]iam.InstanceProfile // besides app, or in its place; without an ID: deleted
	profiles     chan iam.ProfileChange
	roleError    error
	asked        []asked // of Authorize
	deny         string  // an action
}

// asked is one question of authorisation.
type asked struct {
	action     string
	resources  []string
	conditions map[string][]string
}

func (f *fakeIAM) InstanceProfile(_ context.Context, account, name string) (iam.InstanceProfile, error) {
	arn := "arn:aws:iam::" + account + ":instance-profile/app"
	f.mu.Lock()
	defer f.mu.Unlock()
	if changed, ok := f.known[strings.TrimPrefix(name, "arn:aws:iam::"+account+":instance-profile/")]; ok {
		if changed.ID == "" {
			return changed, model.Errorf("NoSuchEntity", http.StatusNotFound, "no profile %s", name)
		}
		return changed, nil
	}
	if name != "app" && name != arn {
		return iam.InstanceProfile{}, model.Errorf("NoSuchEntity", http.StatusNotFound, "no profile %s", name)
	}
	return iam.InstanceProfile{
		ARN: arn, ID: "AIPA1", Name: "app", RoleName: "app-role", RoleARN: "arn:aws:iam::" + account + ":role/app-role",
	}, nil
}

func (f *fakeIAM) WatchInstanceProfiles(ctx context.Context) (<-chan iam.ProfileChange, error) {
	changes := make(chan iam.ProfileChange)
	go func() {
		defer close(changes)
		for {
			select {
			case c := <-f.profiles:
				changes <- c
			case <-ctx.Done():
				return
			}
		}
	}()
	return changes, nil
}

// setProfile changes a profile of demo's and tells so.
func (f *fakeIAM) setProfile(name, id, role string) {
	p := iam.InstanceProfile{ARN: "arn:aws:iam::" + demo + ":instance-profile/" + name, ID: id, Name: name, RoleName: role}
	if role != "" {
		p.RoleARN = "arn:aws:iam::" + demo + ":role/" + role
	}
	f.mu.Lock()
	f.known[name] = p
	f.mu.Unlock()
	f.profiles <- iam.ProfileChange{AccountID: demo, Name: name}
}

func (f *fakeIAM) InstanceCredentials(_ context.Context, account, role, instance string) (iam.SessionCredentials,
	error) {
	if f.roleError != nil {
		return iam.SessionCredentials{}, f.roleError
	}
	return iam.SessionCredentials{
		AccessKeyID: "ASIA" + instance, SecretAccessKey: "secret of " + account, Token: role,
		LastUpdated: time.Now(), Expiration: time.Now().Add(time.Hour),
	}, nil
}

func (f *fakeIAM) SignLBCert(_ context.Context, id string, pub crypto.PublicKey, life time.Duration) (
	lbCert, iamCert []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.signError != nil {
		return nil, nil, f.signError
	}
	authority, now := f.of(keydelivery.ProfileOf(pub)), f.now()
	lbCert, err = authority.SignLBCert(id, pub, now, now.Add(life))
	return lbCert, authority.CertificatePEM(), err
}

func (f *fakeIAM) IAMCertificateOf(p keydelivery.Profile) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.of(p).CertificatePEM(), nil
}

func (f *fakeIAM) of(p keydelivery.Profile) *keydelivery.Authority {
	if p == keydelivery.Profile1 {
		return f.rsaAuthority
	}
	return f.authority
}

// rotate has another IAMCERT sign from now on.
func (f *fakeIAM) rotate(t testing.TB) {
	t.Helper()
	authority, err := keydelivery.NewAuthority(f.now())
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.authority = authority
}

// failToSign has every LBCERT fail from now on; nil: none.
func (f *fakeIAM) failToSign(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.signError = err
}

// Authorize allows all but what a test denies, and remembers what it was asked.
func (f *fakeIAM) Authorize(_ context.Context, _ authn.Caller, action string, resources []string,
	conditions map[string][]string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, asked{action, resources, conditions})
	if action == f.deny {
		return model.Errorf("UnauthorizedOperation", http.StatusForbidden, "not authorized to perform: %s", action)
	}
	return nil
}

func (f *fakeIAM) AuthorizePassRole(_ context.Context, _ authn.Caller, role, _, _ string) error {
	if f.denyPass {
		return model.Errorf("AccessDenied", http.StatusForbidden, "not authorized to perform: iam:PassRole on %s", role)
	}
	return nil
}

// cloud is a control plane small enough for this package's tests, with real etcd and real certificates.
type cloud struct {
	*ec2.Service
	store     *store.Store
	placement *placement.Service
	ca        *placement.CA
	iam       *fakeIAM
	journal   *journal.Journal
	clock     *clock
	handlers  map[string]model.Handler
}

func start(t testing.TB) *cloud {
	t.Helper()
	return startOn(t, t.TempDir())
}

func startOn(t testing.TB, dir string, options ...func(*ec2.Config)) *cloud {
	t.Helper()
	ctx := t.Context()
	s, err := store.Open(ctx, store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{store: s, clock: &clock{now: time.Now()}, journal: journal.New(new(strings.Builder)), iam: &fakeIAM{
		known: map[string]iam.InstanceProfile{}, profiles: make(chan iam.ProfileChange)}}
	c.iam.now = c.clock.Now
	if c.iam.authority, err = keydelivery.NewAuthority(time.Now()); err != nil {
		t.Fatal(err)
	}
	c.ca, err = placement.OpenCA(ctx, placement.CAConfig{
		Store: s, Clock: c.clock.Now,
		Seal: func(_ string, k keydelivery.Secret) (string, error) { return base64.StdEncoding.EncodeToString(k), nil },
		Open: func(_, text string) (keydelivery.Secret, error) { return base64.StdEncoding.DecodeString(text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.placement, err = placement.New(ctx, placement.Config{
		Store: s, CA: c.ca, Clock: c.clock.Now, Journal: c.journal, GuestOverheadMB: 16, // the tests' nodes are small
	})
	if err != nil {
		t.Fatal(err)
	}
	config := ec2.Config{
		Store: s, IAM: c.iam, Placement: c.placement, Journal: c.journal, Clock: c.clock.Now,
		Images: []ec2.ImageInfo{{Name: "lbvm"}, {Name: "web", Public: true, Description: "answers HTTP"}},
		Services: func() *nodelink.Services {
			return &nodelink.Services{ApiUrl: "https://169.254.169.253", Region: "us-east-1"}
		},
	}
	for _, o := range options {
		o(&config)
	}
	c.Service, err = ec2.New(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		c.placement.Close()
		_ = s.Close()
	})
	c.handlers = ec2model.Handlers(c.Service)
	return c
}

// node is an enrolled node with its key.
type node struct {
	id   string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func bigNode() placement.Status {
	return placement.Status{
		MemoryMBTotal: 8 << 10, MemoryMBFree: 8 << 10, Cores: 2, Hypervisor: "fake", Accelerator: "tcg",
		Images: map[string]string{"lbvm": "sha256:aa", "web": "sha256:bb"},
	}
}

func (c *cloud) addNode(t testing.TB, id string, st placement.Status) *node {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}},
		key)
	if err != nil {
		t.Fatal(err)
	}
	token, err := c.placement.NewToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := c.placement.Enrol(t.Context(), token, id, csr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.placement.Report(t.Context(), id, &st); err != nil {
		t.Fatal(err)
	}
	return &node{id: id, key: key, cert: cert}
}

// serve opens the nodes' door on the loopback and returns its address.
func (c *cloud) serve(t testing.TB) string {
	t.Helper()
	cert, err := c.ca.SignServer(nodelink.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	server := nodelink.NewServer(nodelink.ServerTLS(cert, c.ca.Pool()))
	nodelink.RegisterNodeLinkServer(server, c.NodeServer())
	nodelink.RegisterEnrolmentServer(server, c.placement.EnrolmentServer())
	nodelink.RegisterNodeScreensServer(server, c.ScreenServer(func(ctx context.Context) (context.Context, string, error) {
		peer, err := nodelink.NodeFrom(ctx)
		return ctx, peer.NodeID, err
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func dial(t testing.TB, address string, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	conn, err := nodelink.Dial(address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (c *cloud) dialAs(t testing.TB, address string, n *node) nodelink.NodeLinkClient {
	t.Helper()
	cert := tls.Certificate{Certificate: [][]byte{n.cert.Raw}, PrivateKey: n.key}
	return nodelink.NewNodeLinkClient(dial(t, address, nodelink.NodeTLS(cert, c.ca.Pool())))
}

// call runs an operation as its form would arrive: NAME=VALUE pairs.
func (c *cloud) call(t testing.TB, caller authn.Caller, operation string, pairs ...string) (any, error) {
	t.Helper()
	form := url.Values{}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		form.Add(name, value)
	}
	h, ok := c.handlers[operation]
	if !ok {
		t.Fatalf("no handler for %s", operation)
	}
	in, err := h.Decode(form)
	if err != nil {
		return nil, err
	}
	ctx := authn.WithCaller(t.Context(), caller)
	if _, err := c.Resources(ctx, operation, caller, in); err != nil {
		t.Fatal(err)
	}
	out, err := h.Call(ctx, in)
	if err != nil {
		return nil, err
	}
	if _, err := h.Encode(out, "", "request"); err != nil {
		t.Fatalf("encode %s: %v", operation, err)
	}
	return out, nil
}

func do[O any](t testing.TB, c *cloud, caller authn.Caller, operation string, pairs ...string) *O {
	t.Helper()
	out, err := c.call(t, caller, operation, pairs...)
	if err != nil {
		t.Fatalf("%s %v: %v", operation, pairs, err)
	}
	return out.(*O)
}

// run launches web instances and returns their ids.
func (c *cloud) run(t testing.TB, account string, pairs ...string) []string {
	t.Helper()
	pairs = append(pairs, "ImageId="+ec2.ImageID("web"))
	for _, name := range []string{"MinCount", "MaxCount"} {
		if !slices.ContainsFunc(pairs, func(p string) bool { return strings.HasPrefix(p, name+"=") }) {
			pairs = append(pairs, name+"=1")
		}
	}
	out := do[ec2model.RunInstancesOutput](t, c, root(account), "RunInstances", pairs...)
	var ids []string
	for _, i := range out.Instances {
		ids = append(ids, *i.InstanceId)
	}
	return ids
}

func wantCode(t *testing.T, err error, code, word string) {
	t.Helper()
	var known *model.Error
	if !errors.As(err, &known) {
		t.Fatalf("error %v, want code %s", err, code)
	}
	if known.Code != code || !strings.Contains(known.Message, word) {
		t.Errorf("error %v, want code %s and a message with %q", known, code, word)
	}
	if known.Status < 400 || known.Status > 499 {
		t.Errorf("status %d for %s", known.Status, code)
	}
}

// eventually waits until check is nil, and fails with its last error.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(err)
		}
	}
}
