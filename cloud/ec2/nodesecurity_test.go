package ec2_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func TestANodeHasPowerOverItsOwnInstancesOnly(t *testing.T) {
	c := start(t)
	one := c.addNode(t, "node-1", bigNode())
	ids := c.run(t, demo, "IamInstanceProfile.Name=app")
	two := c.addNode(t, "node-2", bigNode())
	address := c.serve(t)
	mine, theirs := c.dialAs(t, address, one), c.dialAs(t, address, two)

	l, snapshot := c.sync(t, theirs)
	if len(snapshot.GetRun()) != 0 {
		t.Fatalf("node-2 is told of %v", snapshot.GetRun())
	}
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(ids[0], "stopped", "forged"),
		says("i-unknown", "running")}})
	eventually(t, func() error {
		if n := len(c.events("node.report_refused")); n != 2 {
			return fmt.Errorf("%d refused reports in the journal, want 2", n)
		}
		return nil
	})
	if inst, _ := c.Instance(t.Context(), ids[0]); inst.State != ec2.Pending || len(inst.Milestones) != 0 {
		t.Errorf("another node's word changed the instance: %+v", inst)
	}
	_, err := theirs.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: ids[0]})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("another node's instance: %v", err)
	}
	if denied := c.events("node.denied"); len(denied) != 1 || denied[0]["instance"] != ids[0] {
		t.Errorf("the refusal is not recorded: %v", denied)
	}
	// The control: its own node gets them.
	creds, err := mine.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: ids[0]})
	if err != nil || creds.GetAccessKeyId() != "ASIA"+ids[0] || creds.GetToken() != "app-role" {
		t.Errorf("its own instance: %v, %v", creds.GetAccessKeyId(), err)
	}
	c.iam.roleError = model.Errorf("NoSuchEntity", http.StatusNotFound, "gone")
	if _, err = mine.RoleCredentials(t.Context(),
		&nodelink.RoleCredentialsRequest{InstanceId: ids[0]}); status.Code(err) != codes.NotFound {
		t.Errorf("a role that is gone: %v", err)
	}
	if err := c.Terminate(t.Context(), demo, ids[0]); err != nil {
		t.Fatal(err)
	}
	if _, err = mine.RoleCredentials(t.Context(),
		&nodelink.RoleCredentialsRequest{InstanceId: ids[0]}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("an instance that is ending: %v", err)
	}
}

func TestWrongCertificatesAreRefused(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	address := c.serve(t)
	foreignKey, foreignCert := selfSigned(t, "node-1", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
	server, err := c.ca.SignServer("node-1")
	if err != nil {
		t.Fatal(err)
	}
	c.clock.Add(-3 * 365 * 24 * time.Hour)
	expired := c.addNode(t, "node-3", bigNode())
	c.clock.Add(3 * 365 * 24 * time.Hour)
	removed := c.addNode(t, "node-2", bigNode())
	if err := c.placement.Remove(t.Context(), "node-2", "somebody", "it is old"); err != nil {
		t.Fatal(err)
	}
	roots := c.ca.Pool()
	own := tls.Certificate{Certificate: [][]byte{n.cert.Raw}, PrivateKey: n.key}
	tests := []struct {
		name   string
		config *tls.Config
		want   codes.Code
	}{
		{name: "none", config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: nodelink.ServerName},
			want: codes.Unauthenticated},
		{name: "self-signed", config: insisting(roots,
			tls.Certificate{Certificate: [][]byte{foreignCert.Raw}, PrivateKey: foreignKey}), want: codes.Unavailable},
		{name: "a server's", config: nodelink.NodeTLS(server, roots), want: codes.Unavailable},
		{name: "of a removed node", config: nodelink.NodeTLS(tls.Certificate{Certificate: [][]byte{removed.cert.Raw},
			PrivateKey: removed.key}, roots), want: codes.PermissionDenied},
		{name: "expired", config: nodelink.NodeTLS(tls.Certificate{Certificate: [][]byte{expired.cert.Raw},
			PrivateKey: expired.key}, roots), want: codes.Unavailable},
		{name: "cloud of another CA", config: nodelink.NodeTLS(own, poolOf(foreignCert)), want: codes.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := nodelink.NewNodeLinkClient(dial(t, address, tt.config))
			_, err := client.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: "i-1"})
			if status.Code(err) != tt.want {
				t.Errorf("RoleCredentials: %v, want %v", err, tt.want)
			}
			stream, err := client.Sync(t.Context())
			if err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != tt.want {
				t.Errorf("Sync: %v, want %v", err, tt.want)
			}
		})
	}
	// The control.
	_, err = c.dialAs(t, address, n).RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: "i-1"})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("an enrolled node asking for an unknown instance: %v", err)
	}
}

func TestEnrolmentOverTheWire(t *testing.T) {
	c := start(t)
	address := c.serve(t)
	text, err := c.placement.NewToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token, err := nodelink.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: "node-9"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	stranger := token
	stranger.CAHash[0] ^= 1
	in := &nodelink.EnrolRequest{Token: text, NodeId: "node-9", CsrDer: csr}
	if _, err := nodelink.NewEnrolmentClient(dial(t, address, nodelink.EnrolTLS(stranger))).Enrol(t.Context(),
		in); status.Code(err) != codes.Unavailable {
		t.Errorf("a cloud that the token does not name: %v", err)
	}
	client := nodelink.NewEnrolmentClient(dial(t, address, nodelink.EnrolTLS(token)))
	if _, err := client.Enrol(t.Context(), &nodelink.EnrolRequest{Token: text,
		NodeId: "node-9"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("without a request: %v", err)
	}
	if _, err := client.Enrol(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Enrol(t.Context(), in); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the token again: %v", err)
	}
}

func selfSigned(t *testing.T, name string, usage []x509.ExtKeyUsage) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: usage, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// insisting is a client that shows its certificate although the server asks for another CA's.
func insisting(roots *x509.CertPool, cert tls.Certificate) *tls.Config {
	config := nodelink.NodeTLS(cert, roots)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return config
}

func poolOf(cert *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}
