package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
)

// TestStartThatFails fails for want of images.
func TestStartThatFails(t *testing.T) {
	tests := []struct {
		name  string
		found []string // files that an earlier process left
		fresh bool
		keeps bool
	}{
		{name: "removes what it made"},
		{name: "removes its own log", found: []string{".cloudtwin", "up.log"}},
		{name: "keeps an earlier cloud's state", found: []string{".cloudtwin", "lock", "cloud/root.key"}, keeps: true},
		{name: "removes it when all was to begin anew", found: []string{".cloudtwin", "cloud/root.key"}, fresh: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state")
			for _, name := range tt.found {
				path := filepath.Join(state, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte("earlier"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := local.Start(t.Context(), local.Config{Layout: local.Layout(state), Images: t.TempDir(),
				Fresh: tt.fresh})
			if !errors.Is(err, builder.ErrNoImage) {
				t.Fatalf("error %v, want ErrNoImage", err)
			}
			if !tt.keeps {
				if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the state folder is there: %v", err)
				}
				return
			}
			if text, err := os.ReadFile(filepath.Join(state, "cloud", "root.key")); err != nil || string(text) != "earlier" {
				t.Errorf("root key is %q, %v", text, err)
			}
		})
	}
}

// TestForeignFolder shows that no command empties a folder that is not a twin's.
func TestForeignFolder(t *testing.T) {
	state := t.TempDir()
	work := filepath.Join(state, "thesis.txt")
	if err := os.WriteFile(work, []byte("years"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"Start": func() error {
			_, err := local.Start(t.Context(), local.Config{Layout: local.Layout(state), Fresh: true})
			return err
		},
		"StartNode": func() error {
			_, err := local.StartNode(t.Context(), local.NodeConfig{Layout: local.Layout(state)})
			return err
		},
		"Remove": func() error { return local.Remove(t.Context(), local.Layout(state)) },
	} {
		if err := try(); !errors.Is(err, local.ErrForeign) {
			t.Errorf("%s: error %v, want ErrForeign", name, err)
		}
	}
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder now holds %v, %v", entries, err)
	}
}
