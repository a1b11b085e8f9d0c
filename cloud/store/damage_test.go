package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// TestOpenDamaged damages a store that holds records, and expects an error that says what to do instead of the end of
// the process.
func TestOpenDamaged(t *testing.T) {
	const page = 4096
	tests := []struct {
		name   string
		file   string // below member
		damage func(content []byte) []byte
	}{
		{"database cut short", "snap/db", func(c []byte) []byte { return c[:2*page] }},
		{"database empty but for its head", "snap/db", func(c []byte) []byte { return c[:page] }},
		{"pages overwritten", "snap/db", func(c []byte) []byte {
			copy(c[2*page:], bytes.Repeat([]byte("damage!!"), (len(c)-2*page)/8))
			return c
		}},
		{"head overwritten", "snap/db", func(c []byte) []byte {
			copy(c, bytes.Repeat([]byte("damage!!"), 2*page/8))
			return c
		}},
		{"log overwritten", "wal/0000000000000000-0000000000000000.wal", func(c []byte) []byte {
			copy(c, bytes.Repeat([]byte("damage!!"), page))
			return c
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := busyDir(t)
			fill(t, dir)
			path := filepath.Join(dir, "etcd", "member", tt.file)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			damaged := tt.damage(content)
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(t.Context(), store.Config{Dir: dir})
			if err == nil {
				_ = s.Close()
				t.Fatal("no error")
			}
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "move the folder away") {
				t.Errorf("error %v, want ErrDamaged with a way out", err)
			}
			if strings.Contains(err.Error(), "runtime error") {
				t.Errorf("error %v is for developers", err)
			}
		})
	}
}

// busyDir is a folder that goes away once nobody writes to it any more: an etcd that panicked over its files still
// prepares the next log file for a moment.
func busyDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "damaged")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tick, deadline := time.NewTicker(20*time.Millisecond), time.After(time.Minute)
		defer tick.Stop()
		for err := os.RemoveAll(dir); err != nil; err = os.RemoveAll(dir) {
			select {
			case <-tick.C:
			case <-deadline:
				t.Errorf("remove %s: %v", dir, err)
				return
			}
		}
	})
	return dir
}

func fill(t *testing.T, dir string) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	table := store.NewTable[string](s, "texts")
	for _, key := range []string{"a", "b", "c"} {
		if err := table.Create(t.Context(), key, strings.Repeat(key, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
