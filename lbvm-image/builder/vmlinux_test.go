package builder

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// compress runs data through a compressor.
func compress(t testing.TB, data []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := open(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gz(w io.Writer) (io.WriteCloser, error)      { return gzip.NewWriter(w), nil }
func zst(w io.Writer) (io.WriteCloser, error)     { return zstd.NewWriter(w) }
func xzip(w io.Writer) (io.WriteCloser, error)    { return xz.NewWriter(w) }
func lzmaOld(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) }

func lz4Legacy(w io.Writer) (io.WriteCloser, error) {
	z := lz4.NewWriter(w)
	return z, z.Apply(lz4.LegacyOption(true))
}

// withSize appends the size of data, as the kernel's build does for all formats but gzip.
func withSize(compressed []byte, data []byte) []byte {
	return binary.LittleEndian.AppendUint32(compressed, uint32(len(data)))
}

func TestExtractVmlinux(t *testing.T) {
	plain := testVmlinux(t)
	want, err := trimZeros(plain)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		image []byte
	}{
		{"vmlinux", plain},
		{"gzip", testBzImage(compress(t, plain, gz))},
		{"zstd", testBzImage(withSize(compress(t, plain, zst), plain))},
		{"xz", testBzImage(withSize(compress(t, plain, xzip), plain))},
		{"lzma", testBzImage(withSize(compress(t, plain, lzmaOld), plain))},
		{"lz4", testBzImage(withSize(compress(t, plain, lz4Legacy), plain))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := extractVmlinux(tt.image)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error("another kernel came out")
			}
			if release, err := kernelRelease(got); err != nil || release != testRelease {
				t.Errorf("release %q, %v", release, err)
			}
		})
	}
}

func TestExtractVmlinuxRefusals(t *testing.T) {
	plain := testVmlinux(t)
	whole := testBzImage(compress(t, plain, gz))
	old := bytes.Clone(whole)
	binary.LittleEndian.PutUint16(old[0x206:], 0x207)
	damaged := bytes.Clone(whole)
	copy(damaged[5*512+100+50:], "damaged damaged damaged")
	tests := []struct {
		name  string
		image []byte
		want  error
	}{
		{"empty", nil, ErrNotKernel},
		{"text", bytes.Repeat([]byte("no kernel at all\n"), 100), ErrNotKernel},
		{"cut off", whole[:len(whole)/2], ErrNotKernel},
		{"old boot protocol", old, ErrNotKernel},
		{"damaged payload", damaged, ErrNotKernel},
		{"unknown compression", testBzImage([]byte("strange payload")), ErrNotKernel},
		{"ELF cut off", plain[:100], ErrNotKernel},
		{"other architecture", testELF{machine: elf.EM_AARCH64, notes: xenNote(pvhNote)}.bytes(t), ErrNotKernel},
		{"no note", testELF{text: []byte("x")}.bytes(t), ErrNoPVH},
		{"other notes", testELF{notes: xenNote(6)}.bytes(t), ErrNoPVH},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := extractVmlinux(tt.image); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestTrimZerosKeepsWhatIsLoaded(t *testing.T) {
	plain := testVmlinux(t)
	trimmed, err := trimZeros(plain)
	if err != nil {
		t.Fatal(err)
	}
	if len(trimmed) > len(plain)/2 {
		t.Errorf("%d of %d bytes are left", len(trimmed), len(plain))
	}
	before, after := segments(t, plain), segments(t, trimmed)
	if len(before) != len(after) {
		t.Fatalf("%d segments, want %d", len(after), len(before))
	}
	for i := range before {
		if !bytes.Equal(before[i], after[i]) {
			t.Errorf("segment %d is loaded differently", i)
		}
	}
}

// segments gives the memory that each segment fills.
func segments(t *testing.T, file []byte) [][]byte {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, p := range f.Progs {
		memory := make([]byte, p.Memsz)
		if _, err := io.ReadFull(p.Open(), memory[:p.Filesz]); err != nil {
			t.Fatal(err)
		}
		all = append(all, memory)
	}
	return all
}

// TestUnxzX86Filter decodes 14,100 bytes full of call and jump opcodes, compressed with liblzma's x86 filter.
func TestUnxzX86Filter(t *testing.T) {
	data, err := os.ReadFile("testdata/x86.xz")
	if err != nil {
		t.Fatal(err)
	}
	got, err := unxz(data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if sum := hexSum(got); sum != x86PlainSum {
		t.Errorf("%d bytes with SHA-256 %s came out", len(got), sum)
	}
	if _, err := unxz(data, 1000); err == nil {
		t.Error("the bound was not kept")
	}
}

const x86PlainSum = "363ec2b0f7c7a7d67e321f3a49333f5eeb5d86d5c121578ba3947056c81ac2ee"

// FuzzExtractVmlinux looks for images that break the extraction; what it accepts must name a PVH entry.
func FuzzExtractVmlinux(f *testing.F) {
	plain := testVmlinux(f)
	filtered, err := os.ReadFile("testdata/x86.xz")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(testBzImage(compress(f, plain, gz)))
	f.Add(testBzImage(withSize(filtered, nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := extractVmlinux(data)
		if err == nil {
			err = checkPVH(got)
			if err != nil {
				t.Errorf("accepted: %v", err)
			}
		}
	})
}
