package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

// TestLeakscanLooksAtMemory makes this very process the one that uses a state folder: it holds a key that it reads.
func TestLeakscanLooksAtMemory(t *testing.T) {
	layout := local.Layout(t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	lock, err := os.OpenFile(layout.Lock(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if _, err := fmt.Fprintln(lock, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "own.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, memory := range []bool{true, false} {
		f := leakscanFlags{files: []string{file}, memory: memory}
		run, err := f.run(t.Context(), layout, nil)
		if err != nil {
			t.Fatal(err)
		}
		report, err := run.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		there := slices.ContainsFunc(report.Leaks, func(leak leakscan.Finding) bool {
			return leak.Key == file && strings.HasPrefix(leak.Place, "memory of node (process ")
		})
		if there != memory || len(run.Processes) != map[bool]int{true: 1}[memory] {
			t.Errorf("memory %t: %d processes, found there: %t\n%s", memory, len(run.Processes), there, report)
		}
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if pid := layout.Holder(); pid != 0 {
		t.Errorf("process %d uses the folder, whose lock nobody has", pid)
	}
}
