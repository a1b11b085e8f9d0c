package ec2_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

// refusal is the typed reason with which a call was refused.
func refusal(err error) nodelink.Reason {
	refused, ok := nodelink.RefusalOf(err)
	if !ok || status.Code(err) != codes.PermissionDenied {
		return ""
	}
	return refused.Reason
}

// renewed is the node with its next certificate, which it has not shown.
func (c *cloud) renewed(t *testing.T, client nodelink.NodeLinkClient, n *node) *node {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.RenewCertificate(t.Context(), &nodelink.RenewCertificateRequest{CsrDer: csrOf(t, key, n.id)})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(out.GetNodeCertPem())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &node{id: n.id, key: key, cert: cert}
}

func csrOf(t *testing.T, key *ecdsa.PrivateKey, name string) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// ends returns how the cloud ended a connection.
func (l *link) ends() error {
	for {
		if _, err := l.stream.Recv(); err != nil {
			return err
		}
	}
}

func (c *cloud) lbvm(t *testing.T) ec2.Instance {
	t.Helper()
	inst, err := c.Launch(t.Context(), ec2.Launch{AccountID: system, System: true, ImageName: "lbvm",
		UserData: keydelivery.WithKeyword(1, nil), InstanceProfileName: "app"})
	if err != nil {
		t.Fatal(err)
	}
	return inst
}

func TestRemovedNodeLosesEverything(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	client := c.dialAs(t, c.serve(t), n)
	vm := c.lbvm(t)
	l, snapshot := c.sync(t, client)
	if len(snapshot.GetRun()) != 1 {
		t.Fatalf("snapshot %v", snapshot)
	}
	if _, err := client.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: vm.ID}); err != nil {
		t.Fatalf("before the removal: %v", err)
	}
	other := c.addNode(t, "node-2", bigNode())
	ended, err := c.RemoveNode(t.Context(), "node-1", "uid 0", "its disk fails")
	if err != nil || ended != 1 {
		t.Fatalf("removal: %d ended, %v", ended, err)
	}
	if err := l.ends(); refusal(err) != nodelink.ReasonRemoved || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("its connection ended with %v", err)
	}
	inst := c.wantState(t, vm.ID, ec2.Terminated)
	if !strings.Contains(inst.Reason.Message, "node-1 was removed: its disk fails") || inst.Credential != nil ||
		len(inst.Exposures) != 0 {
		t.Errorf("its instance: %+v", inst)
	}
	_, err = client.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: vm.ID})
	if refusal(err) != nodelink.ReasonRemoved {
		t.Errorf("RoleCredentials: %v", err)
	}
	_, err = client.RenewCertificate(t.Context(), &nodelink.RenewCertificateRequest{CsrDer: csrOf(t, n.key, n.id)})
	if refusal(err) != nodelink.ReasonRemoved {
		t.Errorf("RenewCertificate: %v", err)
	}
	calls := map[string]bool{}
	for _, ev := range c.events("node.denied") {
		if ev["reason"] != string(nodelink.ReasonRemoved) || ev["serial"] != n.cert.SerialNumber.Text(16) {
			t.Errorf("journal: %v", ev)
		}
		calls[ev["call"]] = true
	}
	if !calls["RoleCredentials"] || !calls["RenewCertificate"] {
		t.Errorf("denied calls in the journal: %v", calls)
	}
	for range 5 {
		if vm := c.lbvm(t); vm.NodeID != other.id {
			t.Errorf("a launch went to %s", vm.NodeID)
		}
	}
	if _, err := c.RemoveNode(t.Context(), "node-1", "", "again"); !errors.Is(err, placement.ErrNoNode) {
		t.Errorf("again: %v", err)
	}
	// The control: what the other node has is its own still.
	if l, snapshot := c.sync(t, c.dialAs(t, c.serve(t), other)); len(snapshot.GetRun()) != 5 {
		t.Errorf("node-2 is told of %d instances", len(snapshot.GetRun()))
	} else {
		l.cancel()
	}
}

// A process that was killed between the two halves of a removal leaves instances of a node that is not there.
func TestOrphansEnd(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	c.addNode(t, "node-2", bigNode())
	byNode := map[string]string{}
	for len(byNode) < 2 {
		id := c.run(t, demo)[0]
		inst, err := c.Instance(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		byNode[inst.NodeID] = id
	}
	if err := c.placement.Remove(t.Context(), "node-1", "", "half of it"); err != nil {
		t.Fatal(err)
	}
	again, err := ec2.New(t.Context(), ec2.Config{Store: c.store, IAM: c.iam, Placement: c.placement, Journal: c.journal,
		Clock: c.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	c.wantState(t, byNode["node-1"], ec2.Terminated)
	if inst, err := c.Instance(t.Context(), byNode["node-2"]); err != nil || inst.State != ec2.Pending {
		t.Errorf("the other node's: %s, %v", inst.State, err)
	}
}

func TestRenewalOverTheWire(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	address := c.serve(t)
	client := c.dialAs(t, address, n)
	l, _ := c.sync(t, client)
	if err := c.placement.AskRenewal(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if d := l.recv(); !d.GetRenewCertificate() {
		t.Fatalf("told %v, want the wish to renew", d)
	}
	next := c.renewed(t, client, n)
	before := c.lbvm(t)
	d := l.recv()
	if _, err := credentialOf(d).Open(n.key, n.id, before.ID); err != nil {
		t.Errorf("sealed before the next one was shown: %v", err)
	}

	nextClient := c.dialAs(t, address, next)
	l2, snapshot := c.sync(t, nextClient)
	if snapshot.GetRenewCertificate() {
		t.Error("it is to renew once more")
	}
	if err := l.ends(); refusal(err) != nodelink.ReasonReplaced && status.Code(err) != codes.Aborted {
		t.Errorf("the old connection ended with %v", err)
	}
	after := c.lbvm(t)
	if _, err := credentialOf(l2.recv()).Open(next.key, n.id, after.ID); err != nil {
		t.Errorf("sealed after it was shown: %v", err)
	}
	_, err := client.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: before.ID})
	if refusal(err) != nodelink.ReasonReplaced {
		t.Errorf("the certificate before: %v", err)
	}
	_, err = nextClient.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: before.ID})
	if err != nil {
		t.Errorf("the present certificate: %v", err)
	}
	// What a node may not ask for.
	c.addNode(t, "node-2", bigNode())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = nextClient.RenewCertificate(t.Context(), &nodelink.RenewCertificateRequest{CsrDer: csrOf(t, key, "node-2")})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("another node's name: %v", err)
	}
}

// A wish that came while the node was away is told with the snapshot.
func TestRenewalIsAskedForLater(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	if err := c.placement.AskRenewal(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if _, snapshot := c.sync(t, c.dialAs(t, c.serve(t), n)); !snapshot.GetRenewCertificate() {
		t.Error("the snapshot does not tell")
	}
}

// A report over a connection whose certificate was replaced, ended or removed meanwhile changes nothing.
func TestReportsNeedAGoodCertificate(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	id := c.run(t, demo)[0]
	l, _ := c.sync(t, c.dialAs(t, c.serve(t), n))
	c.clock.Add(3 * 365 * 24 * 60 * 60 * 1e9)
	if err := l.stream.Send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(id, "stopped")}}); err != nil {
		t.Fatal(err)
	}
	if err := l.ends(); refusal(err) != nodelink.ReasonExpired {
		t.Errorf("a certificate that ended: %v", err)
	}
	if inst, _ := c.Instance(t.Context(), id); inst.State != ec2.Pending {
		t.Errorf("its report made the instance %s", inst.State)
	}
}

func credentialOf(d *nodelink.Desired) *keydelivery.Credential {
	for _, inst := range d.GetRun() {
		if sent := inst.GetCredential(); sent != nil {
			return &keydelivery.Credential{SealedKey: sent.GetSealedKey(), SealedCert: sent.GetSealedCert(),
				IAMCertPEM: sent.GetIamCertPem(), Profile: keydelivery.Profile(sent.GetProfile())}
		}
	}
	panic(fmt.Sprintf("no credential in %v", d))
}
