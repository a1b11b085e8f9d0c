package leakscan

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// TestNodeKeysOfANodeThatEnds: a key that is wiped at this moment is none; whatever else is no key is told.
func TestNodeKeysOfANodeThatEnds(t *testing.T) {
	der, err := x509.MarshalPKCS8PrivateKey(keys(t)["P-256"])
	if err != nil {
		t.Fatal(err)
	}
	whole := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for name, tt := range map[string]struct {
		text []byte
		keys int
		ok   bool
	}{
		"whole":      {whole, 1, true},
		"wiped":      {make([]byte, len(whole)), 0, true},
		"half wiped": {append(make([]byte, len(whole)/2), whole[len(whole)/2:]...), 0, false},
		"empty":      {nil, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, nodeKeyFile), tt.text, 0o600); err != nil {
				t.Fatal(err)
			}
			found, err := NodeKeys("node-1", dir)
			if len(found) != tt.keys || (err == nil) != tt.ok {
				t.Errorf("%d keys, %v; want %d, no error: %v", len(found), err, tt.keys, tt.ok)
			}
		})
	}
}
