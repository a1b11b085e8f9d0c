package ec2_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// sealing gives a cloud a place for the key that signs documents; its seal only marks what it was made for.
func sealing(c *ec2.Config) {
	c.Seal = func(purpose string, k keydelivery.Secret) (string, error) {
		return purpose + ":" + base64.StdEncoding.EncodeToString(k), nil
	}
	c.Open = func(purpose, text string) (keydelivery.Secret, error) {
		return base64.StdEncoding.DecodeString(strings.TrimPrefix(text, purpose+":"))
	}
}

func TestInstanceIdentity(t *testing.T) {
	c := startOn(t, t.TempDir(), sealing)
	n := c.addNode(t, "node-1", bigNode())
	id := c.run(t, demo)[0]
	stranger := c.addNode(t, "node-2", bigNode())
	address := c.serve(t)
	request := &nodelink.InstanceIdentityRequest{InstanceId: id}
	if _, err := c.dialAs(t, address, stranger).InstanceIdentity(t.Context(), request); status.Code(err) !=
		codes.PermissionDenied {
		t.Errorf("another node gets %v, want PermissionDenied", err)
	}
	signed, err := c.dialAs(t, address, n).InstanceIdentity(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ AccountID, InstanceID, Region, PrivateIP, ImageID string }
	if err := json.Unmarshal(signed.GetDocument(), &document); err != nil {
		t.Fatal(err)
	}
	inst, err := c.Instance(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if document.AccountID != demo || document.InstanceID != id || document.Region != "us-east-1" ||
		document.PrivateIP != inst.PrivateIP || document.ImageID != ec2.ImageID("web") {
		t.Errorf("document %+v", document)
	}
	cert, err := c.IdentityCertificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	verify(t, signed, cert)
}

// verify does what EC2's users do, with the program that they use.
func verify(t *testing.T, signed *nodelink.InstanceIdentityResponse, cert string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"document": string(signed.GetDocument()), "signature": signed.GetSignature(), "cert.pem": cert,
		"pkcs7": signed.GetPkcs7(), "rsa2048": signed.GetRsa2048(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range map[string]string{
		"signature": `base64 -d signature >raw; openssl x509 -pubkey -noout -in cert.pem >key
			openssl dgst -sha256 -verify key -signature raw document`,
		"pkcs7": `(echo "-----BEGIN PKCS7-----"; cat pkcs7; echo; echo "-----END PKCS7-----") >p
			openssl smime -verify -in p -inform PEM -certfile cert.pem -noverify 2>/dev/null | cmp - document`,
		"rsa2048": `(echo "-----BEGIN PKCS7-----"; cat rsa2048; echo; echo "-----END PKCS7-----") >r
			openssl smime -verify -in r -inform PEM -content document -certfile cert.pem -noverify 2>/dev/null | cmp - document
			openssl smime -verify -in r -inform PEM -CAfile cert.pem -purpose any -out /dev/null`,
	} {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

// TestIdentityKeyStays over restarts and between processes, and takes the place of one that a bundle left out.
func TestIdentityKeyStays(t *testing.T) {
	dir := t.TempDir()
	var first string
	t.Run("first", func(t *testing.T) {
		var err error
		if first, err = startOn(t, dir, sealing).IdentityCertificate(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("again", func(t *testing.T) {
		c := startOn(t, dir, sealing)
		if again, err := c.IdentityCertificate(t.Context()); err != nil || again != first {
			t.Errorf("another certificate after a restart, %v", err)
		}
		type record struct{ CertificateDER []byte }
		table := store.NewTable[record](c.store, "ec2-document-keys")
		kept, err := table.Get(t.Context(), "us-east-1")
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Put(t.Context(), "us-east-1", kept); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("without its key", func(t *testing.T) {
		anew, err := startOn(t, dir, sealing).IdentityCertificate(t.Context())
		if err != nil || anew == first || !strings.Contains(anew, "BEGIN CERTIFICATE") {
			t.Errorf("certificate %q, %v; want a new one", anew, err)
		}
	})
}

func TestIdentityUnsigned(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	id := c.run(t, demo)[0]
	_, err := c.dialAs(t, c.serve(t), n).InstanceIdentity(t.Context(), &nodelink.InstanceIdentityRequest{InstanceId: id})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a cloud without a key answers %v, want FailedPrecondition", err)
	}
}
