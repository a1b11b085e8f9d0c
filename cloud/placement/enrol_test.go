package placement_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

func TestCASurvivesARestartAndSignsApart(t *testing.T) {
	f := start(t, nil)
	again, err := placement.OpenCA(t.Context(), placement.CAConfig{Store: f.store, Seal: seal, Open: unseal})
	if err != nil {
		t.Fatal(err)
	}
	if !again.Certificate().Equal(f.ca.Certificate()) {
		t.Error("a second opening made another CA")
	}
	server, err := again.SignServer(nodelink.ServerName, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(server.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	opts := x509.VerifyOptions{Roots: f.ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, host := range []string{nodelink.ServerName, "127.0.0.1"} {
		opts.DNSName = host
		if _, err := leaf.Verify(opts); err != nil {
			t.Errorf("server certificate for %s: %v", host, err)
		}
	}
	node := f.addNode(t, "node-1", placement.Status{})
	opts.DNSName = ""
	if _, err := node.Verify(opts); err == nil {
		t.Error("a NODECERT passes as a server's certificate")
	}
	opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := node.Verify(opts); err != nil {
		t.Errorf("NODECERT: %v", err)
	}
	if node.KeyUsage&x509.KeyUsageKeyAgreement == 0 || node.IsCA || node.Subject.CommonName != "node-1" {
		t.Errorf("NODECERT has usage %b, CA %v, name %s", node.KeyUsage, node.IsCA, node.Subject.CommonName)
	}
	if _, err := placement.OpenCA(t.Context(), placement.CAConfig{
		Store: f.store, Seal: seal, Open: func(string, string) (keydelivery.Secret, error) {
			return nil,
				errors.New("wrong root key")
		},
	}); err == nil {
		t.Error("the CA opened without its key")
	}
}

func TestEnrolRefuses(t *testing.T) {
	f := start(t, nil)
	ctx := t.Context()
	used, err := f.NewToken(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Enrol(ctx, used, "first", request(t, newKey(t), "first")); err != nil {
		t.Fatal(err)
	}
	expired, err := f.NewToken(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.clock.Add(2 * time.Hour)
	fresh, err := f.NewToken(ctx)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := nodelink.ParseToken(fresh)
	if err != nil {
		t.Fatal(err)
	}
	forged.Secret[0] ^= 1
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	broken := request(t, newKey(t), "node-2")
	broken[len(broken)-1] ^= 1
	tests := []struct {
		name, token, id string
		csr             []byte
		want            error
	}{
		{name: "used token", token: used, id: "node-2", csr: request(t, newKey(t), "node-2"),
			want: placement.ErrTokenRefused},
		{name: "expired token", token: expired, id: "node-2", csr: request(t, newKey(t), "node-2"),
			want: placement.ErrTokenRefused},
		{name: "forged token", token: forged.Text(), id: "node-2", csr: request(t, newKey(t), "node-2"),
			want: placement.ErrTokenRefused},
		{name: "no token", id: "node-2", csr: request(t, newKey(t), "node-2"), want: placement.ErrTokenRefused},
		{name: "taken id", token: fresh, id: "first", csr: request(t, newKey(t), "first"), want: placement.ErrNodeExists},
		{name: "other name in the request", token: fresh, id: "node-2", csr: request(t, newKey(t), "first"),
			want: placement.ErrRequest},
		{name: "malformed id", token: fresh, id: "a/b", csr: request(t, newKey(t), "a/b"), want: placement.ErrRequest},
		{name: "RSA key", token: fresh, id: "node-2", csr: request(t, rsaKey, "node-2"), want: placement.ErrRequest},
		{name: "P-384 key", token: fresh, id: "node-2", csr: request(t, p384, "node-2"), want: placement.ErrRequest},
		{name: "broken signature", token: fresh, id: "node-2", csr: broken, want: placement.ErrRequest},
		{name: "no request", token: fresh, id: "node-2", want: placement.ErrRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := f.Enrol(ctx, tt.token, tt.id, tt.csr); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	// The control: the token that the refusals did not use up still enrols.
	if _, err := f.Enrol(ctx, fresh, "node-2", request(t, newKey(t), "node-2")); err != nil {
		t.Errorf("fresh token: %v", err)
	}
	for _, ev := range f.journal.Events() {
		for _, v := range ev.Attributes {
			if strings.Contains(v, "ctn1.") {
				t.Errorf("the journal holds a token: %v", ev)
			}
		}
	}
}

func TestOneTokenEnrolsOneNode(t *testing.T) {
	f := start(t, nil)
	token, err := f.NewToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	won := make(chan string, 8)
	for i := range 8 {
		id := fmt.Sprintf("node-%d", i)
		csr := request(t, newKey(t), id)
		wg.Go(func() {
			if _, err := f.Enrol(context.Background(), token, id, csr); err == nil {
				won <- id
			} else if !errors.Is(err, placement.ErrTokenRefused) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 || len(f.Nodes()) != 1 {
		t.Errorf("%d enrolled, %d nodes; want 1", len(won), len(f.Nodes()))
	}
}

func TestAuthenticate(t *testing.T) {
	f := start(t, nil)
	ctx := t.Context()
	cert := f.addNode(t, "node-1", placement.Status{})
	other := f.addNode(t, "node-2", placement.Status{})
	if err := f.Authenticate(ctx, "node-1", cert); err != nil {
		t.Errorf("its own certificate: %v", err)
	}
	if err := f.Authenticate(ctx, "node-1", other); reason(err) != nodelink.ReasonReplaced {
		t.Errorf("another's certificate: %v", err)
	}
	if err := f.Authenticate(ctx, "node-3", cert); reason(err) != nodelink.ReasonUnknown {
		t.Errorf("a name that nobody has: %v", err)
	}
	f.clock.Add(3 * 365 * 24 * time.Hour)
	if err := f.Authenticate(ctx, "node-1", cert); reason(err) != nodelink.ReasonExpired {
		t.Errorf("after its end: %v", err)
	}
}

// reason is why a NODECERT was refused; empty for another error.
func reason(err error) nodelink.Reason {
	refused, _ := nodelink.RefusalOf(err)
	if refused == nil {
		return ""
	}
	return refused.Reason
}
