package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// vmlinuxFormat changes when the same kernel image would be unpacked to other bytes.
const vmlinuxFormat = "2"

// kernel is a kernel with the modules that guests load.
type kernel struct {
	release string
	image   File   // the bzImage or ELF file it came from
	pkg     *File  // the package that held it, if any
	vmlinux string // path in the cache
	modules []module
}

// kernel finds the kernel: one's own, or the package's.
func (b *build) kernel(ctx context.Context) (*kernel, error) {
	path, modules := b.cfg.KernelPath, b.cfg.ModulesDir
	var pkg *File
	if path == "" {
		p, err := resolveKernel(ctx, b.cfg.KernelPackage)
		if err != nil {
			return nil, err
		}
		deb, err := b.download(ctx, p)
		if err != nil {
			return nil, err
		}
		if path, modules, err = b.unpack(ctx, p, deb); err != nil {
			return nil, err
		}
		info, err := os.Stat(deb)
		if err != nil {
			return nil, fail("read kernel package", err, "")
		}
		pkg = &File{Name: filepath.Base(deb), Size: info.Size(), SHA256: p.sha256}
	}
	return b.openKernel(path, modules, pkg)
}

func (b *build) openKernel(path, modulesDir string, pkg *File) (*kernel, error) {
	op := "read kernel " + path
	image, err := os.ReadFile(path)
	if err != nil {
		return nil, fail(op, err, "give the path of a vmlinuz or vmlinux file")
	}
	k := &kernel{
		image: File{Name: filepath.Base(path), Size: int64(len(image)), SHA256: hexSum(image)},
		pkg:   pkg,
	}
	tree, err := openModules(modulesDir)
	if err != nil {
		return nil, fail("read modules of "+path, err, "give the folder lib/modules/RELEASE of this kernel")
	}
	if k.modules, err = tree.pick(wantedModules()); err != nil {
		return nil, fail("pick modules", err, "use a kernel with virtio's drivers, like Debian's")
	}
	vmlinux, err := b.vmlinux(image, k)
	if err != nil {
		return nil, fail(op, err, "use a kernel for x86-64 built with CONFIG_PVH, like Debian's")
	}
	if k.release, err = kernelRelease(vmlinux); err != nil {
		return nil, fail(op, fmt.Errorf("%w: %w", ErrNotKernel, err), "")
	}
	return k, checkRelease(k)
}

// checkRelease makes sure that the modules were built for the kernel: it would refuse them at boot.
func checkRelease(k *kernel) error {
	for _, m := range k.modules {
		info, err := moduleInfo(m.data)
		if err != nil {
			return fail("read module "+m.Name, err, "")
		}
		if magic, _, _ := strings.Cut(info["vermagic"], " "); magic != k.release {
			err := fmt.Errorf("%w: %s is for kernel %s, not for %s", ErrNoModule, m.Name, magic, k.release)
			return fail("check modules", err, "give the modules folder of the same kernel")
		}
	}
	return nil
}

// vmlinux unpacks the kernel image into the cache, unless that was done before, and returns the contents.
func (b *build) vmlinux(image []byte, k *kernel) ([]byte, error) {
	k.vmlinux = filepath.Join(b.cfg.CacheDir, "vmlinux-"+shortSum(vmlinuxFormat, k.image.SHA256))
	if data, err := os.ReadFile(k.vmlinux); err == nil {
		return data, nil
	}
	b.cfg.Progress("extracting vmlinux")
	data, err := extractVmlinux(image)
	if err != nil {
		return nil, err
	}
	return data, writeFile(k.vmlinux, data)
}

// writeFile puts data at path in one step: a reader sees all of it or nothing.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix)
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return fmt.Errorf("write file: %w", err)
	}
	if err := f.Chmod(0o644); err != nil {
		_ = f.Close()
		return fmt.Errorf("write file: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return os.Rename(f.Name(), path)
}

// wantedDigest changes with the list of wanted modules.
func wantedDigest() string {
	var parts []string
	for _, w := range wantedModules() {
		parts = append(parts, w.name)
	}
	return shortSum(parts...)
}
