// Package docs tries what the READMEs say: the targets, commands and files that they name are there.
package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// maxLines keeps a page short enough to be read.
const maxLines = 140

var (
	makeTarget = regexp.MustCompile("(?m)(?:^ *|`|'|&& )make ([a-z0-9][a-z0-9-]*)")
	subcommand = regexp.MustCompile(`bin/cloudtwin ((?:image )?[a-z][a-z-]*)`)
	link       = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	fence      = regexp.MustCompile("(?m)^    .*$|`[^`]+`")
)

func pages(t *testing.T) map[string]string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-co", "--exclude-standard", "*.md")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("list pages: %v", err)
	}
	texts := map[string]string{}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(text)
	}
	for _, folder := range []string{".", "cloud", "node", "lbvm-image", "e2e", "fixtures", "vagrant"} {
		if texts[filepath.Join(folder, "README.md")] == "" {
			t.Errorf("folder %s has no README.md", folder)
		}
	}
	return texts
}

// code is what a page shows as code, in blocks or within a line.
func code(text string) string { return strings.Join(fence.FindAllString(text, -1), "\n") }

func TestPagesNameWhatIsThere(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for path, text := range pages(t) {
		if n := strings.Count(text, "\n"); n > maxLines {
			t.Errorf("%s has %d lines, more than %d", path, n, maxLines)
		}
		for _, m := range makeTarget.FindAllStringSubmatch(code(text), -1) {
			tried++
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).Match(makefile) {
				t.Errorf("%s names `make %s`, and the Makefile has no such target", path, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			tried++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to what is not there: %v", path, err)
			}
		}
	}
	if tried == 0 {
		t.Error("nothing was tried")
	}
}

// TestCommandsInPages asks the program for the help of every command that a page shows.
func TestCommandsInPages(t *testing.T) {
	program := os.Getenv("CLOUDTWIN_BIN")
	if program == "" {
		program = filepath.Join(t.TempDir(), "cloudtwin")
		build := exec.CommandContext(t.Context(), "go", "build", "-tags", "libvirt_dlopen", "-o", program,
			"./cloud/cmd/cloudtwin")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the program: %v\n%s", err, out)
		}
	}
	seen := map[string]bool{}
	for path, text := range pages(t) {
		for _, m := range subcommand.FindAllStringSubmatch(code(text), -1) {
			if seen[m[1]] {
				continue
			}
			seen[m[1]] = true
			if out, err := help(t.Context(), program, m[1]); err != nil {
				t.Errorf("%s shows `cloudtwin %s`: %v\n%s", path, m[1], err, out)
			}
		}
	}
	for _, name := range []string{"up", "env", "ps", "console", "down"} {
		if !seen[name] {
			t.Errorf("no page shows `cloudtwin %s`", name)
		}
	}
}

func help(ctx context.Context, program, command string) (string, error) {
	out, err := exec.CommandContext(ctx, program, append(strings.Fields(command), "--help")...).CombinedOutput()
	return string(out), err
}
