package builder

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
)

// programsOf returns what an image's initramfs has in its bin folder, with where links lead.
func programsOf(t *testing.T, image Image) []string {
	t.Helper()
	data, err := os.ReadFile(image.Initrd)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, r := range records {
		if !strings.HasPrefix(r.Name, "bin/") {
			continue
		}
		line := r.Name
		if r.Mode&cpio.S_IFMT == cpio.S_IFLNK {
			target := make([]byte, r.FileSize)
			if _, err := r.ReadAt(target, 0); err != nil {
				t.Fatal(err)
			}
			line += " -> " + string(target)
		}
		found = append(found, line)
	}
	return found
}

// TestOnlyTheWebImageHasAShell: there is nothing in a load balancer's guest that anybody could log in to.
func TestOnlyTheWebImageHasAShell(t *testing.T) {
	cfg, _, _ := fakeApt(t)
	images, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := programsOf(t, images[0]); len(got) != 0 {
		t.Errorf("image %s has %v", images[0].Name, got)
	}
	want := []string{"bin/sh -> busybox", "bin/curl -> ../init", "bin/busybox"}
	if got := programsOf(t, images[1]); !slices.Equal(got, want) {
		t.Errorf("image %s has %v, want %v", images[1].Name, got, want)
	}
}

func TestBusyboxFromPackage(t *testing.T) {
	cfg, kernel, steps := fakeApt(t)
	cfg.BusyBox = ""
	dir := filepath.Dir(kernel)
	_, err := Build(t.Context(), cfg)
	if !errors.Is(err, ErrNoKernelPackage) || !strings.Contains(err.Error(), busyboxPackage) {
		t.Errorf("without the package: %v", err)
	}
	writeTree(t, filepath.Join(dir, "bb"), map[string][]byte{
		"DEBIAN/control": []byte("Package: busybox-static\nVersion: 1:1.35.0-4\nArchitecture: amd64\n" +
			"Maintainer: A Tester <test@example.test>\nDescription: a shell\n"),
		busyboxInPackage: testELF{text: []byte("busybox")}.bytes(t),
	})
	deb := filepath.Join(dir, "busybox-static_1%3a1.35.0-4_amd64.deb")
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "-Znone", "--build",
		filepath.Join(dir, "bb"), deb).CombinedOutput()
	if err != nil {
		t.Fatalf("make package: %v: %s", err, out)
	}
	sum, err := fileSum(deb)
	if err != nil {
		t.Fatal(err)
	}
	writeTree(t, dir, map[string][]byte{busyboxPackage: fmt.Appendf(nil,
		"Package: %s\nVersion: 1:1.35.0-4\nSHA256: %s\n", busyboxPackage, sum.SHA256)})
	*steps = nil
	images, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(*steps, "downloading "+filepath.Base(deb)) {
		t.Errorf("steps %v", *steps)
	}
	if !slices.ContainsFunc(images[1].Manifest.Inputs, func(f File) bool { return f.Name == filepath.Base(deb) }) {
		t.Errorf("inputs %v do not name the package", images[1].Manifest.Inputs)
	}
	*steps = nil
	if _, err := Build(t.Context(), cfg); err != nil || len(*steps) != 0 {
		t.Errorf("second build: %v, steps %v", err, *steps)
	}
}

func TestBusyboxRefused(t *testing.T) {
	cfg, _ := testConfig(t)
	cfg.BusyBox = filepath.Join(t.TempDir(), "busybox")
	if err := os.WriteFile(cfg.BusyBox, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), cfg); !errors.Is(err, ErrNoBusyBox) || !strings.Contains(err.Error(), "--busybox") {
		t.Errorf("a script in place of BusyBox: %v", err)
	}
}
