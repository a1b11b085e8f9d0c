package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPageIsUpToDate fails when the page in the documentation is not what the code makes.
func TestPageIsUpToDate(t *testing.T) {
	want, err := page()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../cloudtwin/coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Errorf("run: go generate ./cloud/cmd/coverage (-want +have):\n%s", diff)
	}
}

func TestPage(t *testing.T) {
	text, err := page()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"CreateUser,", "| AssumeRole | ProvidedContexts is refused |", "| ChangePassword, CreateLoginProfile, ",
		"<details><summary>Not here, of EC2's other operations (7", "CreateVpc,", "| partly (2) |",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
}
