package floppy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func image(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, files); err != nil {
		t.Fatal(err)
	}
	if b.Len() != Size {
		t.Fatalf("image of %d bytes, want %d", b.Len(), Size)
	}
	return b.Bytes()
}

// readAll returns all files of an image by path.
func readAll(fsys fs.FS) (map[string][]byte, error) {
	files := make(map[string][]byte)
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[path], err = fs.ReadFile(fsys, path)
		return err
	})
	return files, err
}

func credentialFiles() map[string][]byte {
	return map[string][]byte{
		"credential":     bytes.Repeat([]byte(`{"instance_pk":"c2VjcmV0"}`), 200),
		"cloudtwin.json": []byte(`{"formatVersion":1}`),
	}
}

// TestGolden pins the bytes: guests and evidence of earlier runs depend on them.
func TestGolden(t *testing.T) {
	const want = "b50cf04bd63ea55b61a114ba2d32377c46961d028826ed5b6b8afd0a44bba3b3"
	sum := sha256.Sum256(image(t, credentialFiles()))
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("SHA-256 of the image is %s, want %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	full := maxClusters * sectorSize
	tests := []struct {
		name  string
		files map[string][]byte
	}{
		{"empty", nil},
		{"credential", credentialFiles()},
		{"empty file", map[string][]byte{"EMPTY": {}, "empty too": {}}},
		{"sector borders", map[string][]byte{
			"511": make([]byte, 511), "512": make([]byte, 512), "513": make([]byte, 513)}},
		{"full", map[string][]byte{"all.bin": bytes.Repeat([]byte{0xa5}, full)}},
		{"many", many(111)}, // two entries each, and the label
		{"names", map[string][]byte{
			"SHORT.TXT": []byte("1"), "lower.txt": []byte("2"), "Two.Dots.txt": []byte("3"), ".hidden": []byte("4"),
			"Größe €.pem": []byte("5"), "emoji 🔑 key": []byte("6"), strings.Repeat("n", 255): []byte("7"),
			"thirteen chrs": []byte("8"), "a+b,c;d=[e]": []byte("9"), "CREDEN~1": []byte("10"), "credential": []byte("11"),
			"credentials": []byte("12"), "NOEXT": []byte("13"), "日本語.txt": []byte("14"), "x.longext": []byte("15"),
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			img := image(t, tc.files)
			if !bytes.Equal(img, image(t, tc.files)) {
				t.Error("written twice, the bytes differ")
			}
			fsys, err := Read(bytes.NewReader(img))
			if err != nil {
				t.Fatal(err)
			}
			names := make([]string, 0, len(tc.files))
			want := make(map[string][]byte)
			for name, content := range tc.files {
				names = append(names, name)
				want[name] = content
			}
			if err := fstest.TestFS(fsys, names...); err != nil {
				t.Error(err)
			}
			got, err := readAll(fsys)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); d != "" {
				t.Error(d)
			}
		})
	}
}

func many(n int) map[string][]byte {
	files := make(map[string][]byte, n)
	for i := range n {
		files[fmt.Sprintf("file-%03d", i)] = []byte(fmt.Sprint(i))
	}
	return files
}

func TestWriteRefuses(t *testing.T) {
	tests := []struct {
		name  string
		files map[string][]byte
		want  error
	}{
		{"one byte too many", map[string][]byte{"big": make([]byte, maxClusters*sectorSize+1)}, ErrFull},
		{"files too large together", map[string][]byte{
			"a": make([]byte, 1<<20), "b": make([]byte, 1<<20)}, ErrFull},
		{"too many entries", many(112), ErrFull},
		{"too many files", many(1000), ErrFull},
		{"empty name", map[string][]byte{"": nil}, ErrName},
		{"dot", map[string][]byte{".": nil}, ErrName},
		{"parent", map[string][]byte{"..": nil}, ErrName},
		{"slash", map[string][]byte{"a/b": nil}, ErrName},
		{"backslash", map[string][]byte{`a\b`: nil}, ErrName},
		{"control", map[string][]byte{"a\nb": nil}, ErrName},
		{"colon", map[string][]byte{"a:b": nil}, ErrName},
		{"space at the end", map[string][]byte{"a ": nil}, ErrName},
		{"no UTF-8", map[string][]byte{"a\xff": nil}, ErrName},
		{"256 characters", map[string][]byte{strings.Repeat("a", 256): nil}, ErrName},
		{"128 wide characters", map[string][]byte{strings.Repeat("🔑", 128): nil}, ErrName},
		{"case only", map[string][]byte{"Key": nil, "key": nil}, ErrName},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Write(&b, tc.files); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if b.Len() != 0 {
				t.Errorf("%d bytes were written", b.Len())
			}
		})
	}
	if err := Write(failing{}, nil); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a writer's error: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestRoundTripRandom writes random sets of files and reads them back.
func TestRoundTripRandom(t *testing.T) {
	const letters = "abcXYZ019-_. ~äß€🔑"
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		files := make(map[string][]byte)
		for range rnd.IntN(20) {
			var name strings.Builder
			for range 1 + rnd.IntN(30) {
				name.WriteRune([]rune(letters)[rnd.IntN(len([]rune(letters)))])
			}
			content := make([]byte, rnd.IntN(5000))
			for j := range content {
				content[j] = byte(rnd.Uint32())
			}
			files[name.String()] = content
		}
		var b bytes.Buffer
		if err := Write(&b, files); err != nil {
			if !errors.Is(err, ErrName) {
				t.Fatalf("set %d: %v", i, err)
			}
			continue
		}
		fsys, err := Read(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatalf("set %d: %v", i, err)
		}
		got, err := readAll(fsys)
		if err != nil {
			t.Fatalf("set %d: %v", i, err)
		}
		if d := cmp.Diff(files, got, cmp.Comparer(bytes.Equal)); d != "" {
			t.Fatalf("set %d: %s", i, d)
		}
	}
}

func TestWriteFileLeavesHoles(t *testing.T) {
	for _, files := range []map[string][]byte{
		{}, {"a": []byte("x")}, {"credential": bytes.Repeat([]byte("k"), 5000), "cloudtwin.json": make([]byte, 512)},
		{"full": bytes.Repeat([]byte{1}, 2847*512)}, {"too much": make([]byte, Size)},
	} {
		var want bytes.Buffer
		wantErr := Write(&want, files)
		f, err := os.Create(filepath.Join(t.TempDir(), "img"))
		if err != nil {
			t.Fatal(err)
		}
		err = WriteFile(f, files)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%d files: %v, Write says %v", len(files), err, wantErr)
		}
		got, readErr := os.ReadFile(f.Name())
		if err := errors.Join(readErr, f.Close()); err != nil {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%d files: another image than Write's", len(files))
		}
	}
}
