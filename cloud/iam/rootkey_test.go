package iam_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func TestRootKeyFileIsMade(t *testing.T) {
	w := newWorld(t)
	info, err := os.Stat(w.config.RootKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("root key file has mode %v and %d bytes", info.Mode(), info.Size())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(w.config.RootKeyFile), ".root-key-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRestart(t *testing.T) {
	s := newScene(t)
	s.Close()
	again := startService(t, s.config)
	if !bytes.Equal(again.IAMCertificatePEM(), s.IAMCertificatePEM()) {
		t.Error("the IAM identity is another after a restart")
	}
	s.Service = again
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
		t.Errorf("delivery after a restart: %v", err)
	}
}

// TestRootKeyFaults: each is a clear error that says what to do, and putting the file right mends it.
func TestRootKeyFaults(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  error
		says  string
	}{
		{"missing", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, iam.ErrRootKeyMissing, "bring the file back"},
		{"another key", func(t *testing.T, path string) { write(t, path, bytes.Repeat([]byte{7}, 32)) },
			iam.ErrRootKeyDamaged, "bring the right file back"},
		{"cut off", func(t *testing.T, path string) { write(t, path, []byte("short")) },
			iam.ErrRootKeyDamaged, "32 bytes"},
		{"too long", func(t *testing.T, path string) { write(t, path, make([]byte, 33)) },
			iam.ErrRootKeyDamaged, "32 bytes"},
		{"readable by others", func(t *testing.T, path string) {
			if err := os.Chmod(path, 0o640); err != nil {
				t.Fatal(err)
			}
		}, iam.ErrRootKeyMode, "chmod 600"},
		{"executable", func(t *testing.T, path string) {
			if err := os.Chmod(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, iam.ErrRootKeyMode, "0600 or 0400"},
		{"a symbolic link", func(t *testing.T, path string) {
			if err := errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
				t.Fatal(err)
			}
		}, iam.ErrRootKeyMode, "symbolic link"},
		{"a pipe", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, iam.ErrRootKeyDamaged, "regular file"},
		{"a folder", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, iam.ErrRootKeyDamaged, "regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.Close()
			path := w.config.RootKeyFile
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, path)
			_, err = iam.New(t.Context(), w.config)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("New: %v, want %v that says %q and names the file", err, tt.want, tt.says)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, good)
			startService(t, w.config)
		})
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSealIsBoundToItsPurpose(t *testing.T) {
	w := newWorld(t)
	sealed, err := w.Seal("placement/ca", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(sealed, "secret") {
		t.Error("sealed in clear")
	}
	got, err := w.Open("placement/ca", sealed)
	if err != nil || string(got) != "secret" {
		t.Errorf("Open: %v", err)
	}
	other := newWorld(t)
	for name, try := range map[string]func() error{
		"other purpose":  func() error { _, err := w.Open("placement/other", sealed); return err },
		"other root key": func() error { _, err := other.Open("placement/ca", sealed); return err },
		"cut off":        func() error { _, err := w.Open("placement/ca", sealed[:len(sealed)-3]); return err },
		"empty":          func() error { _, err := w.Open("placement/ca", ""); return err },
	} {
		if try() == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestDamagedRecordIsAnError(t *testing.T) {
	w := newWorld(t)
	alice := w.user(t, "alice", allowAll)
	type raw = map[string]any
	keys := store.NewTable[raw](w.store, "iam-access-keys")
	bob := w.user(t, "bob", allowAll)
	mine, err := keys.Get(t.Context(), alice.AccessKeyID)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := keys.Get(t.Context(), bob.AccessKeyID)
	if err != nil {
		t.Fatal(err)
	}
	// The sealed secret of one key in the record of another does not open there.
	mine["Secret"] = theirs["Secret"]
	if err := keys.Put(t.Context(), alice.AccessKeyID, mine); err != nil {
		t.Fatal(err)
	}
	fresh := startService(t, w.config)
	if _, _, err := fresh.Identify(t.Context(), alice.AccessKeyID, ""); err == nil {
		t.Error("a swapped secret was opened")
	}
}

func TestConfigValidate(t *testing.T) {
	err := iam.Config{CacheSize: -1, InstanceSessionLife: 1, Quotas: iam.Quotas{Users: -1}}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"Store", "RootKeyFile", "CacheSize", "InstanceSessionLife", "Quotas"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	if _, err := iam.New(t.Context(), iam.Config{}); err == nil {
		t.Error("New with an empty Config")
	}
}
