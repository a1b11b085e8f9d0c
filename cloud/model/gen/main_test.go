package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGeneratedIsCurrent generates again and holds the result against what is in the tree.
func TestGeneratedIsCurrent(t *testing.T) {
	dir := t.TempDir()
	if err := run("", dir); err != nil {
		t.Fatal(err)
	}
	for _, s := range services() {
		want, got := read(t, filepath.Join(dir, s.pkg)), read(t, filepath.Join("..", s.pkg))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("cloud/model/%s is not what the generator writes; run go generate ./cloud/model:\n%s", s.pkg, d)
		}
	}
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s holds nothing, error %v", dir, err)
	}
	files := map[string]string{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(text, []byte(header)) {
			files[filepath.Base(p)] = string(text)
		}
	}
	return files
}

const sample = `{
 "metadata": {"apiVersion": "2020-01-02", "protocol": "PROTOCOL", "xmlNamespace": "http://x/doc",
  "serviceFullName": "X"},
 "operations": {
  "Get": {"input": {"shape": "GetRequest"}, "output": {"shape": "thing", "resultWrapper": "GetResult"},
          "errors": [{"shape": "NoSuchThingException"}, {"shape": "Plain"}]},
  "List": {"output": {"shape": "ListResponse", "resultWrapper": "ListResult"}},
  "Drop": {"input": {"shape": "DropRequest"}}
 },
 "shapes": {
  "GetRequest": {"type": "structure", "required": ["name"], "members": {
    "name": {"shape": "nameType", "locationName": "theName"}, "Codes": {"shape": "codes", "queryName": "Code"},
    "Domain": {"shape": "domain"}}},
  "DropRequest": {"type": "structure", "members": {"Kind": {"shape": "kind"}}},
  "ListResponse": {"type": "structure", "members": {"Things": {"shape": "things", "locationName": "thingSet"}}},
  "thing": {"type": "structure", "members": {"Key": {"shape": "secret"}, "Self": {"shape": "thing"},
    "At": {"shape": "date"}}},
  "things": {"type": "list", "member": {"shape": "thing"}},
  "codes": {"type": "list", "member": {"shape": "code"}, "min": 1},
  "code": {"type": "integer", "max": 9},
  "nameType": {"type": "string", "min": 1, "max": 8, "pattern": "[\\w]+"},
  "domain": {"type": "string", "pattern": "a(?!b)"},
  "kind": {"type": "string", "enum": ["on-demand", "spot"]},
  "secret": {"type": "string", "sensitive": true},
  "date": {"type": "timestamp"},
  "NoSuchThingException": {"type": "structure", "members": {}, "exception": true,
    "error": {"code": "NoSuchThing", "httpStatusCode": 404}},
  "Plain": {"type": "structure", "members": {}, "exception": true}
 }
}`

func generateText(t *testing.T, text string, s service) (map[string]string, error) {
	t.Helper()
	models, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(models, "api-2.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.pkg, s.action, s.model = "x", "x", "."
	if err := generate(s, models, out); err != nil {
		return nil, err
	}
	return read(t, filepath.Join(out, "x")), nil
}

func TestGenerate(t *testing.T) {
	query, err := generateText(t, strings.Replace(sample, "PROTOCOL", "query", 1), service{})
	if err != nil {
		t.Fatal(err)
	}
	ec2, err := generateText(t, strings.Replace(sample, "PROTOCOL", "ec2", 1), service{open: []string{"kind"}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		files map[string]string
		file  string
		want  string
	}{
		{"required and pattern", query, "inputs.go",
			"Name *string `query:\"theName\" required:\"true\" min:\"1\" max:\"8\" pattern:\"[\\\\w]+\"`"},
		{"list", query, "inputs.go", "Codes []int64 `min:\"1\" eachMax:\"9\"`"},
		{"pattern that cannot be", query, "inputs.go", "// Not checked, since RE2 has no counterpart: pattern a(?!b)"},
		{"enum", query, "inputs.go", "Kind *string `enum:\"on-demand|spot\"`"},
		{"enum constants", query, "enums.go", "KindOnDemand = \"on-demand\""},
		{"no input", query, "inputs.go", "type ListInput struct{}"},
		{"no output", query, "outputs.go", "type DropOutput struct{}"},
		{"shared output", query, "outputs.go", "type GetOutput = Thing"},
		{"recursion and secrets", query, "types.go",
			"type Thing struct {\n\tAt *time.Time\n\tKey *string `sensitive:\"true\"`\n\tSelf *Thing\n}"},
		{"import", query, "types.go", "import \"time\""},
		{"error with code", query, "errors.go", "model.Errorf(\"NoSuchThing\", 404, format, args...)"},
		{"error without", query, "errors.go", "func ErrPlain(format string, args ...any) *model.Error {"},
		{"operation", query, "operations.go", "{Name: \"Get\", ResultWrapper: \"GetResult\", " +
			"NewInput: func() any { return new(GetInput) }, Bind: bindGet},"},
		{"service", query, "operations.go", "Namespace: \"http://x/doc/\","},
		{"ec2 capitals", ec2, "inputs.go", "query:\"TheName\""},
		{"ec2 query name", ec2, "inputs.go", "Codes []int64 `query:\"Code\" min:\"1\" eachMax:\"9\"`"},
		{"text", query, "answers.go",
			"func (v *Thing) WriteXML(w *model.Writer, top bool) { w.Time(\"At\", v.At) w.String(\"Key\", v.Key) " +
				"model.WriteStruct(w, \"Self\", v.Self) }"},
		{"nothing to write", query, "answers.go", "func (v *DropOutput) WriteXML(w *model.Writer, top bool) { }"},
		{"list to write", query, "answers.go", "model.WriteList(w, \"thingSet\", v.Things, top)"},
		{"ec2 element", ec2, "outputs.go", "Things []Thing `xml:\"thingSet\"`"},
		{"open enum", ec2, "inputs.go", "Kind *string\n"},
		{"ec2 protocol", ec2, "operations.go", "model.ProtocolEC2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if text := spaces(tt.files[tt.file]); !strings.Contains(text, spaces(tt.want)) {
				t.Errorf("%s lacks %s:\n%s", tt.file, tt.want, text)
			}
		})
	}
	if strings.Contains(query["answers.go"], "GetRequest") || strings.Contains(query["answers.go"], "GetInput") {
		t.Error("a request is written as an answer")
	}
	if _, ok := ec2["enums.go"]; ok {
		t.Error("an open enum has constants")
	}
}

// spaces makes one space of many, so that gofmt's columns do not matter.
func spaces(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestGenerateRefuses(t *testing.T) {
	tests := []struct {
		name    string
		old     string
		new     string
		only    []string
		message string
	}{
		{"protocol", "PROTOCOL", "json", nil, `protocol "json" is not supported`},
		{"type", `"type": "timestamp"`, `"type": "document"`, nil, `type "document" is not supported`},
		{"unknown shape", `{"shape": "kind"}`, `{"shape": "none"}`, nil, "the model has no shape none"},
		{"unknown operation", "", "", []string{"Nope"}, "the model has no operation Nope"},
		{"flattened", `"min": 1},`, `"min": 1, "flattened": true},`, nil, "flattened lists are not supported"},
		{"list of lists", `"member": {"shape": "thing"}`, `"member": {"shape": "codes"}`, nil, "lists of lists"},
		{"shared input", `{"shape": "DropRequest"}`, `{"shape": "GetRequest"}`, nil, "its input is used elsewhere"},
		{"enum names", `"spot"`, `"on_demand"`, nil, "two values are named KindOnDemand"},
		{"no JSON", `"metadata"`, `metadata`, nil, "parse model"},
		{"names", `"thing"`, `"dropOutput"`, nil, "the name DropOutput is taken by Drop"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := sample
			if tt.old != "" {
				text = strings.ReplaceAll(text, tt.old, tt.new)
			}
			text = strings.Replace(text, "PROTOCOL", "query", 1)
			_, err := generateText(t, text, service{only: tt.only})
			if err == nil || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("error is %v, want %q", err, tt.message)
			}
		})
	}
}
