package architecture

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-tags", "libvirt_dlopen",
		"-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root(t)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var one listed
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("read go list's answer: %v", err)
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		t.Fatal("go list named no package")
	}
	return all
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("find the top of the tree: %v", err)
	}
	return dir
}

// offences lists what a package imports against its rule, one line each.
func offences(p listed) []string {
	path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, modulePath), "/")
	r, ok := ruleOf(path)
	if !ok {
		return []string{fmt.Sprintf("%s has no rule: give it a floor in e2e/architecture/rules.go", path)}
	}
	var found []string
	for _, kind := range []struct {
		what    string
		imports []string
	}{{"imports", p.Imports}, {"tests import", p.TestImports}, {"tests import", p.XTestImports}} {
		for _, imported := range kind.imports {
			ours, isOurs := strings.CutPrefix(imported, modulePath+"/")
			// What tests read is there for every test.
			if !isOurs || r.allows(ours) || kind.what != "imports" && covers("fixtures", ours) {
				continue
			}
			found = append(found, fmt.Sprintf("%s %s %s, against the rule %q (it may import of ours: %s)",
				path, kind.what, ours, r.Floor, strings.Join(r.Allows, ", ")))
		}
	}
	return found
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, offence := range offences(p) {
			t.Error(offence)
		}
	}
}

func TestRuleFindsOffence(t *testing.T) {
	tests := []struct {
		name    string
		pkg     string
		imports string
		allowed bool
	}{
		{"cloud never imports node", "cloud/ec2", "node/floppy", false},
		{"node never imports a service", "node/controller", "cloud/ec2", false},
		{"node imports the key protocol", "node/controller", "cloud/keydelivery", true},
		{"node imports its own", "node", "node/controller", true},
		{"a leaf imports a leaf", "cloud/policy", "cloud/authn", false},
		{"a leaf imports its own", "cloud/model/elb", "cloud/model", true},
		{"iam imports a service above it", "cloud/iam", "cloud/ec2", false},
		{"elb imports ec2", "cloud/elb", "cloud/ec2", true},
		{"ec2 imports elb", "cloud/ec2", "cloud/elb", false},
		{"the agent imports servo", "lbvm-image/agent", "cloud/keydelivery/servo", true},
		{"the agent imports the store", "lbvm-image/agent/guest", "cloud/store", false},
		{"the builder imports the agent", "lbvm-image/builder", "lbvm-image/agent", false},
		{"the control plane imports a service", "cloud", "cloud/elb", true},
		{"the control plane imports a node", "cloud", "node", false},
		{"the binary imports a node", "cloud/cmd/cloudtwin", "node", true},
		{"a prefix is not a parent", "cloud/elb", "cloud/ec2extra", false},
		{"a package without a floor", "cloud/unheard", "cloud/model", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, to := modulePath+"/"+tt.pkg, modulePath+"/"+tt.imports
			found := offences(listed{ImportPath: from, Imports: []string{to}})
			if (len(found) == 0) != tt.allowed {
				t.Errorf("%s imports %s: got offences %q, want allowed = %v", tt.pkg, tt.imports, found, tt.allowed)
			}
		})
	}
}

func TestFilesAndFolders(t *testing.T) {
	dir := root(t)
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return checkFolder(t, rel, entry.Name())
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		files++
		lines, generated, err := measure(path)
		if err == nil && !generated && lines > maxLines {
			t.Errorf("%s has %d lines, over %d: is it about one thing that its name says?", rel, lines, maxLines)
		}
		return err
	})
	if err != nil {
		t.Fatalf("walk the tree: %v", err)
	}
	if files == 0 {
		t.Fatal("the tree holds no Go file")
	}
}

func checkFolder(t *testing.T, rel, name string) error {
	t.Helper()
	top := !strings.ContainsRune(rel, filepath.Separator)
	switch {
	case rel == ".":
		return nil
	case strings.HasPrefix(name, ".") || name == "testdata":
		return filepath.SkipDir
	case top && (name == "bin" || name == "artifacts"):
		return filepath.SkipDir
	case top && !slices.Contains(topFolders, name):
		t.Errorf("folder %s is not one of the house: %s", rel, strings.Join(topFolders, ", "))
	case slices.Contains(emptyNames, name):
		t.Errorf("folder %s: its name says nothing about what is inside", rel)
	}
	return nil
}

// measure counts a file's lines and tells whether a tool wrote it.
func measure(path string) (lines int, generated bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		lines++
		line := scanner.Text()
		if strings.HasPrefix(line, "// Code generated ") && strings.HasSuffix(line, " DO NOT EDIT.") {
			generated = true
		}
	}
	return lines, generated, scanner.Err()
}
