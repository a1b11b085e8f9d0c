package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

// testConfig builds from a kernel, modules and agent of this test's own. The steps that are told are in steps.
func testConfig(t *testing.T) (cfg Config, steps *[]string) {
	t.Helper()
	dir := t.TempDir()
	writeTree(t, filepath.Join(dir, "modules"), testModules(t))
	writeTree(t, dir, map[string][]byte{
		"vmlinuz": testBzImage(compress(t, testVmlinux(t), gz)),
		"agent":   testELF{text: []byte("agent")}.bytes(t),
	})
	steps = &[]string{}
	return Config{
		OutDir:      filepath.Join(dir, "images"),
		CacheDir:    filepath.Join(dir, "cache"),
		KernelPath:  filepath.Join(dir, "vmlinuz"),
		ModulesDir:  filepath.Join(dir, "modules"),
		AgentBinary: filepath.Join(dir, "agent"),
		Progress:    func(step string) { *steps = append(*steps, step) },
	}, steps
}

// contents reads all files below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		got[name] = hexSum(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestBuildIsReproducible(t *testing.T) {
	var trees []map[string]string
	for range 2 {
		cfg, _ := testConfig(t)
		images, err := Build(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if len(images) != 2 || images[0].Name != "lbvm" || images[1].Name != "web" {
			t.Fatalf("got %+v", images)
		}
		if images[0].Digest == images[1].Digest {
			t.Error("the flavours have the same digest")
		}
		trees = append(trees, contents(t, cfg.OutDir))
	}
	if diff := cmp.Diff(trees[0], trees[1]); diff != "" {
		t.Errorf("the same inputs in two places gave different images:\n%s", diff)
	}
	want := []string{
		".lock",
		"lbvm/initramfs.img",
		"lbvm/manifest.json",
		"lbvm/vmlinux",
		"web/initramfs.img",
		"web/manifest.json",
		"web/vmlinux",
	}
	if got := slices.Sorted(maps.Keys(trees[0])); !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestBuildOnlyWhatChanged(t *testing.T) {
	cfg, steps := testConfig(t)
	first, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	changes := []struct {
		name   string
		change func()
		want   []string // steps
		digest bool     // whether LBVM's digest changes
	}{
		{name: "nothing", change: func() {}},
		{
			name: "time stamps",
			change: func() {
				writeTree(t, filepath.Dir(cfg.AgentBinary), map[string][]byte{"agent": testELF{text: []byte("agent")}.bytes(t)})
			},
		},
		{
			name: "agent",
			change: func() {
				writeTree(t, filepath.Dir(cfg.AgentBinary), map[string][]byte{"agent": testELF{text: []byte("new")}.bytes(t)})
			},
			want:   []string{"packing image lbvm", "packing image web"},
			digest: true,
		},
		{
			name: "a module",
			change: func() {
				module := testModule(t, "virtio_pci", "virtio")
				writeTree(t, cfg.ModulesDir, map[string][]byte{"kernel/drivers/virtio/virtio_pci.ko": module})
			},
			want:   []string{"packing image lbvm", "packing image web"},
			digest: true,
		},
		{
			name: "an output is damaged",
			change: func() {
				writeTree(t, cfg.OutDir, map[string][]byte{"lbvm/initramfs.img": []byte("damaged")})
			},
			want: []string{"packing image lbvm"},
		},
		{
			name: "an output is damaged, its size is not",
			change: func() {
				path := filepath.Join(cfg.OutDir, "web", "vmlinux")
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				writeTree(t, cfg.OutDir, map[string][]byte{"web/vmlinux": make([]byte, info.Size())})
			},
			want: []string{"packing image web"},
		},
		{
			name:   "the manifest is gone",
			change: func() { _ = os.Remove(filepath.Join(cfg.OutDir, "web", ManifestFile)) },
			want:   []string{"packing image web"},
		},
		{
			name: "the kernel",
			change: func() {
				writeTree(t, filepath.Dir(cfg.KernelPath), map[string][]byte{"vmlinuz": testVmlinux(t)})
			},
			want:   []string{"extracting vmlinux", "packing image lbvm", "packing image web"},
			digest: true,
		},
	}
	digest := first[0].Digest
	for _, tt := range changes {
		t.Run(tt.name, func(t *testing.T) {
			tt.change()
			*steps = nil
			images, err := Build(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(*steps, tt.want) {
				t.Errorf("steps %v, want %v", *steps, tt.want)
			}
			if changed := images[0].Digest != digest; changed != tt.digest {
				t.Errorf("digest changed: %v, want %v", changed, tt.digest)
			}
			digest = images[0].Digest
			if _, err := Inspect(cfg.OutDir, "lbvm"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestManifest(t *testing.T) {
	cfg, _ := testConfig(t)
	images, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := images[0].Manifest
	for _, out := range m.Outputs {
		sum, err := fileSum(filepath.Join(images[0].Dir, out.Name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sum, out); diff != "" {
			t.Errorf("output (-file +manifest):\n%s", diff)
		}
	}
	inputs := map[string]string{"lbvm-agent": cfg.AgentBinary, "vmlinuz": cfg.KernelPath}
	tree, err := openModules(cfg.ModulesDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range m.Modules {
		inputs["module "+name] = tree.files[name]
	}
	if len(m.Inputs) != len(inputs) {
		t.Errorf("%d inputs, want %d", len(m.Inputs), len(inputs))
	}
	for _, in := range m.Inputs {
		sum, err := fileSum(inputs[in.Name])
		if err != nil {
			t.Fatalf("input %s: %v", in.Name, err)
		}
		if sum.SHA256 != in.SHA256 {
			t.Errorf("input %s: SHA-256 %s, manifest says %s", in.Name, sum.SHA256, in.SHA256)
		}
	}
	if m.KernelRelease != testRelease || m.Cmdline == "" || images[0].Cmdline != m.Cmdline {
		t.Errorf("manifest %+v", m)
	}
	raw, err := os.ReadFile(filepath.Join(images[0].Dir, ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	if want := "sha256:" + hexSum(raw); images[0].Digest != want {
		t.Errorf("digest %s, want %s", images[0].Digest, want)
	}
	if strings.Contains(string(raw), filepath.Dir(cfg.OutDir)) {
		t.Error("the manifest names a path of this host")
	}
}

func TestInitramfs(t *testing.T) {
	agent := []byte("agent")
	data, err := initramfs(Web, agent, []module{{Name: "b", data: []byte("B")}, {Name: "a", data: []byte("A")}})
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(strings.NewReader(string(data))))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range records {
		text := fmt.Sprintf("%o", r.Mode)
		if r.FileSize > 0 {
			body, err := io.ReadAll(io.NewSectionReader(r.ReaderAt, 0, int64(r.FileSize)))
			if err != nil {
				t.Fatal(err)
			}
			text += " " + string(body)
		}
		if r.Rmajor != 0 {
			text += fmt.Sprintf(" %d:%d", r.Rmajor, r.Rminor)
		}
		got[r.Name] = text
		if r.MTime != 0 || r.UID != 0 || r.GID != 0 {
			t.Errorf("%s: mtime %d, owner %d:%d", r.Name, r.MTime, r.UID, r.GID)
		}
	}
	want := map[string]string{
		"dev": "40755", "dev/console": "20600 5:1", "etc": "40755", "etc/cloudtwin": "40755",
		"etc/cloudtwin/flavour": "100444 web\n", "etc/cloudtwin/modules": "100444 /modules/b.ko\n/modules/a.ko\n",
		"init": "100555 agent", "modules": "40755", "modules/a.ko": "100444 A", "modules/b.ko": "100444 B",
		"proc": "40755", "run": "40755", "sys": "40755", "tmp": "40755",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
	if _, err := initramfs(Web, make([]byte, MaxInitramfs), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func TestBuildRefusals(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, cfg *Config)
		want   error
		text   string
	}{
		{"nothing configured", func(_ *testing.T, c *Config) { *c = Config{} }, nil, "no image folder"},
		{"kernel without modules", func(_ *testing.T, c *Config) { c.ModulesDir = "" }, nil, "needs both"},
		{
			"kernel file and package",
			func(_ *testing.T, c *Config) { c.KernelPackage = "linux-image-amd64" },
			nil,
			"not both",
		},
		{
			"unknown flavour",
			func(_ *testing.T, c *Config) { c.Flavours = []Flavour{"db", Web, Web} },
			nil,
			`unknown flavour "db"`,
		},
		{"no kernel file", func(_ *testing.T, c *Config) { c.KernelPath += "x" }, os.ErrNotExist, "vmlinuzx"},
		{"kernel is none", func(_ *testing.T, c *Config) { c.KernelPath = c.AgentBinary }, ErrNoPVH, "CONFIG_PVH"},
		{"kernel is text", func(t *testing.T, c *Config) {
			writeTree(t, filepath.Dir(c.KernelPath), map[string][]byte{"vmlinuz": []byte("text")})
		}, ErrNotKernel, ""},
		{"no modules folder", func(_ *testing.T, c *Config) { c.ModulesDir += "x" }, os.ErrNotExist, "lib/modules/RELEASE"},
		{"module missing", func(_ *testing.T, c *Config) {
			_ = os.Remove(filepath.Join(c.ModulesDir, "kernel/drivers/virtio/virtio_pci.ko"))
		}, ErrNoModule, "virtio_pci"},
		{"modules of another kernel", func(t *testing.T, c *Config) {
			other := strings.ReplaceAll(string(testModule(t, "virtio_pci")), testRelease, "6.1.0-98-amd64")
			writeTree(t, c.ModulesDir, map[string][]byte{"kernel/drivers/virtio/virtio_pci.ko": []byte(other)})
		}, ErrNoModule, "is for kernel 6.1.0-98-amd64"},
		{"no agent", func(_ *testing.T, c *Config) { c.AgentBinary += "x" }, ErrNoAgent, "CGO_ENABLED=0"},
		{"agent is a script", func(_ *testing.T, c *Config) {
			writeTree(t, filepath.Dir(c.AgentBinary), map[string][]byte{"agent": []byte("#!/bin/sh\n")})
		}, ErrNoAgent, "no ELF file"},
		{"agent is dynamic", func(t *testing.T, c *Config) {
			writeTree(t, filepath.Dir(c.AgentBinary), map[string][]byte{"agent": testELF{interp: true}.bytes(t)})
		}, ErrNoAgent, "dynamically"},
		{"agent is too large", func(t *testing.T, c *Config) {
			big := testELF{text: make([]byte, MaxInitramfs)}.bytes(t)
			writeTree(t, filepath.Dir(c.AgentBinary), map[string][]byte{"agent": big})
		}, ErrTooLarge, ""},
		{
			"sources are none",
			func(t *testing.T, c *Config) { c.AgentBinary, c.SourceDir = "", t.TempDir() },
			ErrNoAgent,
			"clone",
		},
		{"image folder is a file", func(_ *testing.T, c *Config) { c.OutDir = c.AgentBinary }, syscall.ENOTDIR, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, _ := testConfig(t)
			out := cfg.OutDir
			tt.change(t, &cfg)
			_, err := Build(t.Context(), cfg)
			var typed *Error
			if !errors.As(err, &typed) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %q, want %v with %q", err, tt.want, tt.text)
			}
			if left := listing(out); len(left) != 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

func TestOwnAgentsLeaveTheSmallestGuestRoom(t *testing.T) {
	own, given := Config{SourceDir: "/src"}, Config{AgentBinary: "/agent"}
	if err := own.fits(maxOwnInitramfs); err != nil {
		t.Errorf("as large as may be: %v", err)
	}
	if err := own.fits(maxOwnInitramfs + 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte more: %v, want ErrTooLarge", err)
	}
	if err := given.fits(MaxInitramfs); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
}

// listing lists the visible entries of a folder that may be missing.
func listing(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestBuildCanceled(t *testing.T) {
	cfg, _ := testConfig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestBuildsAtOnce(t *testing.T) {
	cfg, _ := testConfig(t)
	cfg.Progress = nil
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			images, err := Build(t.Context(), cfg)
			if err != nil || len(images) != 2 {
				t.Errorf("build: %v", err)
			}
		})
	}
	wg.Wait()
	if left := listing(cfg.OutDir); !slices.Equal(left, []string{"lbvm", "web"}) {
		t.Errorf("image folder holds %v", left)
	}
}

func TestBuildClearsWhatAKilledOneLeft(t *testing.T) {
	cfg, _ := testConfig(t)
	for _, dir := range []string{cfg.OutDir, cfg.CacheDir} {
		writeTree(t, dir, map[string][]byte{tempPrefix + "123/vmlinux": []byte("half")})
	}
	if _, err := Build(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{cfg.OutDir, cfg.CacheDir} {
		if left, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*")); len(left) != 0 {
			t.Errorf("%v is still there", left)
		}
	}
}

func TestFailKnowsAFullDisk(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"errno", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, true},
		{"quota", fmt.Errorf("copy: %w", syscall.EDQUOT), true},
		{"dpkg", errors.New("dpkg-deb: error: failed to write (No space left on device)"), true},
		{"apt", errors.New("E: You don't have enough space in /var/cache: not enough space"), true},
		{"another", os.ErrPermission, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := fail("build", tt.err, "")
			if errors.Is(err, ErrDiskFull) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %v", err)
			}
		})
	}
}
