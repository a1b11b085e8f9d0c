package cloud

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

// TestRevoked shows that an LBCERT without a living instance opens nothing. That one with an instance does is shown
// by every delivery in e2e.
func TestRevoked(t *testing.T) {
	dir := t.TempDir()
	c, err := Start(t.Context(), Config{Dir: dir, Journal: filepath.Join(dir, "journal.jsonl"),
		Images: []ec2.ImageInfo{{Name: "lbvm"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	cert := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "i-0123456789abcdef0"}}
	if why, err := c.whyRevoked(t.Context(), cert); err != nil || why != "there is no such instance" {
		t.Errorf("LBCERT of an instance that never was: %q, %v", why, err)
	}
}
