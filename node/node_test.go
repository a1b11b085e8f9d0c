package node_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// emptyDriver is a hypervisor without machines.
type emptyDriver struct{}

func (emptyDriver) Start(context.Context, hypervisor.Spec) (hypervisor.Machine, error) {
	return nil, hypervisor.ErrUnavailable
}
func (emptyDriver) Find(context.Context, string) (hypervisor.Machine, error) {
	return nil, hypervisor.ErrNotFound
}
func (emptyDriver) List(context.Context) ([]hypervisor.Machine, error) { return nil, nil }
func (emptyDriver) Events(ctx context.Context) (<-chan hypervisor.Event, error) {
	ch := make(chan hypervisor.Event)
	context.AfterFunc(ctx, func() { close(ch) })
	return ch, nil
}
func (emptyDriver) Info() hypervisor.Info {
	return hypervisor.Info{Driver: "empty", Version: "1", Accelerator: "none"}
}
func (emptyDriver) Close() error { return nil }

// cloud is the other end of nodelink with a CA of its own. It enrols whoever has its one token.
type cloud struct {
	nodelink.UnimplementedEnrolmentServer
	nodelink.UnimplementedNodeLinkServer
	t       *testing.T
	key     *ecdsa.PrivateKey
	ca      *x509.Certificate
	token   string
	address string
	reports chan *nodelink.Report

	mu    sync.Mutex
	used  bool
	taken string                        // a name that is in use
	lie   func(*nodelink.EnrolResponse) // alters the answer
}

func (c *cloud) sign(template *x509.Certificate, pub any) []byte {
	c.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	template.BasicConstraintsValid = true
	parent := c.ca
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return der
}

func startCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t, reports: make(chan *nodelink.Report, 64)}
	var err error
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der := c.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign},
		c.key.Public())
	if c.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	token := nodelink.Token{ID: "0011223344556677", CAHash: sha256.Sum256(der)}
	c.token = token.Text()
	leaf := c.sign(&x509.Certificate{DNSNames: []string{nodelink.ServerName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, c.key.Public())
	pool := x509.NewCertPool()
	pool.AddCert(c.ca)
	server := nodelink.NewServer(nodelink.ServerTLS(tls.Certificate{Certificate: [][]byte{leaf, der}, PrivateKey: c.key},
		pool))
	nodelink.RegisterEnrolmentServer(server, c)
	nodelink.RegisterNodeLinkServer(server, c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = l.Addr().String()
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return c
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (c *cloud) Enrol(_ context.Context, in *nodelink.EnrolRequest) (*nodelink.EnrolResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in.GetToken() != c.token || c.used {
		return nil, status.Error(codes.PermissionDenied, "enrolment token refused")
	}
	if in.GetNodeId() == c.taken {
		return nil, status.Error(codes.AlreadyExists, "a node with this id is enrolled")
	}
	csr, err := x509.ParseCertificateRequest(in.GetCsrDer())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "request")
	}
	c.used = true
	cert := c.sign(&x509.Certificate{Subject: pkix.Name{CommonName: in.GetNodeId()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, csr.PublicKey)
	out := &nodelink.EnrolResponse{NodeCertPem: pemOf(cert), CloudCaPem: pemOf(c.ca.Raw)}
	if c.lie != nil {
		c.lie(out)
	}
	return out, nil
}

func (c *cloud) Sync(stream nodelink.NodeLink_SyncServer) error {
	peer, err := nodelink.NodeFrom(stream.Context())
	if err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if r.GetFirst() {
			r.GetNode().Hypervisor += " of " + peer.NodeID
			if err := stream.Send(&nodelink.Desired{Snapshot: true}); err != nil {
				return err
			}
		}
		c.reports <- r
	}
}

func (c *cloud) config(t *testing.T) node.Config {
	t.Helper()
	images := filepath.Join(t.TempDir(), "images")
	if err := os.MkdirAll(filepath.Join(images, "web"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(images, "web", "manifest.json"), []byte(`{"name":"web"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return node.Config{
		ID: "node-1", Dir: filepath.Join(t.TempDir(), "node"), CloudAddress: c.address, Token: c.token, Images: images,
		Driver: emptyDriver{}, MemoryMB: 1024, Cores: 2,
	}
}

func TestNodeEnrolsAndComesBack(t *testing.T) {
	c := startCloud(t)
	cfg := c.config(t)
	n, err := node.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := <-c.reports
	st := r.GetNode()
	if !r.GetFirst() || st.GetMemoryMbTotal() != 1024 || st.GetMemoryMbFree() == 0 || st.GetCores() != 2 ||
		st.GetHypervisor() != "empty 1 of node-1" || !strings.HasPrefix(st.GetImages()["web"], "sha256:") {
		t.Errorf("first report %v", r)
	}
	if _, err := node.Start(t.Context(), cfg); !errors.Is(err, node.ErrBusy) {
		t.Errorf("a second node on the folder: %v", err)
	}
	for name, mode := range map[string]os.FileMode{"": 0o700, "node.key": 0o600, "node.crt": 0o600, "net": 0o700} {
		info, err := os.Stat(filepath.Join(cfg.Dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q has mode %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	if err := n.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	cfg.Token, cfg.ID = "", ""
	if n, err = node.Start(t.Context(), cfg); err != nil {
		t.Fatalf("start without a token: %v", err)
	}
	if n.ID() != "node-1" {
		t.Errorf("id %s", n.ID())
	}
	<-c.reports
	if err := n.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	left, err := filepath.Glob("/dev/shm/cloudtwin-*/owner")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if owner, _ := os.ReadFile(path); string(owner) == cfg.Dir {
			t.Errorf("%s is left", path)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	other := startCloud(t)
	tests := []struct {
		name   string
		change func(t *testing.T, c *cloud, cfg *node.Config)
		want   error
		word   string
	}{
		{name: "no token", want: node.ErrIdentity, word: "token",
			change: func(_ *testing.T, _ *cloud, cfg *node.Config) { cfg.Token = "" }},
		{name: "no token at all", want: nodelink.ErrToken,
			change: func(_ *testing.T, _ *cloud, cfg *node.Config) { cfg.Token = "x" }},
		{name: "used token", want: node.ErrIdentity, word: "refused",
			change: func(_ *testing.T, c *cloud, _ *node.Config) { c.used = true }},
		{name: "name in use", want: node.ErrIdentity, word: "another name",
			change: func(_ *testing.T, c *cloud, cfg *node.Config) { c.taken = cfg.ID }},
		{name: "token of another cloud", word: "context deadline exceeded",
			change: func(_ *testing.T, _ *cloud, cfg *node.Config) { cfg.Token = other.token }},
		{name: "certificate for another node", word: "not for this node",
			change: func(_ *testing.T, c *cloud, _ *node.Config) {
				c.lie = func(r *nodelink.EnrolResponse) {
					r.NodeCertPem = pemOf(c.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "node-2"}}, c.key.Public()))
				}
			}},
		{name: "another CA in the answer", word: "token names", change: func(_ *testing.T, c *cloud, _ *node.Config) {
			c.lie = func(r *nodelink.EnrolResponse) { r.CloudCaPem = pemOf(other.ca.Raw) }
		}},
		{name: "damaged certificate", want: node.ErrIdentity, word: "node.crt",
			change: func(t *testing.T, _ *cloud, cfg *node.Config) {
				if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(cfg.Dir, "node.crt"), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "certificate without key", want: node.ErrIdentity, word: "damaged",
			change: func(t *testing.T, c *cloud, cfg *node.Config) {
				if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"node.crt", "cloud-ca.crt"} {
					if err := os.WriteFile(filepath.Join(cfg.Dir, name), pemOf(c.ca.Raw), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}},
		{name: "folder that is a file", word: "node folder", change: func(t *testing.T, _ *cloud, cfg *node.Config) {
			cfg.Dir = filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(cfg.Dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "run folder that others can enter", word: "private",
			change: func(t *testing.T, _ *cloud, cfg *node.Config) {
				cfg.RunDir = t.TempDir()
				if err := os.Chmod(cfg.RunDir, 0o755); err != nil {
					t.Fatal(err)
				}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := startCloud(t)
			cfg := c.config(t)
			tt.change(t, c, &cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			n, err := node.Start(ctx, cfg)
			if err == nil {
				_ = n.Close()
				t.Fatal("it started")
			}
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.word) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.word)
			}
			if strings.Contains(err.Error(), c.token) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	_, err := node.Start(t.Context(), node.Config{ID: "a/b", MemoryMB: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"Dir", "CloudAddress", "Images", "Driver", "node id", "MemoryMB"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
}

func TestStaleRunFoldersAreWiped(t *testing.T) {
	c := startCloud(t)
	stale, err := os.MkdirTemp("/dev/shm", "cloudtwin-"+strconv.Itoa(os.Getuid())+"-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(stale) })
	if err := os.MkdirAll(filepath.Join(stale, "media"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"owner": filepath.Join(t.TempDir(), "gone"), "media/i-1-1.img": "a key"} {
		if err := os.WriteFile(filepath.Join(stale, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	n, err := node.Start(t.Context(), c.config(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run folder of a node that is gone is still there: %v", err)
	}
}
