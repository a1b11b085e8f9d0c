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
	subcommand = regexp.MustCompile("bin/cloudtwin ((?:image )?[a-z][a-z-]*)" +
		"((?: -[^ #`\n]+(?: (?:'[^'\n]*'|[A-Za-z0-9]+\\b))?)*)")
	link  = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	fence = regexp.MustCompile("(?m)^    .*$|`[^`]+`")
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

// kept says whether there is a file or folder that git keeps: one that it ignores is here and in no clone.
func kept(t *testing.T, path string) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-co", "--exclude-standard", path).Output()
	if err != nil {
		t.Fatalf("ask git for %s: %v", path, err)
	}
	_, err = os.Stat(filepath.Join(root, path))
	return err == nil && len(out) > 0
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
			if target := filepath.Join(filepath.Dir(path), m[1]); !kept(t, target) {
				t.Errorf("%s links to %s, which a clone does not have", path, target)
			}
		}
	}
	if tried == 0 {
		t.Error("nothing was tried")
	}
}

// build returns the program's path.
func build(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("CLOUDTWIN_BIN"); program != "" {
		return program
	}
	program := filepath.Join(t.TempDir(), "cloudtwin")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "libvirt_dlopen", "-o", program,
		"./cloud/cmd/cloudtwin")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	return program
}

// TestCommandsInPages asks the program for the help of every command that a page shows, with the flags that it shows:
// one that does not exist is an error all the same.
func TestCommandsInPages(t *testing.T) {
	program := build(t)
	seen := map[string]bool{}
	for path, text := range pages(t) {
		for _, m := range subcommand.FindAllStringSubmatch(code(text), -1) {
			seen[m[1]] = true
			if out, err := help(t.Context(), program, m[1]+m[2]); err != nil {
				t.Errorf("%s shows `cloudtwin %s%s`: %v\n%s", path, m[1], m[2], err, out)
			}
		}
	}
	for _, name := range []string{"up", "env", "ps", "console", "down", "doctor", "scale", "demo"} {
		if !seen[name] {
			t.Errorf("no page shows `cloudtwin %s`", name)
		}
	}
}

func help(ctx context.Context, program, command string) (string, error) {
	out, err := exec.CommandContext(ctx, "bash", "-c", program+" "+command+" --help").CombinedOutput()
	return string(out), err
}

// TestPagesRun does what the pages on guests and on the doctor show, as far as it boots nothing.
func TestPagesRun(t *testing.T) {
	program := build(t)
	state, err := os.MkdirTemp("", "ct") // short, since sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	run := func(line string) (string, error) {
		script := strings.ReplaceAll(line, "bin/cloudtwin", program)
		cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), program, "down", "--state",
			filepath.Join(state, "cloudtwin", "up")).CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
		if err := os.RemoveAll(state); err != nil {
			t.Error(err)
		}
	})
	for page, shown := range map[string]struct {
		lines *regexp.Regexp
		says  []string // what each line prints, in order
	}{
		"guests.md": {regexp.MustCompile(`(?m)^ +(bin/cloudtwin (?:up -d --guests sim|ps|down))\b`),
			[]string{"endpoint http://", "GUEST", "nothing is left"}},
		"doctor.md": {regexp.MustCompile(`(?m)^ +(bin/cloudtwin doctor --(?:guests sim|json))\b`),
			[]string{"simulated guests|qemu", `"check": "accelerator"`}},
		"faults.md": {regexp.MustCompile(`(?m)^ +(bin/cloudtwin (?:fault (?:kinds|ls|add [^#\n]*|clear --all|` +
			`load [a-z/.-]+)|up -d --guests sim --faults [a-z/.-]+|down))`),
			[]string{"endpoint http://", "medium.read-error", "added f1 api.error", "added f2 wire.partition",
				"added f3 medium.read-error", "f2 +wire.partition", "", "", "nothing is left"}},
	} {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(root, "cloud", "cmd", "cloudtwin", page))
			if err != nil {
				t.Fatal(err)
			}
			found := shown.lines.FindAllStringSubmatch(string(text), -1)
			if len(found) != len(shown.says) {
				t.Fatalf("%d lines to try, want %d", len(found), len(shown.says))
			}
			for i, m := range found {
				line := strings.Replace(m[1], "up -d", "up -d --api 127.0.0.1:0", 1) // the usual port may be busy
				out, err := run(line)
				if err != nil || !regexp.MustCompile(shown.says[i]).MatchString(out) {
					t.Errorf("%s: %v, printed\n%s\nwant %q in it", line, err, out, shown.says[i])
				}
			}
		})
	}
}
