// Command gen writes the Go types, operation tables, error constructors and enum constants of package model's
// sub-packages from the AWS service models that the module github.com/aws/aws-sdk-go ships.
//
// Run it with `go run ./cloud/model/gen` or `go generate ./cloud/model`. Its output depends on the version of that
// module in go.mod and on the list in services.go, and on nothing else. Nothing of the models' documentation text is
// read or copied.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const modelsModule = "github.com/aws/aws-sdk-go"

func main() {
	models := flag.String("models", "", "folder models/apis (default: that of "+modelsModule+" in the module cache)")
	out := flag.String("out", "", "folder of package model (default: cloud/model of this module)")
	flag.Parse()
	if err := run(*models, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(models, out string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if models == "" {
		dir, err := moduleDir(ctx, modelsModule)
		if err != nil {
			return err
		}
		models = filepath.Join(dir, "models", "apis")
	}
	if out == "" {
		dir, err := moduleDir(ctx, "")
		if err != nil {
			return err
		}
		out = filepath.Join(dir, "cloud", "model")
	}
	for _, s := range services() {
		if err := generate(s, models, out); err != nil {
			return fmt.Errorf("generate %s: %w", s.pkg, err)
		}
	}
	return nil
}

// moduleDir returns the folder of a module, downloading it if need be; the main module's for "".
func moduleDir(ctx context.Context, module string) (string, error) {
	args := []string{"list", "-m", "-f", "{{.Dir}}"}
	if module != "" {
		if out, err := exec.CommandContext(ctx, "go", "mod", "download", module).CombinedOutput(); err != nil {
			return "", fmt.Errorf("download %s: %w: %s", module, err, out)
		}
		args = append(args, module)
	}
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("find module %q: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// generate writes one service's package.
func generate(s service, models, out string) error {
	a, err := load(filepath.Join(models, s.model, "api-2.json"))
	if err != nil {
		return err
	}
	g, err := newGenerator(s, a)
	if err != nil {
		return err
	}
	dir := filepath.Join(out, s.pkg)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a source folder
		return fmt.Errorf("make folder: %w", err)
	}
	files := map[string]func() ([]byte, error){
		"doc.go": g.doc, "inputs.go": g.inputs, "outputs.go": g.outputs, "types.go": g.types,
		"answers.go":    g.answers,
		"operations.go": g.operations, "errors.go": g.errors, "enums.go": g.enums,
	}
	for name, write := range files {
		text, err := write()
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		path := filepath.Join(dir, name)
		if text == nil { // the service has none
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("remove %s: %w", name, err)
			}
			continue
		}
		if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // a source file
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}
