package ec2_test

import (
	"crypto/rsa"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// TestProfile1Image launches from an image that is registered for original guests.
func TestProfile1Image(t *testing.T) {
	c := startOn(t, t.TempDir(), func(cfg *ec2.Config) {
		cfg.Images = []ec2.ImageInfo{{Name: "lbvm", DeliveryProfile: keydelivery.Profile1}, {Name: "web"}}
	})
	var err error
	if c.iam.rsaAuthority, err = keydelivery.NewRSAAuthority(time.Now()); err != nil {
		t.Fatal(err)
	}
	n := c.addNode(t, "node-1", bigNode())
	// More than are ready, so that some are made on the way.
	seen := map[string]bool{}
	for range 6 {
		inst, err := c.Launch(t.Context(), ec2.Launch{AccountID: system, System: true, ImageName: "lbvm",
			UserData: keydelivery.WithKeyword(30, []byte("payload")), InstanceProfileName: "app"})
		if err != nil {
			t.Fatal(err)
		}
		if inst.Credential == nil || inst.Credential.Profile != keydelivery.Profile1 ||
			string(inst.Credential.IAMCertPEM) != string(c.iam.rsaAuthority.CertificatePEM()) {
			t.Fatal("the credential is not one of profile 1")
		}
		id, err := inst.Credential.Open(n.key, "node-1", inst.ID)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := id.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 2048 {
			t.Errorf("LBCERT's key is a %T, want RSA 2048", cert.PublicKey)
		}
		if block, _ := pem.Decode(id.Key); block == nil || block.Type != "RSA PRIVATE KEY" {
			t.Error("LBPK is not in PKCS#1 PEM, which is all that the original guest reads")
		}
		if text := string(id.Key); seen[text] {
			t.Error("two instances have one key")
		} else {
			seen[text] = true
		}
		// A node must not be talked into wiping, or keeping, what the profile does not allow.
		inst.Credential.Profile = keydelivery.Profile2
		if _, err := inst.Credential.Open(n.key, "node-1", inst.ID); err == nil {
			t.Error("the credential opens as one of profile 2")
		}
	}
	var audited []string
	for _, ev := range c.journal.Events() {
		if ev.Kind == "instance.credential" {
			audited = append(audited, ev.Attributes["profile"]+" "+ev.Attributes["medium"])
		}
	}
	if len(audited) != 6 || !strings.HasPrefix(audited[0], "1 kept for the instance's life") {
		t.Errorf("the audit says %q", audited)
	}
}

// TestUnknownProfileRefused registers an image with a profile that there is not.
func TestUnknownProfileRefused(t *testing.T) {
	cfg := ec2.Config{Images: []ec2.ImageInfo{{Name: "lbvm", DeliveryProfile: 3}}}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "delivery profile of image lbvm is 3") {
		t.Errorf("error %v", err)
	}
}
