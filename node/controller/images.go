package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// An image is a folder with these files.
const (
	kernelFile   = "vmlinux"
	initrdFile   = "initramfs.img"
	manifestFile = "manifest.json"
	maxManifest  = 1 << 20 // bytes
)

type image struct {
	kernel, initrd, cmdline, digest string
}

var imageName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// loadImage reads the manifest of an image and checks that its files are there with the sizes it gives.
func loadImage(dir, name string) (image, error) {
	if !imageName.MatchString(name) {
		return image{}, fmt.Errorf("load image %q: malformed name", name)
	}
	folder := filepath.Join(dir, name)
	f, err := os.Open(filepath.Join(folder, manifestFile))
	if err != nil {
		return image{}, fmt.Errorf("load image %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return image{}, fmt.Errorf("load image %s: %w", name, err)
	}
	var manifest struct {
		Cmdline string `json:"cmdline"`
		Outputs []struct {
			Name string `json:"name"`
			Size int64  `json:"size"`
		} `json:"outputs"`
	}
	if len(data) > maxManifest || json.Unmarshal(data, &manifest) != nil {
		return image{}, fmt.Errorf("load image %s: its manifest is damaged", name)
	}
	for _, out := range manifest.Outputs {
		if out.Name != kernelFile && out.Name != initrdFile {
			continue
		}
		info, err := os.Stat(filepath.Join(folder, out.Name))
		if err != nil {
			return image{}, fmt.Errorf("load image %s: %w", name, err)
		}
		if info.Size() != out.Size {
			return image{}, fmt.Errorf("load image %s: %s has %d bytes, its manifest says %d", name, out.Name, info.Size(),
				out.Size)
		}
	}
	sum := sha256.Sum256(data)
	return image{
		kernel: filepath.Join(folder, kernelFile), initrd: filepath.Join(folder, initrdFile),
		cmdline: manifest.Cmdline, digest: "sha256:" + hex.EncodeToString(sum[:]),
	}, nil
}

// Images returns the digests of the usable images in dir by name, as a node reports them.
func Images(dir string) map[string]string {
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return out
	}
	for _, e := range entries {
		if img, err := loadImage(dir, e.Name()); err == nil {
			out[e.Name()] = img.digest
		}
	}
	return out
}
