package bundle

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/events"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

const account = "123456789012"

// openIAM opens IAM and the cloud's CA on a store, as a cloud does at its start.
func openIAM(t *testing.T, s *store.Store, rootKey string) (*iam.Service, *placement.CA) {
	t.Helper()
	service, err := iam.New(t.Context(), iam.Config{Store: s, RootKeyFile: rootKey,
		MinDeliveryProfile: keydelivery.Profile1})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := placement.OpenCA(t.Context(), placement.CAConfig{Store: s, Seal: service.Seal, Open: service.Open})
	if err != nil {
		t.Fatal(err)
	}
	return service, ca
}

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// filled is a cloud's store with certificates of each kind, an access key, and instances.
func filled(t *testing.T, dir string) (*store.Store, string) {
	t.Helper()
	s, rootKey := openStore(t, filepath.Join(dir, "etcd")), filepath.Join(dir, "root.key")
	service, _ := openIAM(t, s, rootKey)
	defer service.Close()
	if _, err := service.EnsureAccount(t.Context(), account, "a", false); err != nil {
		t.Fatal(err)
	}
	user := authn.WithCaller(t.Context(), authn.Caller{Kind: authn.KindRoot, AccountID: account})
	ca, err := pki.NewAuthority("CA")
	if err != nil {
		t.Fatal(err)
	}
	for i, algorithm := range []pki.Algorithm{pki.RSA2048, pki.P256} {
		pair, err := ca.Server(algorithm, "www.example.test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := service.UploadServerCertificate(user, &iammodel.UploadServerCertificateInput{
			ServerCertificateName: model.Ptr(fmt.Sprintf("c%d", i)),
			CertificateBody:       model.Ptr(string(pair.CertPEM)), PrivateKey: model.Ptr(string(pair.KeyPEM)),
			CertificateChain: model.Ptr(string(ca.PEM))}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := service.RotateIAMCertificate(t.Context(), keydelivery.Profile2, "a test"); err != nil {
		t.Fatal(err)
	}
	if _, err := service.CreateUser(user, &iammodel.CreateUserInput{UserName: model.Ptr("alice")}); err != nil {
		t.Fatal(err)
	}
	if _, err := service.CreateAccessKey(user, &iammodel.CreateAccessKeyInput{UserName: model.Ptr("alice")}); err != nil {
		t.Fatal(err)
	}
	err = s.Restore(t.Context(), []store.Raw{
		{Key: "ec2-instances/i-1", Value: []byte(`{"ID":"i-1","System":true,"UserData":"bGI=","NodeID":"node-1",` +
			`"Credential":{"SealedKey":"eyJhbGciOiJkaXIifQ..aaaa.bbbb.cccc"}}`)},
		{Key: "ec2-instances/i-2", Value: []byte(`{"ID":"i-2","UserData":"bXkgcGFzc3dvcmQ=","PrivateIP":"10.64.0.2"}`)},
		{Key: "elb-load-balancers/123456789012/shop", Value: []byte(
			`{"AccountID":"123456789012","Name":"shop","LBVMs":[{"InstanceID":"i-1"}]}`)},
		{Key: "placement-nodes/node-1", Value: []byte(`{"ID":"node-1","Status":{"MemoryMBTotal":2048}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, rootKey
}

// TestACloudStartsOnABundlesRecords carries a cloud's records away and opens them with the test root key: everything
// is there and fits together, and no key or secret is the cloud's own.
func TestACloudStartsOnABundlesRecords(t *testing.T) {
	dir := t.TempDir()
	s, rootKey := filled(t, dir)
	own, err := iam.OperatorKeys(t.Context(), s, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	src := state(t)
	src.Records = s
	keys, err := leakscan.StateSecrets(t.Context(), s, dir)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d secrets to look for, %v, want an access key's and the token's mark", len(keys), err)
	}
	for name, secret := range own {
		key, err := leakscan.NewKey(name, secret)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	path := filepath.Join(t.TempDir(), "b.zip")
	if _, err := Write(t.Context(), path, src, keys); err != nil {
		t.Fatal(err)
	}
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	records, err := b.Records()
	if err != nil {
		t.Fatal(err)
	}

	copied, copiedKey := openStore(t, filepath.Join(t.TempDir(), "etcd")), filepath.Join(t.TempDir(), "root.key")
	if err := records.Load(t.Context(), copied, copiedKey); err != nil {
		t.Fatal(err)
	}
	service, _ := openIAM(t, copied, copiedKey)
	defer service.Close()
	theirs, err := iam.OperatorKeys(t.Context(), copied, copiedKey)
	if err != nil {
		t.Fatal(err)
	}
	if len(theirs) != len(own) {
		t.Errorf("%d keys, the cloud had %d", len(theirs), len(own))
	}
	known := map[string]bool{}
	for _, secret := range own {
		known[string(secret)] = true
	}
	for name, secret := range theirs {
		if known[string(secret)] {
			t.Errorf("%s is the cloud's own", name)
		}
	}
	checkPairs(t, copied, theirs)
	secrets, err := iam.OperatorSecrets(t.Context(), copied, copiedKey)
	if err != nil || len(secrets) != 1 {
		t.Errorf("%d access keys, %v, want 1", len(secrets), err)
	}
	checkCopies(t, records)
	if topology, err := b.Topology(); err != nil || len(topology.Guests) != 2 || topology.Nodes[0].MemoryMB != 2048 ||
		topology.facts()["i-1"]["load balancer"] != "123456789012/shop at " {
		t.Errorf("topology %+v, %v", topology, err)
	}

	// The same cloud's next bundle has the same test keys, of what did not change.
	again := filepath.Join(t.TempDir(), "b.zip")
	if _, err := Write(t.Context(), again, src, keys); err != nil {
		t.Fatal(err)
	}
	second, err := Open(again)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	more, err := second.Records()
	if err != nil || string(more.RootKey) != string(records.RootKey) ||
		find(t, more, "placement-ca/ca")["CertificateDER"] != find(t, records, "placement-ca/ca")["CertificateDER"] {
		t.Errorf("another root key or CA than before, %v", err)
	}
}

// checkPairs holds every server certificate against its chain and its key.
func checkPairs(t *testing.T, s *store.Store, keys map[string]keydelivery.Secret) {
	t.Helper()
	err := s.Dump(t.Context(), func(raw store.Raw) error {
		if !strings.HasPrefix(raw.Key, "iam-server-certificates/") {
			return nil
		}
		var record struct{ Name, Body, Chain string }
		if err := json.Unmarshal(raw.Value, &record); err != nil {
			return err
		}
		if _, err := tls.X509KeyPair([]byte(record.Body), keys["USERPK of arn:aws:iam::"+account+
			":server-certificate/"+record.Name]); err != nil {
			t.Errorf("%s: %v", record.Name, err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(record.Chain))
		block, _ := pem.Decode([]byte(record.Body))
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "www.example.test"})
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// checkCopies looks at what is left out.
func checkCopies(t *testing.T, records *Records) {
	t.Helper()
	lbvm, user := find(t, records, "ec2-instances/i-1"), find(t, records, "ec2-instances/i-2")
	if lbvm["UserData"] != "bGI=" || lbvm["Credential"] != nil {
		t.Errorf("the cloud's own guest: %v", lbvm)
	}
	if user["UserData"] != "eHh4eHh4eHh4eHg=" || user["PrivateIP"] != "10.64.0.2" {
		t.Errorf("a user's guest: %v", user)
	}
	if notes := strings.Join(records.Notes, "; "); !strings.Contains(notes, "left out: Credential: 1") ||
		!strings.Contains(notes, "sealed texts: ") {
		t.Errorf("notes %s", notes)
	}
}

func find(t *testing.T, records *Records, key string) (value map[string]any) {
	t.Helper()
	for _, r := range records.Records {
		if r.Key == key {
			if err := json.Unmarshal(r.Value, &value); err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no record %s", key)
	return nil
}

func TestRecordsOfOneLoadBalancer(t *testing.T) {
	s, _ := filled(t, t.TempDir())
	src := state(t)
	src.Records, src.Selection = s, events.Selection{LoadBalancer: "shop"}
	records, err := write(t, src).Records()
	if err != nil {
		t.Fatal(err)
	}
	find(t, records, "ec2-instances/i-1")
	for _, r := range records.Records {
		if r.Key == "ec2-instances/i-2" {
			t.Error("the record of a guest that was not selected")
		}
	}
}

// TestWriteRefusesASecret plants an access key's secret, and a session token, in a console.
func TestWriteRefusesASecret(t *testing.T) {
	dir := t.TempDir()
	s, rootKey := filled(t, dir)
	secrets, err := iam.OperatorSecrets(t.Context(), s, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	planted := map[string]string{"a session token": "token=" + token(t, s, rootKey)}
	for name, secret := range secrets {
		planted[name] = "key=" + string(secret)
	}
	for name, text := range planted {
		src := state(t)
		keys, err := leakscan.StateSecrets(t.Context(), s, dir)
		if err != nil {
			t.Fatal(err)
		}
		console := filepath.Join(src.State.Node(), "machines", "i-2", "console.log")
		if err := os.WriteFile(console, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Write(t.Context(), filepath.Join(t.TempDir(), "b.zip"), src, keys)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one that names %s", err, name)
		}
	}
}

func token(t *testing.T, s *store.Store, rootKey string) string {
	t.Helper()
	service, _ := openIAM(t, s, rootKey)
	defer service.Close()
	creds, _, err := service.MintSession(context.WithoutCancel(t.Context()), iam.Session{AccountID: account,
		UserName: "alice", Life: 3600e9})
	if err != nil {
		t.Fatal(err)
	}
	return creds.Token
}
