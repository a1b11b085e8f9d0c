package agent_test

import (
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestNoRandomnessOfTheProcess keeps out packages whose seed is made when the process starts. Guests copied from one
// template share that moment: they would draw the same numbers.
func TestNoRandomnessOfTheProcess(t *testing.T) {
	forbidden := []string{"math/rand", "math/rand/v2", "hash/maphash"}
	files := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range parsed.Imports {
			if name, _ := strconv.Unquote(i.Path.Value); slices.Contains(forbidden, name) {
				t.Errorf("%s imports %s; use crypto/rand, which is the kernel's", path, name)
			}
		}
		return nil
	})
	if err != nil || files < 30 {
		t.Fatalf("looked at %d files: %v", files, err)
	}
}
