package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

const life = 90 * 24 * time.Hour

// authority is a cloud as far as renewals go: one node, whose present and next NODECERT it knows.
type authority struct {
	t       *testing.T
	key     *ecdsa.PrivateKey
	ca      *x509.Certificate
	present *x509.Certificate
	next    *x509.Certificate
	serial  int64
	asks    atomic.Int64
	used    atomic.Int64
	away    atomic.Bool // it does not answer
	deaf    atomic.Bool // it does what it is asked to, and its answer is lost
}

var errAway = status.Error(codes.Unavailable, "away")

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	a.ca = a.sign(a.key, "CA")
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(key *ecdsa.PrivateKey, name string) *x509.Certificate {
	a.t.Helper()
	a.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now(), NotAfter: time.Now().Add(life), BasicConstraintsValid: true, IsCA: name == "CA",
		KeyUsage: x509.KeyUsageCertSign}
	parent := a.ca
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// enrol makes a folder with an identity.
func (a *authority) enrol(dir string) {
	a.t.Helper()
	i := &identity{id: "node-1", key: newKey(a.t), ca: a.ca}
	i.cert = a.sign(i.key, i.id)
	a.present = i.cert
	if err := i.save(dir); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) ask(_ context.Context, csrDER []byte) ([]byte, error) {
	a.asks.Add(1)
	if a.away.Load() {
		return nil, errAway
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		a.t.Fatal(err)
	}
	pub := csr.PublicKey.(*ecdsa.PublicKey) //nolint:forcetypeassert // the node's own
	if a.next == nil || !pub.Equal(a.next.PublicKey) {
		a.next = a.sign(&ecdsa.PrivateKey{PublicKey: *pub}, csr.Subject.CommonName)
	}
	if a.deaf.Load() {
		return nil, errAway
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.next.Raw}), nil
}

func (a *authority) show(_ context.Context, next *identity, _ []byte) (func(), error) {
	switch {
	case a.away.Load():
		return nil, errAway
	case a.next != nil && next.cert.Equal(a.next):
		a.present, a.next = a.next, nil
	case !next.cert.Equal(a.present):
		return nil, (&nodelink.RefusedError{Reason: nodelink.ReasonReplaced, Serial: serialOf(next.cert)}).GRPCStatus().Err()
	}
	if a.deaf.Load() {
		return nil, errAway
	}
	return func() { a.used.Add(1) }, nil
}

// process is a node's process on dir, as far as renewals go.
func (a *authority) process(dir string) *renewer {
	a.t.Helper()
	ring, err := openKeyring(dir, time.Now())
	if err != nil {
		a.t.Fatal(err)
	}
	return &renewer{ring: ring, ask: a.ask, show: a.show, asked: make(chan struct{}, 1),
		needs: func(*ecdsa.PrivateKey) bool { return false }, log: slog.New(slog.DiscardHandler)}
}

// run runs r until the returned function is called.
func run(r *renewer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", e.Name(), info.Mode(), err)
		}
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func (a *authority) wantPresent(r *renewer, when string) {
	a.t.Helper()
	if present, next := r.ring.now(); !present.cert.Equal(a.present) || next != nil {
		a.t.Errorf("%s: the node has %s and next %v, the cloud has %s", when, serialOf(present.cert), next,
			serialOf(a.present))
	}
}
