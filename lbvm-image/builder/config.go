package builder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Flavour names an image and what its guest does. Both carry the same agent, which reads the flavour from a file of
// its initramfs.
type Flavour string

// The flavours.
const (
	LBVM Flavour = "lbvm" // a load balancer: takes its identity from a floppy
	Web  Flavour = "web"  // a small backend that answers HTTP
)

// Flavours lists all of them, in the order in which they are built.
func Flavours() []Flavour { return []Flavour{LBVM, Web} }

// DefaultKernelPackage is Debian's meta package of the generic kernel.
const DefaultKernelPackage = "linux-image-amd64"

// MaxInitramfs bounds an initramfs, in bytes. A suite's own image may need an instance type with more memory than the
// product's do.
const MaxInitramfs = 20 << 20

// maxOwnInitramfs bounds those with the product's own agent. A guest holds its initramfs twice while it boots: 15.7 MB
// fit into 96 MB, of which the last half is kept free for kernels to come; with 16.8 MB the kernel panics for want of
// memory.
const maxOwnInitramfs = 29 << 19

// Config says what to build from what. OutDir and one of AgentBinary and SourceDir are needed; the zero value of all
// else is usable.
type Config struct {
	// OutDir is where the image folders go: OutDir/NAME/{vmlinux,initramfs.img,manifest.json}.
	OutDir string
	// CacheDir keeps kernel packages and what was taken out of them, about 130 MB. Default: cloudtwin/image in the
	// user's cache folder.
	CacheDir string
	// Flavours to build. Default: all.
	Flavours []Flavour
	// KernelPackage is the Debian package to take the kernel from; a meta package is followed. Default
	// DefaultKernelPackage. Not used with KernelPath.
	KernelPackage string
	// KernelPath is one's own kernel, a bzImage or an ELF vmlinux, and ModulesDir the folder of its modules
	// (/lib/modules/RELEASE). Both or none.
	KernelPath string
	ModulesDir string
	// BusyBox is a static linux/amd64 BusyBox, with which people who log in to a web guest work. When empty, it is
	// Debian's, or with KernelPath there is none.
	BusyBox string
	// AgentBinary is a static linux/amd64 binary of cmd/lbvm-agent. When empty, it is built from SourceDir.
	AgentBinary string
	// SourceDir is the root folder of this repository, for building the agent with the go tool.
	SourceDir string
	// Progress is told each step that takes time, as a short phrase. Nil: nobody is told.
	Progress func(step string)
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.OutDir == "" {
		errs = append(errs, errors.New("no image folder given (OutDir)"))
	}
	if (c.KernelPath == "") != (c.ModulesDir == "") {
		errs = append(errs, errors.New("a kernel of one's own needs both the kernel and its modules folder"))
	}
	if c.KernelPath != "" && c.KernelPackage != "" {
		errs = append(errs, errors.New("either a kernel package or a kernel file, not both"))
	}
	if c.AgentBinary == "" && c.SourceDir == "" {
		errs = append(errs, errors.New("neither an agent binary nor the source folder to build it from is given"))
	}
	seen := map[Flavour]bool{}
	for _, f := range c.Flavours {
		if !slices.Contains(Flavours(), f) {
			errs = append(errs, fmt.Errorf("unknown flavour %q (known: %v)", f, Flavours()))
		}
		if seen[f] {
			errs = append(errs, fmt.Errorf("flavour %q is named twice", f))
		}
		seen[f] = true
	}
	return errors.Join(errs...)
}

// fits refuses an initramfs of the product's own agent that a guest of the smallest instance type could not boot from.
func (c Config) fits(initramfs int) error {
	if c.AgentBinary == "" && initramfs > maxOwnInitramfs {
		return fmt.Errorf("%w: %d bytes, at most %d fit into a guest of 96 MB twice", ErrTooLarge, initramfs, maxOwnInitramfs)
	}
	return nil
}

func (c Config) withDefaults() (Config, error) {
	if c.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return c, fmt.Errorf("find a cache folder: %w", err)
		}
		c.CacheDir = filepath.Join(dir, "cloudtwin", "image")
	}
	if len(c.Flavours) == 0 {
		c.Flavours = Flavours()
	}
	if c.KernelPackage == "" {
		c.KernelPackage = DefaultKernelPackage
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	for _, dir := range []*string{&c.OutDir, &c.CacheDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return c, fmt.Errorf("resolve folder %s: %w", *dir, err)
		}
		*dir = abs
	}
	return c, nil
}
