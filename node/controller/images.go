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
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/node/template"
)

// An image is a folder with these files.
const (
	kernelFile   = "vmlinux"
	initrdFile   = "initramfs.img"
	manifestFile = "manifest.json"
	maxManifest  = 1 << 20 // bytes
)

// image is what a machine is started from. Its paths are absolute.
type image struct {
	kernel, initrd, cmdline, digest string
}

// shape is that of a template of the image.
func (i image) shape(name string, memoryMB, vcpus int) template.Shape {
	return template.Shape{
		Flavour: name, Digest: i.digest, Kernel: i.kernel, Initrd: i.initrd, Cmdline: i.cmdline,
		MemoryMB: memoryMB, VCPUs: max(vcpus, 1),
	}
}

var imageName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// images knows the usable images of a folder. It reads a manifest anew only when a file of the image has changed.
type images struct {
	dir string

	mu   sync.Mutex
	seen map[string]seenImage
}

type seenImage struct {
	files [len(imageFiles)]fileMark
	image image
}

// imageFiles are the files whose change makes another image.
var imageFiles = [...]string{manifestFile, kernelFile, initrdFile}

// fileMark tells one version of a file from another; zero when there is no such file.
type fileMark struct {
	size    int64
	changed time.Time
}

func openImages(dir string) (*images, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find images: %w", err)
	}
	return &images{dir: abs, seen: map[string]seenImage{}}, nil
}

// load returns an image after it checked that its files are there with the sizes that its manifest gives.
func (s *images) load(name string) (image, error) {
	if !imageName.MatchString(name) {
		return image{}, fmt.Errorf("load image %q: malformed name", name)
	}
	folder := filepath.Join(s.dir, name)
	var marks [len(imageFiles)]fileMark
	for i, file := range imageFiles {
		if info, err := os.Stat(filepath.Join(folder, file)); err == nil {
			marks[i] = fileMark{size: info.Size(), changed: info.ModTime()}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.seen[name]; ok && have.files == marks {
		return have.image, nil
	}
	delete(s.seen, name)
	img, err := readImage(folder)
	if err != nil {
		return image{}, fmt.Errorf("load image %s: %w", name, err)
	}
	s.seen[name] = seenImage{files: marks, image: img}
	return img, nil
}

// all returns the usable images by name.
func (s *images) all() map[string]image {
	out := map[string]image{}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return out
	}
	for _, e := range entries {
		if img, err := s.load(e.Name()); err == nil {
			out[e.Name()] = img
		}
	}
	return out
}

func readImage(folder string) (image, error) {
	f, err := os.Open(filepath.Join(folder, manifestFile))
	if err != nil {
		return image{}, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return image{}, err
	}
	var manifest struct {
		Cmdline string `json:"cmdline"`
		Outputs []struct {
			Name string `json:"name"`
			Size int64  `json:"size"`
		} `json:"outputs"`
	}
	if len(data) > maxManifest || json.Unmarshal(data, &manifest) != nil {
		return image{}, fmt.Errorf("%s is damaged", manifestFile)
	}
	for _, out := range manifest.Outputs {
		if out.Name != kernelFile && out.Name != initrdFile {
			continue
		}
		info, err := os.Stat(filepath.Join(folder, out.Name))
		if err != nil {
			return image{}, err
		}
		if info.Size() != out.Size {
			return image{}, fmt.Errorf("%s has %d bytes, its manifest says %d", out.Name, info.Size(), out.Size)
		}
	}
	sum := sha256.Sum256(data)
	return image{
		kernel: filepath.Join(folder, kernelFile), initrd: filepath.Join(folder, initrdFile),
		cmdline: manifest.Cmdline, digest: "sha256:" + hex.EncodeToString(sum[:]),
	}, nil
}
