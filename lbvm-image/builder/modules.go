package builder

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxModule bounds one unpacked module, in bytes.
const maxModule = 64 << 20

// module is a kernel module as it goes into the image.
type module struct {
	Name   string `json:"name"`   // as the kernel writes it, with underscores
	SHA256 string `json:"sha256"` // of the file as it was found
	data   []byte
	// display is set for what only a guest with a display loads.
	display bool
}

// wantedModule is one that a guest loads.
type wantedModule struct {
	name     string
	optional bool // a guest starts without it
	display  bool // only a guest with a display loads it
}

// wantedModules lists what a guest loads, in that order, dependencies apart. The network comes first: the agent waits
// for its answers while the rest is loaded. The floppy drive needs none: the agent drives its controller itself.
func wantedModules() []wantedModule {
	return []wantedModule{
		{name: "virtio_pci"},
		{name: "virtio_net"},
		{name: "virtio_rng", optional: true},
		{name: "button", optional: true}, // the ACPI power button, by which the hypervisor asks the guest to stop
		// The firmware (qboot) leaves the VGA adapter without a mode, so that the kernel's own text console finds nothing.
		{name: "bochs", optional: true, display: true},
	}
}

// modulesFor are those that an image carries. A load balancer's guest has no display: nobody looks at it, and what it
// cannot load cannot be attacked.
func modulesFor(f Flavour, all []module) []module {
	if f == Web {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(m module) bool { return m.display })
}

// moduleTree is a kernel's folder of modules (lib/modules/RELEASE).
type moduleTree struct {
	dir     string
	files   map[string]string // by name
	builtin map[string]bool
}

// openModules reads which modules there are; their contents are read when they are picked.
func openModules(dir string) (*moduleTree, error) {
	t := &moduleTree{dir: dir, files: map[string]string{}, builtin: map[string]bool{}}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.Type().IsRegular() {
			if name, ok := moduleName(path); ok {
				t.files[name] = path
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read modules folder: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("read list of built-in modules: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		if name, ok := moduleName(strings.TrimSpace(line)); ok {
			t.builtin[name] = true
		}
	}
	return t, nil
}

// moduleName gives the kernel's name of a module file, which never has a dash.
func moduleName(path string) (string, bool) {
	base := filepath.Base(path)
	for _, suffix := range []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"} {
		if name, ok := strings.CutSuffix(base, suffix); ok {
			return strings.ReplaceAll(name, "-", "_"), true
		}
	}
	return "", false
}

// pick returns the wanted modules with all that they depend on, each after its dependencies. What is built into the
// kernel is left out.
func (t *moduleTree) pick(wanted []wantedModule) ([]module, error) {
	var picked []module
	done, display := map[string]bool{}, false
	var add func(name string, from []string) error
	add = func(name string, from []string) error {
		if done[name] || t.builtin[name] {
			return nil
		}
		if slices.Contains(from, name) {
			return fmt.Errorf("module %s depends on itself (%s)", name, strings.Join(append(from, name), " needs "))
		}
		path, ok := t.files[name]
		if !ok {
			return fmt.Errorf("%w: %s is neither built in nor in %s", ErrNoModule, name, t.dir)
		}
		m, depends, err := readModule(name, path)
		if err != nil {
			return err
		}
		m.display = display
		for _, d := range depends {
			if err := add(d, append(slices.Clone(from), name)); err != nil {
				return err
			}
		}
		done[name] = true
		picked = append(picked, m)
		return nil
	}
	for _, w := range wanted {
		if _, there := t.files[w.name]; !there && w.optional {
			continue
		}
		display = w.display
		if err := add(w.name, nil); err != nil {
			return nil, err
		}
	}
	return picked, nil
}

// readModule reads a module and the names of those it depends on.
func readModule(name, path string) (module, []string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return module{}, nil, fmt.Errorf("read module: %w", err)
	}
	m := module{Name: name, SHA256: hexSum(raw)}
	if m.data, err = decompressModule(path, raw); err != nil {
		return module{}, nil, fmt.Errorf("read module %s: %w", path, err)
	}
	info, err := moduleInfo(m.data)
	if err != nil {
		return module{}, nil, fmt.Errorf("read module %s: %w", path, err)
	}
	var depends []string
	for d := range strings.SplitSeq(info["depends"], ",") {
		if d != "" {
			depends = append(depends, strings.ReplaceAll(d, "-", "_"))
		}
	}
	return m, depends, nil
}

func decompressModule(path string, raw []byte) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".gz":
		r, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("open gzip: %w", err)
		}
		return readBounded(r, maxModule)
	case ".zst":
		r, err := zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("open zstd: %w", err)
		}
		defer r.Close()
		return readBounded(r, maxModule)
	case ".xz":
		return unxz(raw, maxModule)
	default:
		return raw, nil
	}
}

// moduleInfo reads the key=value strings of a module's .modinfo section.
func moduleInfo(data []byte) (map[string]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("parse ELF: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%w: the file has no .modinfo section", ErrNoModule)
	}
	raw, err := io.ReadAll(io.LimitReader(section.Open(), 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read .modinfo: %w", err)
	}
	info := map[string]string{}
	for entry := range bytes.SplitSeq(raw, []byte{0}) {
		if key, value, ok := strings.Cut(string(entry), "="); ok {
			info[key] = value
		}
	}
	return info, nil
}
