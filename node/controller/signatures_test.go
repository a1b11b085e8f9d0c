package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/node/imds"
)

// TestSignatures are asked for once for a guest, and again after the cloud was away.
func TestSignatures(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, stop := w.start()
		defer stop()
		inst := w.instance("web")
		w.cloud.run(inst)
		pass(time.Second)
		away := func(yes bool) {
			w.cloud.mu.Lock()
			defer w.cloud.mu.Unlock()
			w.cloud.away = yes
		}
		away(true)
		if _, err := c.Signatures(t.Context(), inst.GetId()); err == nil {
			t.Error("signatures while the cloud is away")
		}
		away(false)
		want := imds.Signatures{Signature: "signature 1", PKCS7: "pkcs7", RSA2048: "rsa2048"}
		for range 2 {
			got, err := c.Signatures(t.Context(), inst.GetId())
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		}
		if _, err := c.Signatures(t.Context(), "i-unknown"); err == nil {
			t.Error("signatures of an instance that is not here")
		}
	})
}

// TestKeyPairInMetadata is what makes a guest let people in.
func TestKeyPairInMetadata(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, stop := w.start()
		defer stop()
		plain, keyed := w.instance("web"), w.instance("web")
		keyed.KeyName, keyed.PublicKey, keyed.PublicIp = "login", "ssh-ed25519 AAAA login", "127.130.0.5"
		w.cloud.run(plain, keyed)
		pass(time.Second)
		got, _ := c.Instance(keyed.GetId())
		want := []imds.PublicKey{{Name: "login", Key: "ssh-ed25519 AAAA login"}}
		if diff := cmp.Diff(want, got.PublicKeys); diff != "" || got.PublicIP.String() != "127.130.0.5" {
			t.Errorf("public address %s\n%s", got.PublicIP, diff)
		}
		if got, ok := c.Instance(plain.GetId()); !ok || got.PublicKeys != nil || got.PublicIP.IsValid() {
			t.Errorf("an instance without a key pair: %v, %s", got.PublicKeys, got.PublicIP)
		}
	})
}
