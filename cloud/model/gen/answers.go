package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// answers writes, for each structure that an answer can hold, the method that writes it as XML.
func (g *generator) answers() ([]byte, error) {
	var b bytes.Buffer
	for _, op := range g.ops {
		if g.api.Operations[op].Output == nil {
			fmt.Fprintf(&b, writeXML+"}\n\n", op+"Output")
		}
	}
	for _, name := range g.structures() {
		if !g.inOutput[name] {
			continue
		}
		s := g.api.Shapes[name]
		fmt.Fprintf(&b, writeXML, g.typeName[name])
		for _, member := range slices.Sorted(maps.Keys(s.Members)) {
			line, err := g.writeMember(member, s.Members[member])
			if err != nil {
				return nil, fmt.Errorf("%s.%s: %w", name, member, err)
			}
			b.WriteString(line)
		}
		b.WriteString("}\n\n")
	}
	return g.file([]string{"github.com/cloudtwin/cloudtwin/cloud/model"}, b.Bytes())
}

// writeXML begins a method.
const writeXML = "// WriteXML implements model.Output.\nfunc (v *%s) WriteXML(w *model.Writer, top bool) {\n"

// writeMember is the line that writes a structure's member.
func (g *generator) writeMember(member string, r ref) (string, error) {
	goType, err := g.goType(r.Shape)
	if err != nil {
		return "", err
	}
	element, field := member, "v."+exported(member)
	if r.LocationName != "" {
		element = r.LocationName
	}
	methods := map[string]string{
		"*string": "String", "*int64": "Int", "*float64": "Float", "*bool": "Bool", "*time.Time": "Time", "[]byte": "Blob",
		"map[string]string": "StringMap", "map[string]int64": "IntMap",
	}
	lists := map[string]string{"[]string": "Strings", "[]int64": "Ints"}
	switch method, list := methods[goType], lists[goType]; {
	case method != "":
		return fmt.Sprintf("w.%s(%q, %s)\n", method, element, field), nil
	case list != "":
		return fmt.Sprintf("w.%s(%q, %s, top)\n", list, element, field), nil
	}
	held := g.api.Shapes[r.Shape]
	switch {
	case held.Type == "structure":
		return fmt.Sprintf("model.WriteStruct(w, %q, %s)\n", element, field), nil
	case held.Type == "list" && g.api.Shapes[held.Member.Shape].Type == "structure":
		return fmt.Sprintf("model.WriteList(w, %q, %s, top)\n", element, field), nil
	}
	return "", fmt.Errorf("an answer cannot hold the type %s", strings.TrimPrefix(goType, "*"))
}
