package leakscan

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestCompressedFileIsLookedInto finds a key in a file that shows none of its bytes.
func TestCompressedFileIsLookedInto(t *testing.T) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range keys(t) {
		s := scannerFor(t, name, key)
		for spelling, text := range spellings(t, key) {
			// Twice, with what is common around it: compressed, its bytes are not there as they are.
			plain := bytes.Repeat(append(bytes.Repeat([]byte("event "), 100), text...), 2)
			whole := w.EncodeAll(plain, nil)
			for what, c := range map[string]struct {
				data []byte
				want bool
			}{
				"whole": {whole, true}, "cut short": {whole[:len(whole)-1], true}, "no such file": {random(100), false},
			} {
				path := filepath.Join(t.TempDir(), "journal.jsonl.00000000000000000001.zst")
				if err := os.WriteFile(path, c.data, 0o600); err != nil {
					t.Fatal(err)
				}
				found, err := s.File(path)
				inside := false
				for _, f := range found {
					inside = inside || strings.HasPrefix(f.Place, path+", decompressed")
				}
				if what != "cut short" && (err != nil || inside != c.want) {
					t.Errorf("%s as %s, %s: %v, %v", name, spelling, what, found, err)
				}
				if err != nil {
					t.Errorf("%s as %s, %s: %v", name, spelling, what, err)
				}
			}
		}
	}
}
