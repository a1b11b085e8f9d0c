package controller

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/floppy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a node's surroundings. Its controllers come and go.
type world struct {
	t       testing.TB
	driver  *fakeDriver
	network *fakeNetwork
	cloud   *fakeCloud
	key     *ecdsa.PrivateKey
	oldKeys []*ecdsa.PrivateKey
	cert    *x509.Certificate
	iam     *keydelivery.Authority
	dir     string
	media   string
	change  func(*Config)
	next    int
}

const nodeID = "node-1"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, driver: newFakeDriver(), network: newFakeNetwork(), cloud: newFakeCloud()}
	var err error
	if w.dir, err = os.MkdirTemp("", "ct"); err != nil {
		t.Fatal(err)
	}
	if w.media, err = os.MkdirTemp("/dev/shm", "cloudtwin-test-"); err != nil {
		t.Fatalf("these tests need a memory-backed /dev/shm: %v", err)
	}
	t.Cleanup(w.remove)
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

func (w *world) remove() { _, _ = os.RemoveAll(w.dir), os.RemoveAll(w.media) }

// start runs a controller until the returned function is called.
func (w *world) start() (c *Controller, stop func()) {
	w.t.Helper()
	cfg := Config{
		NodeID: nodeID, Keys: w.keys, Driver: w.driver, Network: w.network, Cloud: w.cloud,
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
	if _, real := w.t.(*testing.B); !real {
		synctest.Wait()
	}
	return c, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// keys are the node's, the newest first.
func (w *world) keys() []*ecdsa.PrivateKey { return append([]*ecdsa.PrivateKey{w.key}, w.oldKeys...) }

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
