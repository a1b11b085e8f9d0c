package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// build is one run of Build.
type build struct {
	cfg Config
	tmp string // scratch folder in the cache
}

// Build makes the images of cfg that are not there yet or whose inputs have changed, and returns all of them. Each
// appears in one step, so whoever starts guests meanwhile sees the old or the new one. Builds that share a cache or
// an image folder wait for each other.
//
// Errors are *Error around one of this package's sentinels.
func Build(ctx context.Context, cfg Config) ([]Image, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fail("build images", err, "see the options of \"cloudtwin image build\"")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fail("build images", err, "")
	}
	for _, dir := range []string{cfg.CacheDir, cfg.OutDir} { // always in this order: two builds never wait for each other
		unlock, err := lock(ctx, dir)
		if err != nil {
			return nil, fail("build images", err, "")
		}
		defer unlock()
		if err := clearTemps(dir); err != nil {
			return nil, fail("build images", err, "")
		}
	}
	b := &build{cfg: cfg}
	if b.tmp, err = os.MkdirTemp(cfg.CacheDir, tempPrefix); err != nil {
		return nil, fail("build images", err, "")
	}
	defer os.RemoveAll(b.tmp)
	return b.run(ctx)
}

// lock makes dir and takes its lock, waiting for another build to finish.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: readable for the user that runs QEMU
		return nil, fmt.Errorf("make folder: %w", err)
	}
	l := flock.New(filepath.Join(dir, ".lock"))
	if _, err := l.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for another build: %w", err)
	}
	return func() { _ = l.Unlock() }, nil
}

func (b *build) run(ctx context.Context) ([]Image, error) {
	agent, err := b.agent(ctx)
	if err != nil {
		return nil, err
	}
	k, err := b.kernel(ctx)
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(b.cfg.Flavours))
	for _, f := range b.cfg.Flavours {
		if err := ctx.Err(); err != nil {
			return nil, fail("build image "+string(f), err, "")
		}
		programs, err := b.programs(ctx, f)
		if err != nil {
			return nil, err
		}
		image, err := b.image(f, agent, k, programs)
		if err != nil {
			return nil, fail("build image "+string(f), err, "")
		}
		images = append(images, image)
	}
	return images, nil
}

// image makes one image unless the one that is there has the same inputs and is whole.
func (b *build) image(f Flavour, agent []byte, k *kernel, programs []program) (Image, error) {
	m := describe(f, agent, k, programs)
	if old, err := Inspect(b.cfg.OutDir, string(f)); err == nil && old.Manifest.InputDigest == m.InputDigest {
		return old, nil
	}
	b.cfg.Progress("packing image " + string(f))
	tmp, err := os.MkdirTemp(b.cfg.OutDir, tempPrefix)
	if err != nil {
		return Image{}, fmt.Errorf("make image folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil { //nolint:gosec // G302: readable for the user that runs QEMU
		return Image{}, fmt.Errorf("make image folder: %w", err)
	}
	initrd, err := initramfs(f, agent, modulesFor(f, k.modules), programs...)
	if err != nil {
		return Image{}, err
	}
	if err := b.cfg.fits(len(initrd)); err != nil {
		return Image{}, err
	}
	if err := writeFile(filepath.Join(tmp, InitrdFile), initrd); err != nil {
		return Image{}, err
	}
	if err := copyFile(filepath.Join(tmp, KernelFile), k.vmlinux, 0o644); err != nil {
		return Image{}, err
	}
	for _, name := range []string{KernelFile, InitrdFile} {
		sum, err := fileSum(filepath.Join(tmp, name))
		if err != nil {
			return Image{}, err
		}
		m.Outputs = append(m.Outputs, sum)
	}
	raw, err := encodeManifest(m)
	if err != nil {
		return Image{}, err
	}
	if err := writeFile(filepath.Join(tmp, ManifestFile), raw); err != nil {
		return Image{}, err
	}
	if err := publish(tmp, filepath.Join(b.cfg.OutDir, string(f))); err != nil {
		return Image{}, fmt.Errorf("publish image: %w", err)
	}
	return Load(b.cfg.OutDir, string(f))
}

// describe makes the manifest of an image that is to be built: everything but its outputs.
func describe(f Flavour, agent []byte, k *kernel, programs []program) Manifest {
	m := Manifest{
		FormatVersion: FormatVersion,
		Name:          string(f),
		KernelRelease: k.release,
		Cmdline:       cmdline(),
		Inputs:        []File{{Name: "lbvm-agent", Size: int64(len(agent)), SHA256: hexSum(agent)}, k.image},
	}
	if k.pkg != nil {
		m.Inputs = append(m.Inputs, *k.pkg)
	}
	for _, mod := range modulesFor(f, k.modules) {
		m.Modules = append(m.Modules, mod.Name)
		m.Inputs = append(m.Inputs, File{Name: "module " + mod.Name, Size: int64(len(mod.data)), SHA256: mod.SHA256})
	}
	for _, p := range programs {
		m.Inputs = append(m.Inputs, p.from)
	}
	parts := []string{fmt.Sprint(FormatVersion), vmlinuxFormat, m.Name, m.Cmdline, strings.Join(m.Modules, " ")}
	for _, in := range m.Inputs {
		if in != k.image || k.pkg == nil { // the package says it already
			parts = append(parts, in.Name, in.SHA256)
		}
	}
	m.InputDigest = "sha256:" + hexSum([]byte(strings.Join(parts, "\n")))
	slices.SortFunc(m.Inputs[2:], func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return m
}
