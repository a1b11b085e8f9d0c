package builder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The files of an image folder.
const (
	KernelFile   = "vmlinux"
	InitrdFile   = "initramfs.img"
	ManifestFile = "manifest.json"
)

// maxManifest bounds a manifest, in bytes.
const maxManifest = 1 << 20

// FormatVersion is that of images and manifests. It changes whenever the same inputs would give another image.
const FormatVersion = 1

// Image is a built image, ready to boot.
type Image struct {
	Name    string // "lbvm"
	Dir     string
	Kernel  string // path of an uncompressed ELF kernel with a PVH note
	Initrd  string // path of the initramfs
	Cmdline string // kernel command line, without console= and without what belongs to the accelerator
	// Digest is "sha256:" and the hex SHA-256 of the manifest, which names the SHA-256 of everything else.
	Digest   string
	Manifest Manifest
}

// Manifest tells what an image is made of. It holds no time stamp and no path of the host, so it is reproducible too.
type Manifest struct {
	FormatVersion int      `json:"formatVersion"`
	Name          string   `json:"name"`
	KernelRelease string   `json:"kernelRelease"`
	Cmdline       string   `json:"cmdline"`
	Modules       []string `json:"modules"` // in the order in which the guest loads them
	InputDigest   string   `json:"inputDigest"`
	Inputs        []File   `json:"inputs"`
	Outputs       []File   `json:"outputs"` // vmlinux and initramfs.img
}

var imageName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// List returns the images in dir by name. A folder without images, or none at all, is an empty list; a folder with a
// manifest that cannot be read is an error, beside the images that can.
func List(dir string) ([]Image, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail("list images", err, "")
	}
	var images []Image
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !imageName.MatchString(e.Name()) {
			continue
		}
		image, err := Load(dir, e.Name())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		images = append(images, image)
	}
	return images, errors.Join(errs...)
}

// Load returns the image NAME in dir after checking that its files are there with the right sizes. It costs
// microseconds; Inspect also compares their contents. ErrNoImage and ErrDamaged come wrapped in *Error.
func Load(dir, name string) (Image, error) {
	op := fmt.Sprintf("load image %s in %s", name, dir)
	if !imageName.MatchString(name) {
		return Image{}, fail(op, fmt.Errorf("%w: malformed name", ErrNoImage), "images are named lbvm and web")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Image{}, fail(op, err, "")
	}
	folder := filepath.Join(dir, name)
	raw, err := readManifest(filepath.Join(folder, ManifestFile))
	if errors.Is(err, os.ErrNotExist) {
		return Image{}, fail(op, ErrNoImage, buildHint)
	}
	if err != nil {
		return Image{}, fail(op, err, buildHint)
	}
	image := Image{
		Name:   name,
		Dir:    folder,
		Kernel: filepath.Join(folder, KernelFile),
		Initrd: filepath.Join(folder, InitrdFile),
		Digest: "sha256:" + hexSum(raw),
	}
	if err := parseManifest(raw, name, &image.Manifest); err != nil {
		return Image{}, fail(op, err, buildHint)
	}
	image.Cmdline = image.Manifest.Cmdline
	for _, out := range image.Manifest.Outputs {
		info, err := os.Stat(filepath.Join(folder, out.Name))
		switch {
		case err != nil:
			return Image{}, fail(op, fmt.Errorf("%w: %w", ErrDamaged, err), buildHint)
		case info.Size() != out.Size:
			err := fmt.Errorf("%w: %s has %d bytes, its manifest says %d", ErrDamaged, out.Name, info.Size(), out.Size)
			return Image{}, fail(op, err, buildHint)
		}
	}
	return image, nil
}

const buildHint = `run "cloudtwin image build"`

// Inspect loads the image and compares the SHA-256 of its files with the manifest.
func Inspect(dir, name string) (Image, error) {
	image, err := Load(dir, name)
	if err != nil {
		return Image{}, err
	}
	for _, out := range image.Manifest.Outputs {
		sum, err := fileSum(filepath.Join(image.Dir, out.Name))
		if err != nil {
			return Image{}, fail("inspect image "+name, err, buildHint)
		}
		if sum.SHA256 != out.SHA256 {
			err := fmt.Errorf("%w: the SHA-256 of %s is %s, its manifest says %s", ErrDamaged, out.Name, sum.SHA256, out.SHA256)
			return Image{}, fail("inspect image "+name, err, buildHint)
		}
	}
	return image, nil
}

func readManifest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("%w: its manifest exceeds %d bytes", ErrDamaged, maxManifest)
	}
	return raw, nil
}

// parseManifest reads what Load relies on, and refuses a manifest that names files elsewhere.
func parseManifest(raw []byte, name string, m *Manifest) error {
	if err := json.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("%w: parse manifest: %w", ErrDamaged, err)
	}
	if m.FormatVersion != FormatVersion {
		return fmt.Errorf("%w: it has format %d, this program needs %d", ErrDamaged, m.FormatVersion, FormatVersion)
	}
	if m.Name != name {
		return fmt.Errorf("%w: its manifest is that of %q", ErrDamaged, m.Name)
	}
	var names []string
	for _, out := range m.Outputs {
		names = append(names, out.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{InitrdFile, KernelFile}) {
		return fmt.Errorf("%w: its manifest names the files %s", ErrDamaged, strings.Join(names, ", "))
	}
	return nil
}

// encodeManifest writes a manifest in the one form whose digest names the image.
func encodeManifest(m Manifest) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return out.Bytes(), nil
}
