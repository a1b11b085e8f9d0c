package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadRefusals(t *testing.T) {
	cfg, _ := testConfig(t)
	if _, err := Build(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(cfg.OutDir, "lbvm", ManifestFile)
	raw, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) func() error {
		return func() error { return os.WriteFile(manifest, []byte(strings.ReplaceAll(string(raw), old, new)), 0o600) }
	}
	tests := []struct {
		name   string
		image  string
		change func() error
		want   error
	}{
		{"not built", "none", nil, ErrNoImage},
		{"path instead of a name", "../lbvm", nil, ErrNoImage},
		{"manifest is no JSON", "lbvm", func() error { return os.WriteFile(manifest, []byte("{"), 0o600) }, ErrDamaged},
		{
			"manifest is huge",
			"lbvm",
			func() error { return os.WriteFile(manifest, make([]byte, maxManifest+1), 0o600) },
			ErrDamaged,
		},
		{"another format", "lbvm", replace(`"formatVersion": 1`, `"formatVersion": 99`), ErrDamaged},
		{"another image's manifest", "lbvm", replace(`"name": "lbvm"`, `"name": "web"`), ErrDamaged},
		{"file elsewhere", "lbvm", replace(`"name": "vmlinux"`, `"name": "../web/vmlinux"`), ErrDamaged},
		{"file missing", "web", func() error { return os.Remove(filepath.Join(cfg.OutDir, "web", KernelFile)) }, ErrDamaged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change != nil {
				if err := tt.change(); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Load(cfg.OutDir, tt.image)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if !strings.Contains(err.Error(), "(") {
				t.Errorf("%q does not say what to do", err)
			}
		})
	}
}

func TestInspectComparesContents(t *testing.T) {
	cfg, _ := testConfig(t)
	images, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(cfg.OutDir, "web"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(images[1].Initrd)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(images[1].Initrd, make([]byte, info.Size()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cfg.OutDir, "web"); err != nil {
		t.Errorf("load looks at sizes only: %v", err)
	}
	if _, err := Inspect(cfg.OutDir, "web"); !errors.Is(err, ErrDamaged) {
		t.Errorf("inspect: %v", err)
	}
}

func TestList(t *testing.T) {
	cfg, _ := testConfig(t)
	if images, err := List(cfg.OutDir); err != nil || len(images) != 0 {
		t.Errorf("missing folder: %v, %v", images, err)
	}
	if _, err := Build(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	images, err := List(cfg.OutDir)
	if err != nil || len(images) != 2 || images[0].Name != "lbvm" || images[1].Name != "web" {
		t.Errorf("got %v, %v", images, err)
	}
	if err := os.Remove(filepath.Join(cfg.OutDir, "lbvm", ManifestFile)); err != nil {
		t.Fatal(err)
	}
	images, err = List(cfg.OutDir)
	if !errors.Is(err, ErrNoImage) || len(images) != 1 {
		t.Errorf("one damaged: %v, %v", images, err)
	}
}

// FuzzParseManifest looks for manifests that break the reader; what it accepts names no file outside of its folder.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"formatVersion":1,"name":"lbvm","outputs":[{"name":"vmlinux"},{"name":"initramfs.img"}]}`))
	f.Add([]byte(`{"formatVersion":1,"name":"lbvm","outputs":[{"name":"../vmlinux"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Manifest
		if parseManifest(raw, "lbvm", &m) != nil {
			return
		}
		for _, out := range m.Outputs {
			if filepath.Base(out.Name) != out.Name {
				t.Errorf("accepted file %q", out.Name)
			}
		}
	})
}
