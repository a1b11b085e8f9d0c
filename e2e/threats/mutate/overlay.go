package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// variable names the check that is taken out.
const variable = "CLOUDTWIN_MUTANT"

// switchFile is added to every package that is altered.
const switchFile = "mutated_overlay.go"

const switchText = `package %s

import "os"

var mutatedName = os.Getenv("` + variable + `")

func mutated(name string) bool { return mutatedName == name }
`

var packageClause = regexp.MustCompile(`(?m)^package (\w+)$`)

// writeOverlay writes the altered files into dir and returns the path of the overlay for go build. An edit whose text
// is not there exactly once is an error: the code has moved, and the edit must move with it.
func writeOverlay(root, dir string, edits []edit) (string, error) {
	texts := map[string]string{}
	for _, e := range edits {
		path := filepath.Join(root, e.file)
		if texts[path] == "" {
			data, err := os.ReadFile(path)
			if err != nil {
				return "", fmt.Errorf("read source: %w", err)
			}
			texts[path] = string(data)
		}
		if n := strings.Count(texts[path], e.was); n != 1 {
			return "", fmt.Errorf("%s has this %d times, want once: %s", e.file, n, e.was)
		}
		texts[path] = strings.Replace(texts[path], e.was, e.by, 1)
		clause := packageClause.FindStringSubmatch(texts[path])
		if clause == nil {
			return "", fmt.Errorf("%s has no package clause", e.file)
		}
		texts[filepath.Join(filepath.Dir(path), switchFile)] = fmt.Sprintf(switchText, clause[1])
	}
	replace := map[string]string{}
	for path, text := range texts {
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write altered source: %w", err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	return path, nil
}
