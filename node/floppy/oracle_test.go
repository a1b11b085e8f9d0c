package floppy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/google/go-cmp/cmp"
)

// tool returns the path of a program that judges our images.
func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		// sbin is not in an ordinary user's path on Debian.
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name))
	}
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, debianPackage)
	}
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=0", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writeImage(t *testing.T, files map[string][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "floppy.img")
	if err := os.WriteFile(path, image(t, files), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func oracleSets() map[string]map[string][]byte {
	return map[string]map[string][]byte{
		"empty":      nil,
		"credential": credentialFiles(),
		"full":       {"all.bin": bytes.Repeat([]byte{0x5a}, maxClusters*sectorSize)},
		"many":       many(111),
		"names": {
			"SHORT.TXT": []byte("1"), "Two.Dots.txt": []byte("2"), "Größe.pem": []byte("3"), "empty": {},
			strings.Repeat("n", 200): bytes.Repeat([]byte("4"), 5000), "CREDEN~1": []byte("5"), "credential": []byte("6"),
		},
	}
}

func TestFsck(t *testing.T) {
	fsck := tool(t, "fsck.fat", "dosfstools")
	for name, files := range oracleSets() {
		t.Run(name, func(t *testing.T) {
			// It also warns by text alone; a clean image has two lines, the version and the count.
			out := run(t, fsck, "-n", "-v", writeImage(t, files))
			for _, bad := range []string{"differences", "Differing", "rror", "orphan", "Wrong", "Bad", "label"} {
				if strings.Contains(out, bad) {
					t.Errorf("fsck.fat complains:\n%s", out)
				}
			}
		})
	}
}

func TestMtoolsReads(t *testing.T) {
	mtype, minfo := tool(t, "mtype", "mtools"), tool(t, "minfo", "mtools")
	files := oracleSets()["names"]
	path := writeImage(t, files)
	for name, want := range files {
		if got := run(t, mtype, "-i", path, "::"+name); got != string(want) {
			t.Errorf("%s: mtype says %.50q", name, got)
		}
	}
	out := run(t, minfo, "-i", path)
	for _, want := range []string{"sectors per track: 18", "heads: 2", "cylinders: 80", "media descriptor byte: 0xf0"} {
		if !strings.Contains(strings.ToLower(out), want) {
			t.Errorf("minfo does not tell %q:\n%s", want, out)
		}
	}
}

// TestReadsMtools reads what mtools wrote, with a directory and a deleted file in it.
func TestReadsMtools(t *testing.T) {
	mformat, mcopy := tool(t, "mformat", "mtools"), tool(t, "mcopy", "mtools")
	mmd, mdel := tool(t, "mmd", "mtools"), tool(t, "mdel", "mtools")
	path := filepath.Join(t.TempDir(), "made.img")
	source := filepath.Join(t.TempDir(), "source")
	content := bytes.Repeat([]byte("mtools"), 1000)
	if err := os.WriteFile(source, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, mformat, "-C", "-f", "1440", "-i", path, "::")
	run(t, mcopy, "-i", path, source, "::deleted file")
	run(t, mcopy, "-i", path, source, "::A long name.txt")
	run(t, mmd, "-i", path, "::sub", "::sub/deeper")
	run(t, mcopy, "-i", path, source, "::sub/deeper/SHORT.TXT")
	run(t, mcopy, "-i", path, source, "::lower.txt")
	run(t, mdel, "-i", path, "::deleted file")
	img, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := Read(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	got, err := readAll(fsys)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"A long name.txt": content, "lower.txt": content, "sub/deeper/SHORT.TXT": content}
	if d := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); d != "" {
		t.Error(d)
	}
}

// TestReadsMkfs reads an empty image of mkfs.fat in each of a floppy's sizes.
func TestReadsMkfs(t *testing.T) {
	mkfs := tool(t, "mkfs.fat", "dosfstools")
	for _, size := range []string{"360", "720", "1200", "1440", "2880"} {
		path := filepath.Join(t.TempDir(), size)
		run(t, mkfs, "-F", "12", "-C", path, size)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		fsys, err := Read(f)
		if err != nil {
			t.Fatalf("%s KB: %v", size, err)
		}
		if files, err := readAll(fsys); err != nil || len(files) != 0 {
			t.Errorf("%s KB: %v, %v", size, files, err)
		}
		_ = f.Close()
	}
}

func TestDiskfsReads(t *testing.T) {
	files := credentialFiles()
	f, err := os.Open(writeImage(t, files))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fsys, err := fat12.Read(file.New(f, true), Size, 0, sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := fsys.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	for name, want := range files {
		if !slices.Contains(names, name) {
			t.Errorf("go-diskfs lists %q", names)
		}
		got, err := fsys.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
}
