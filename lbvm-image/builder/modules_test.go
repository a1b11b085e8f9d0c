package builder

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeTree writes files below dir.
func writeTree(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// testModules is a modules folder like Debian's, in small.
func testModules(t testing.TB) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"modules.builtin":                          []byte("kernel/fs/fat/nls_builtin.ko\nkernel/lib/crc-itu-t.ko\n"),
		"kernel/drivers/virtio/virtio.ko":          testModule(t, "virtio", "virtio_ring"),
		"kernel/drivers/virtio/virtio_ring.ko.zst": compress(t, testModule(t, "virtio_ring", "crc-itu-t"), zst),
		"kernel/drivers/virtio/virtio_pci.ko":      testModule(t, "virtio_pci", "virtio", "virtio_ring"),
		"kernel/drivers/net/virtio_net.ko.xz": compress(t,
			testModule(t, "virtio_net", "virtio_ring", "virtio", "net_failover"), xzip),
		"kernel/drivers/net/net_failover.ko":             testModule(t, "net_failover"),
		"kernel/drivers/char/hw_random/virtio-rng.ko.gz": compress(t, testModule(t, "virtio_rng", "virtio"), gz),
		"kernel/sound/loop_a.ko":                         testModule(t, "loop_a", "loop-b"),
		"kernel/sound/loop-b.ko":                         testModule(t, "loop_b", "loop_a"),
		"kernel/sound/no_info.ko":                        testELF{}.bytes(t),
		"kernel/sound/no_elf.ko":                         []byte("text"),
		"kernel/sound/broken.ko.zst":                     []byte("text"),
	}
}

func TestPick(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, testModules(t))
	tree, err := openModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	guest := []string{
		"virtio_ring", "virtio", "virtio_pci", "net_failover", "virtio_net", "virtio_rng",
	}
	tests := []struct {
		name    string
		wanted  []wantedModule
		want    []string
		wantErr string
	}{
		{name: "a guest's", wanted: wantedModules(), want: guest},
		{name: "built in", wanted: []wantedModule{{name: "crc_itu_t"}}},
		{name: "missing but optional", wanted: []wantedModule{{name: "button", optional: true}}},
		{name: "missing", wanted: []wantedModule{{name: "button"}}, wantErr: "button is neither built in"},
		{name: "loop", wanted: []wantedModule{{name: "loop_a"}}, wantErr: "loop_a needs loop_b needs loop_a"},
		{name: "no module information", wanted: []wantedModule{{name: "no_info"}}, wantErr: "no .modinfo"},
		{name: "no ELF file", wanted: []wantedModule{{name: "no_elf"}}, wantErr: "parse ELF"},
		{name: "damaged compression", wanted: []wantedModule{{name: "broken"}}, wantErr: "decompress"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tree.pick(tt.wanted)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range got {
				names = append(names, m.Name)
				if info, err := moduleInfo(m.data); err != nil || info["name"] != m.Name {
					t.Errorf("%s holds %q, %v", m.Name, info["name"], err)
				}
			}
			if !slices.Equal(names, tt.want) {
				t.Errorf("got %v, want %v", names, tt.want)
			}
		})
	}
}

func TestOpenModulesRefusals(t *testing.T) {
	if _, err := openModules(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	if _, err := openModules(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder without list of built-in modules: %v", err)
	}
}
