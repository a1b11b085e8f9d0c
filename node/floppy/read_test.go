package floppy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// entryAt returns the directory entry that holds a file, of an image made from credentialFiles: the label, then each
// name's two entries, long and short.
func entryAt(img []byte, i int) []byte { return img[rootStart+i*entrySize:][:entrySize] }

func eachFAT(img []byte, change func(fat []byte)) {
	for i := range fatCount {
		change(img[fatStart+i*fatSectors*sectorSize:][:fatSectors*sectorSize])
	}
}

func TestReadDamaged(t *testing.T) {
	le := binary.LittleEndian
	// Of credentialFiles: cloudtwin.json is cluster 2, credential 3 to 13 with its short entry at index 4.
	const jsonEntry, credentialEntry = 3, 5
	tests := []struct {
		name   string
		damage func(img []byte) []byte
		want   string
	}{
		{"nothing", func([]byte) []byte { return nil }, "ends before"},
		{"half a boot sector", func(img []byte) []byte { return img[:256] }, "ends before"},
		{"boot sector alone", func(img []byte) []byte { return img[:512] }, "ends before"},
		{"one byte short", func(img []byte) []byte { return img[:Size-1] }, "ends before"},
		{"zeros", func([]byte) []byte { return make([]byte, Size) }, "no signature"},
		{"sector size", func(img []byte) []byte { le.PutUint16(img[11:], 1024); return img }, "1024 bytes a sector"},
		{"cluster size", func(img []byte) []byte { img[13] = 3; return img }, "3 sectors a cluster"},
		{"no reserved sector", func(img []byte) []byte { img[14] = 0; return img }, "no reserved"},
		{"no table", func(img []byte) []byte { img[16] = 0; return img }, "0 allocation tables"},
		{"odd root", func(img []byte) []byte { img[17] = 7; return img }, "7 root entries"},
		{"huge", func(img []byte) []byte { le.PutUint16(img[19:], 65535); return img }, "65535 sectors"},
		{"small table", func(img []byte) []byte { img[22] = 1; return img }, "allocation table of 512"},
		{"no data", func(img []byte) []byte { le.PutUint16(img[22:], 5000); return img }, "no room"},
		{"tables differ", func(img []byte) []byte { img[fatStart+100] ^= 1; return img }, "tables differ"},
		{"chain loops", func(img []byte) []byte {
			eachFAT(img, func(fat []byte) { setFATEntry(fat, 5, 3) })
			return img
		}, "which is taken"},
		{"chain to itself", func(img []byte) []byte {
			eachFAT(img, func(fat []byte) { setFATEntry(fat, 3, 3) })
			return img
		}, "which is taken"},
		{"chain into another file", func(img []byte) []byte {
			eachFAT(img, func(fat []byte) { setFATEntry(fat, 5, 2) })
			return img
		}, "which is taken"},
		{"chain ends early", func(img []byte) []byte {
			eachFAT(img, func(fat []byte) { setFATEntry(fat, 5, 0xfff) })
			return img
		}, "5200 bytes in 3 clusters"},
		{"chain goes on", func(img []byte) []byte {
			eachFAT(img, func(fat []byte) { setFATEntry(fat, 2, 100); setFATEntry(fat, 100, 0xfff) })
			return img
		}, "19 bytes in 2 clusters"},
		{"chain into nothing", func(img []byte) []byte {
			eachFAT(img, func(fat []byte) { setFATEntry(fat, 5, 0xff0) })
			return img
		}, "not there"},
		{"chain to a free cluster", func(img []byte) []byte {
			eachFAT(img, func(fat []byte) { setFATEntry(fat, 5, 0) })
			return img
		}, "cluster 0, which is not there"},
		{"bad cluster", func(img []byte) []byte {
			eachFAT(img, func(fat []byte) { setFATEntry(fat, 5, 0xff7) })
			return img
		}, "bad cluster"},
		{"size beyond the chain", func(img []byte) []byte {
			le.PutUint32(entryAt(img, jsonEntry)[28:], 513)
			return img
		}, "513 bytes in 1 clusters"},
		{"size of 4 GB", func(img []byte) []byte {
			le.PutUint32(entryAt(img, jsonEntry)[28:], 0xffffffff)
			return img
		}, "4294967295 bytes"},
		{"size zero with a chain", func(img []byte) []byte {
			le.PutUint32(entryAt(img, jsonEntry)[28:], 0)
			return img
		}, "0 bytes in 1 clusters"},
		{"no chain with a size", func(img []byte) []byte {
			le.PutUint16(entryAt(img, jsonEntry)[26:], 0)
			return img
		}, "19 bytes in 0 clusters"},
		{"name with a slash", func(img []byte) []byte {
			copy(entryAt(img, jsonEntry), "A/B        ") // the long name's checksum fails too, so it is void
			return img
		}, `called "A/B"`},
		{"name twice", func(img []byte) []byte {
			// Both lose their long names and have the same short one.
			copy(entryAt(img, jsonEntry), "SAME       ")
			copy(entryAt(img, credentialEntry), "SAME       ")
			return img
		}, "there twice"},
		{"directory with a size", func(img []byte) []byte {
			entryAt(img, jsonEntry)[11] = attrDirectory
			return img
		}, "directory cloudtwin.json: size 19"},
		{"directory without clusters", func(img []byte) []byte {
			e := entryAt(img, jsonEntry)
			e[11] = attrDirectory
			clear(e[26:])
			return img
		}, "0 clusters"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(tc.damage(image(t, credentialFiles()))))
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestLongNameVoid: entries of a long name that do not belong to the short one are no name.
func TestLongNameVoid(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(long []byte)
	}{
		{"checksum", func(long []byte) { long[13]++ }},
		{"order", func(long []byte) { long[0] = lastLongEntry | 2 }},
		{"order zero", func(long []byte) { long[0] = lastLongEntry }},
		{"order too high", func(long []byte) { long[0] = lastLongEntry | 0x3f }},
		{"deleted", func(long []byte) { long[0] = 0xe5 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := image(t, map[string][]byte{"credential": []byte("x")})
			tc.damage(entryAt(img, 1))
			fsys, err := Read(bytes.NewReader(img))
			if err != nil {
				t.Fatal(err)
			}
			if b, err := fs.ReadFile(fsys, "CREDEN~1"); err != nil || string(b) != "x" {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}

// failingReader fails after the structure was read, as a drive with a bad sector.
type failingReader struct {
	img    []byte
	broken bool
}

var errDrive = errors.New("no seek complete")

func (r *failingReader) ReadAt(b []byte, off int64) (int, error) {
	if r.broken {
		return 0, errDrive
	}
	return bytes.NewReader(r.img).ReadAt(b, off)
}

func TestReadErrors(t *testing.T) {
	r := &failingReader{img: image(t, credentialFiles())}
	fsys, err := Read(r)
	if err != nil {
		t.Fatal(err)
	}
	r.broken = true
	if _, err := fs.ReadFile(fsys, "credential"); !errors.Is(err, errDrive) {
		t.Errorf("read a file: %v", err)
	}
	if _, err := Read(r); !errors.Is(err, errDrive) || errors.Is(err, ErrDamaged) {
		t.Errorf("open: %v", err)
	}
	f, err := fsys.Open("credential")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(f); !errors.Is(err, errDrive) {
		t.Errorf("read an open file: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("close twice: %v", err)
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	for _, tc := range []struct {
		path string
		want error
	}{
		{"none", fs.ErrNotExist}, {"credential/x", fs.ErrNotExist},
		{"/credential", fs.ErrInvalid}, {"CREDENTIAL", fs.ErrNotExist},
	} {
		if _, err := fsys.Open(tc.path); !errors.Is(err, tc.want) {
			t.Errorf("open %s: %v, want %v", tc.path, err, tc.want)
		}
	}
}

func TestTimes(t *testing.T) {
	when := time.Date(2031, time.December, 31, 23, 58, 58, 0, time.UTC)
	if got := goTime(dosTime(when)); !got.Equal(when) {
		t.Errorf("got %s, want %s", got, when)
	}
}

// tiny moves a whole image's tables, root and first clusters into a volume of a few sectors, which a fuzzer knows
// better what to do with.
func tiny(img []byte) []byte {
	const fat, root, data = 1, 1, 20 // sectors
	b := bytes.Clone(img[:sectorSize])
	le := binary.LittleEndian
	le.PutUint16(b[17:], root*sectorSize/entrySize)
	le.PutUint16(b[19:], 1+fatCount*fat+root+data)
	le.PutUint16(b[22:], fat)
	for range fatCount {
		b = append(b, img[fatStart:][:fat*sectorSize]...)
	}
	b = append(b, img[rootStart:][:root*sectorSize]...)
	return append(b, img[dataStart:][:data*sectorSize]...)
}

// padded reads as bytes with zeros behind them, as far as any floppy goes.
type padded []byte

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > 2*Size {
		return 0, io.EOF
	}
	clear(b)
	if off < int64(len(p)) {
		copy(b, p[off:])
	}
	return len(b), nil
}

// FuzzRead: no image makes the reader panic or loop, and what it accepts is a file system by the rules.
func FuzzRead(f *testing.F) {
	img := image(f, map[string][]byte{"credential": bytes.Repeat([]byte("key "), 300), "cloudtwin.json": []byte("{}")})
	f.Add(tiny(img))
	looped := bytes.Clone(img)
	eachFAT(looped, func(fat []byte) { setFATEntry(fat, 4, 3) })
	f.Add(tiny(looped))
	dir := bytes.Clone(img)
	entryAt(dir, 3)[11] = attrDirectory
	binary.LittleEndian.PutUint32(entryAt(dir, 3)[28:], 0)
	copy(dir[dataStart:], fileEntry(shortName([]byte("INNER   TXT")), 0, 0))
	f.Add(tiny(dir))
	f.Add(bootSector())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded.Memory(t, len(b), func() {
			fsys, err := Read(padded(b))
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("error is not ErrDamaged: %v", err)
				}
				return
			}
			files, err := readAll(fsys)
			if err != nil {
				t.Fatalf("accepted, but not readable: %v", err)
			}
			total := 0
			for _, b := range files {
				total += len(b)
			}
			if total > 2*Size {
				t.Errorf("%d bytes in the files of a floppy", total)
			}
		})
	})
}

// TestReadTiny keeps the fuzzer's seeds meaningful.
func TestReadTiny(t *testing.T) {
	img := image(t, map[string][]byte{"credential": []byte("key")})
	fsys, err := Read(padded(tiny(img)))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(fsys, "credential"); err != nil || string(b) != "key" {
		t.Errorf("got %q, %v", b, err)
	}
}
