package builder

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeApt puts an apt with one kernel package and its meta package at the front of the path, and returns a
// configuration that builds from it. dpkg-deb is the real one: the tests need a Debian host, as the builder does.
func fakeApt(t *testing.T) (cfg Config, deb string, steps *[]string) {
	t.Helper()
	cfg, steps = testConfig(t)
	dir := t.TempDir()
	name := "linux-image-" + testRelease
	tree := map[string][]byte{
		"DEBIAN/control": []byte("Package: " + name + "\nVersion: 6.1.200-1\nArchitecture: amd64\n" +
			"Maintainer: A Tester <test@example.test>\nDescription: a kernel\n"),
		"boot/vmlinuz-" + testRelease: testBzImage(compress(t, testVmlinux(t), gz)),
	}
	for path, data := range testModules(t) {
		tree["lib/modules/"+testRelease+"/"+path] = data
	}
	writeTree(t, filepath.Join(dir, "tree"), tree)
	deb = filepath.Join(dir, name+"_6.1.200-1_amd64.deb")
	out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", filepath.Join(dir, "tree"), deb).
		CombinedOutput()
	if err != nil {
		t.Fatalf("make package: %v: %s", err, out)
	}
	sum, err := fileSum(deb)
	if err != nil {
		t.Fatal(err)
	}
	meta := fmt.Sprintf(
		"Package: linux-image-amd64\nVersion: 6.1.200-1\nDepends: %s (= 6.1.200-1)\nSHA256: %064d\n",
		name,
		0,
	)
	kernel := fmt.Sprintf(
		"Package: %s\nVersion: 6.1.200-1\nDepends: kmod\nDescription: a kernel\n with: colons\nSHA256: %s\n",
		name,
		sum.SHA256,
	)
	writeTree(t, dir, map[string][]byte{"linux-image-amd64": []byte(meta), name: []byte(kernel)})
	bin := filepath.Join(dir, "bin")
	scripts := map[string]string{
		"apt-cache": `for last; do :; done; cd "` + dir + `"; cat "$last" 2>&- || { echo "E: No packages" >&2; exit 100; }`,
		"apt-get":   `for last; do :; done; cp "` + dir + `/${last%%=*}"_*.deb .`,
	}
	for name, script := range scripts {
		writeTree(t, bin, map[string][]byte{name: []byte("#!/bin/sh\n" + script + "\n")})
		if err := os.Chmod(filepath.Join(bin, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	cfg.KernelPath, cfg.ModulesDir = "", ""
	cfg.BusyBox = cfg.AgentBinary // any static program
	return cfg, deb, steps
}

func TestBuildFromPackage(t *testing.T) {
	cfg, deb, steps := fakeApt(t)
	images, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Base(deb)
	want := []string{
		"downloading " + base,
		"unpacking " + base,
		"extracting vmlinux",
		"packing image lbvm",
		"packing image web",
	}
	if !slices.Equal(*steps, want) {
		t.Errorf("steps %v, want %v", *steps, want)
	}
	sum, err := fileSum(deb)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(images[0].Manifest.Inputs, sum) {
		t.Errorf("inputs %v do not name %v", images[0].Manifest.Inputs, sum)
	}
	*steps = nil
	if _, err := Build(t.Context(), cfg); err != nil || len(*steps) != 0 {
		t.Errorf("second build: %v, steps %v", err, *steps)
	}
	// Only what a guest needs stays in the cache.
	kept, err := filepath.Glob(filepath.Join(cfg.CacheDir, "package-*", "modules", "*"))
	if err != nil || len(kept) != 1+len(images[0].Manifest.Modules) {
		t.Errorf("kept %v, %v", kept, err)
	}
}

func TestBuildFromPackageRefusals(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, cfg *Config, deb string)
		want   error
		hint   string
	}{
		{
			"unknown package",
			func(_ *testing.T, c *Config, _ string) { c.KernelPackage = "linux-image-none" },
			ErrNoKernelPackage,
			"apt-get update",
		},
		{
			"an option instead of a name",
			func(_ *testing.T, c *Config, _ string) { c.KernelPackage = "-o=x" },
			ErrNoKernelPackage,
			"package name",
		},
		{"a package without a kernel", func(t *testing.T, c *Config, deb string) {
			stanza := fmt.Sprintf("Package: kmod\nVersion: 1\nDepends: libc6\nSHA256: %064d\n", 0)
			writeTree(t, filepath.Dir(deb), map[string][]byte{"kmod": []byte(stanza)})
			c.KernelPackage = "kmod"
		}, ErrNoKernelPackage, DefaultKernelPackage},
		{"another file than the list says", func(t *testing.T, _ *Config, deb string) {
			writeTree(t, filepath.Dir(deb), map[string][]byte{filepath.Base(deb): []byte("forged")})
		}, ErrNoKernelPackage, "apt-get update"},
		{"no apt", func(t *testing.T, _ *Config, _ string) { t.Setenv("PATH", t.TempDir()) }, ErrNoApt, "--kernel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, deb, _ := fakeApt(t)
			tt.change(t, &cfg, deb)
			_, err := Build(t.Context(), cfg)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.hint)
			}
			if left := listing(cfg.OutDir); len(left) != 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

// FuzzParsePackage looks for stanzas that break the parser; what it accepts must be safe to hand to apt-get.
func FuzzParsePackage(f *testing.F) {
	f.Add([]byte("Package: a-b\nVersion: 1:2\nDepends: c (= 1), d | e\nSHA256: " + strings.Repeat("a", 64) + "\n"))
	f.Add([]byte("Package: -o\nVersion: 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePackage(data)
		if err == nil && (strings.HasPrefix(p.name, "-") || strings.ContainsAny(p.file(), "/ \n")) {
			t.Errorf("accepted %+v", p)
		}
	})
}
