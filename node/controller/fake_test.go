package controller

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/floppy"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNetwork remembers what is plugged in.
type fakeNetwork struct {
	mu       sync.Mutex
	attached map[string]vnet.PortConfig
	exposed  map[string]string
	forward  map[string]string
	busy     map[string]bool
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
	snapshot []*nodelink.Instance
	stream   *fakeStream
	syncs    int
	said     map[string]*nodelink.InstanceStatus
	stages   map[string][]string // as told: stage, or stage/reason for the node's own
	firsts   [][]string          // instances of each first report
	roles    int
	roleErr  error
	roleEnd  time.Duration
}

func newFakeCloud() *fakeCloud {
	return &fakeCloud{said: map[string]*nodelink.InstanceStatus{}, stages: map[string][]string{}, roleEnd: time.Hour}
}

var errAway = status.Error(codes.Unavailable, "away")

func (c *fakeCloud) Sync(ctx context.Context, _ ...grpc.CallOption) (nodelink.NodeLink_SyncClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.syncs++
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
	var ids []string
	for _, is := range r.GetInstances() {
		ids = append(ids, is.GetInstanceId()+"="+is.GetState())
		c.said[is.GetInstanceId()] = is
		for _, m := range is.GetMilestones() {
			text := m.GetStage()
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
		return nil, errAway
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

const nodeID = "node-1"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, driver: newFakeDriver(), network: newFakeNetwork(), cloud: newFakeCloud()}
	var err error
	if w.dir, err = os.MkdirTemp("", "ct"); err != nil {
		t.Fatal(err)
	}
	if w.media, err = os.MkdirTemp("/dev/shm", "cloudtwin-test-"); err != nil {
		t.Fatalf("these tests need a memory-backed /dev/shm: %v", err)
	}
	t.Cleanup(func() { _, _ = os.RemoveAll(w.dir), os.RemoveAll(w.media) })
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: nodeID}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, w.key.Public(), w.key)
	if err != nil {
		t.Fatal(err)
	}
	if w.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if w.iam, err = keydelivery.NewAuthority(time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lbvm", "web"} {
		folder := filepath.Join(w.dir, "images", name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{
			"vmlinux": "k", "initramfs.img": "rd",
			"manifest.json": `{"name":"` + name +
				`","cmdline":"quiet","outputs":[{"name":"vmlinux","size":1},{"name":"initramfs.img","size":2}]}`,
		} {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

// start runs a controller until the returned function is called.
func (w *world) start() (c *Controller, stop func()) {
	w.t.Helper()
	cfg := Config{
		NodeID: nodeID, Key: w.key, Driver: w.driver, Network: w.network, Cloud: w.cloud,
		Images: filepath.Join(w.dir, "images"), Dir: filepath.Join(w.dir, "node"), SocketDir: filepath.Join(w.dir, "net"),
		MediaDir: w.media, ColdBoots: 4,
	}
	if w.change != nil {
		w.change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	synctest.Wait()
	return c, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// instance makes one as the cloud would ask for it.
func (w *world) instance(image string) *nodelink.Instance {
	w.next++
	id := fmt.Sprintf("i-%017x", w.next)
	return &nodelink.Instance{
		Id: id, Image: image, MemoryMb: 96, Vcpus: 1, Mac: fmt.Sprintf("02:00:0a:40:00:%02x", 16+w.next),
		PrivateIp: fmt.Sprintf("10.64.0.%d", 16+w.next), Generation: 1, RoleName: "role", UserData: []byte("data"),
	}
}

func (w *world) lbvm() *nodelink.Instance {
	inst := w.instance("lbvm")
	inst.Credential = w.credential(nodeID, inst.GetId())
	return inst
}

// credential seals a new identity; node and id are what it is sealed for.
func (w *world) credential(node, id string) *nodelink.Credential {
	w.t.Helper()
	key, keyPEM, err := keydelivery.NewLBKey()
	if err != nil {
		w.t.Fatal(err)
	}
	now := time.Now()
	cert, err := w.iam.SignLBCert(id, key.Public(), now.Add(-time.Minute), now.Add(time.Hour))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := keydelivery.SealCredential(w.cert, node, id, keydelivery.Identity{CertPEM: cert, Key: keyPEM},
		w.iam.CertificatePEM())
	if err != nil {
		w.t.Fatal(err)
	}
	return &nodelink.Credential{
		SealedKey: c.SealedKey, SealedCert: c.SealedCert, IamCertPem: c.IAMCertPEM, Profile: uint32(c.Profile),
	}
}

// readMedium reads what is in a guest's drive, as the guest would.
func (w *world) readMedium(id string) *keydelivery.Medium {
	w.t.Helper()
	path := w.driver.machine(id).drive()
	info, err := os.Stat(path)
	if err != nil {
		w.t.Fatalf("no medium for %s: %v", id, err)
	}
	if info.Mode().Perm() != 0o600 {
		w.t.Errorf("the medium has mode %v", info.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fsys, err := floppy.Read(f)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := keydelivery.ReadMedium(fsys)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) wantNoMedia() {
	w.t.Helper()
	entries, err := os.ReadDir(w.media)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		w.t.Errorf("%s is left in the media folder", e.Name())
	}
}

func (w *world) wantState(id, want string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.cloud.state(id); got != want {
		w.t.Errorf("%s was reported %q (%s), want %q", id, got, w.cloud.reason(id), want)
	}
}

func copyOf(inst *nodelink.Instance) *nodelink.Instance {
	return proto.Clone(inst).(*nodelink.Instance)
}

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d) // inside a synctest bubble: no real time
	synctest.Wait()
}
