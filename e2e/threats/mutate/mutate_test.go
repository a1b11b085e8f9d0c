package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// leastMutants is how many checks are to be taken out.
const leastMutants = 60

func TestEditsFindTheirCode(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	for _, e := range edits() {
		t.Run(e.file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), e.was); n != 1 {
				t.Errorf("%d times, want once: %s", n, e.was)
			}
		})
	}
	if _, err := writeOverlay(root, t.TempDir(), edits()); err != nil {
		t.Error(err)
	}
}

func TestEveryMutantHasItsSwitch(t *testing.T) {
	var switches strings.Builder
	for _, e := range edits() {
		switches.WriteString(e.by)
	}
	guards, names := map[string]bool{}, map[string]bool{}
	for _, m := range mutants() {
		if !strings.Contains(switches.String(), `mutated("`+m.guard+`")`) {
			t.Errorf("%s: no edit asks for mutated(%q)", m.name, m.guard)
		}
		if guards[m.guard] || names[m.name] {
			t.Errorf("%s (%s) is there twice", m.name, m.guard)
		}
		guards[m.guard], names[m.name] = true, true
	}
	if len(guards) < leastMutants {
		t.Errorf("%d mutants, want %d at least", len(guards), leastMutants)
	}
}

// TestEveryUnitTestIsThere looks for the tests that the mutants name.
func TestEveryUnitTestIsThere(t *testing.T) {
	tests := regexp.MustCompile(`(?m)^func (Test\w+)`)
	for _, m := range unitMutants() {
		files, err := filepath.Glob(filepath.Join("..", "..", "..", m.unit.folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		wanted, found := regexp.MustCompile(m.unit.run), false
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range tests.FindAllStringSubmatch(string(text), -1) {
				found = found || wanted.MatchString(name[1])
			}
		}
		if !found {
			t.Errorf("%s: no test in %s is called %s", m.name, m.unit.folder, m.unit.run)
		}
	}
}

func TestOverlayRefuses(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.go"), []byte("package a\n// one two two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "b.go"), []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		edit edit
		want string
	}{
		{"a text that is not there", edit{"a.go", "three", ""}, "0 times"},
		{"a text that is there twice", edit{"a.go", "two", ""}, "2 times"},
		{"a file that is not there", edit{"c.go", "one", ""}, "no such file"},
		{"a file that is no source", edit{"b.go", "one", ""}, "package clause"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := writeOverlay(root, t.TempDir(), []edit{tt.edit})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown flag": {"--other"}, "no pattern": {"--only", "("}, "no such mutant": {"--only", "none of them"},
		"argument": {"now"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs strings.Builder
			if code := run(t.Context(), args, &out, &errs); code != exitUsage {
				t.Errorf("exit code %d, want %d: %s", code, exitUsage, errs.String())
			}
		})
	}
}
