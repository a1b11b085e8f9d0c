package model

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a form. The largest honest requests (a thousand instance ids or tags) stay far below.
const (
	maxParameters = 10_000
	maxDepth      = 16 // dots in a parameter name; deeper ones cannot name a member of any model
)

// node is a parameter name's place in the tree that the dots in the names span.
type node struct {
	value    string
	set      bool
	children map[string]*node
}

// parse builds the tree of the parameters that the structure knows by the first part of their names. Its size is
// bounded by the form's: list numbers are keys, never lengths.
func parse(form url.Values, p *structPlan) (*node, error) {
	if len(form) > maxParameters {
		return nil, Errorf("MalformedQueryString", http.StatusBadRequest,
			"The request has %d parameters, more than %d", len(form), maxParameters)
	}
	root := &node{}
	for name, values := range form {
		if strings.Count(name, ".") > maxDepth {
			continue
		}
		if len(values) != 1 {
			return nil, Errorf("MalformedQueryString", http.StatusBadRequest, "The parameter %s is given %d times",
				printable(name), len(values))
		}
		if first, _, _ := strings.Cut(name, "."); p.field(first) == nil {
			continue
		}
		at := root
		for part := range strings.SplitSeq(name, ".") {
			if at.children == nil {
				at.children = map[string]*node{}
			}
			next := at.children[part]
			if next == nil {
				next = &node{}
				at.children[part] = next
			}
			at = next
		}
		at.value, at.set = values[0], true
	}
	return root, nil
}

// decode fills in, a pointer to a struct.
func (c *codec) decode(form url.Values, in any) error {
	v := reflect.ValueOf(in).Elem()
	p := c.plan(v.Type())
	root, err := parse(form, p)
	if err != nil {
		return err
	}
	return c.decodeFields(p, root, "", v)
}

func (c *codec) decodeFields(p *structPlan, n *node, path string, into reflect.Value) error {
	if len(n.children) == 0 {
		return nil
	}
	for _, f := range p.fields {
		child := n.children[f.query]
		if child == nil {
			continue
		}
		if err := c.decodeValue(f.value, child, join(path, f.query), into.Field(f.index)); err != nil {
			return err
		}
	}
	return nil
}

func (c *codec) decodeValue(p *valuePlan, n *node, path string, into reflect.Value) error {
	if p.pointer {
		target := reflect.New(into.Type().Elem())
		into.Set(target)
		into = target.Elem()
	}
	switch p.kind {
	case kindStruct:
		if n.set && n.value != "" {
			return c.malformed(path, "a structure is expected, not a value")
		}
		return c.decodeFields(p.fields, n, path, into)
	case kindList:
		return c.decodeList(p, n, path, into)
	case kindMap:
		return c.decodeMap(p, n, path, into)
	case kindString, kindInt, kindFloat, kindBool, kindTime, kindBlob:
		return c.decodeScalar(p, n, path, into)
	}
	return nil
}

// decodeList reads the entries in the order of their numbers. Gaps are closed: what counts is the order.
func (c *codec) decodeList(p *valuePlan, n *node, path string, into reflect.Value) error {
	if n.set && n.value != "" {
		return c.malformed(path, "a list is expected: write "+path+c.entry()+".1")
	}
	entries := n
	if c.protocol == ProtocolQuery {
		path += c.entry()
		if entries = n.children["member"]; entries == nil {
			entries = &node{}
		}
	}
	numbers, err := c.numbers(entries, path)
	if err != nil {
		return err
	}
	list := reflect.MakeSlice(into.Type(), len(numbers), len(numbers))
	for i, number := range numbers {
		if err := c.decodeValue(p.elem, entries.children[number], join(path, number), list.Index(i)); err != nil {
			return err
		}
	}
	into.Set(list)
	return nil
}

func (c *codec) decodeMap(p *valuePlan, n *node, path string, into reflect.Value) error {
	entries := n.children["entry"]
	if entries == nil {
		entries = &node{}
	}
	path = join(path, "entry")
	numbers, err := c.numbers(entries, path)
	if err != nil {
		return err
	}
	m := reflect.MakeMapWithSize(into.Type(), len(numbers))
	for _, number := range numbers {
		entry, at := entries.children[number], join(path, number)
		key, value := reflect.New(into.Type().Key()).Elem(), reflect.New(into.Type().Elem()).Elem()
		for _, part := range []struct {
			name string
			plan *valuePlan
			into reflect.Value
		}{{"key", p.key, key}, {"value", p.elem, value}} {
			child := entry.children[part.name]
			if child == nil {
				return c.malformed(join(at, part.name), "it is missing")
			}
			if err := c.decodeValue(part.plan, child, join(at, part.name), part.into); err != nil {
				return err
			}
		}
		m.SetMapIndex(key, value)
	}
	into.Set(m)
	return nil
}

// numbers returns a list's entry numbers, as written, in numeric order.
func (c *codec) numbers(n *node, path string) ([]string, error) {
	type entry struct {
		name   string
		number int64
	}
	entries := make([]entry, 0, len(n.children))
	for name := range n.children {
		number, err := strconv.ParseInt(name, 10, 32)
		if err != nil || number < 0 || name[0] == '+' || name[0] == '-' {
			return nil, c.malformed(join(path, name), "the number of a list entry is expected")
		}
		entries = append(entries, entry{name: name, number: number})
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if a.number != b.number {
			return int(a.number - b.number)
		}
		return strings.Compare(a.name, b.name)
	})
	names := make([]string, len(entries))
	for i, e := range entries {
		if i > 0 && entries[i-1].number == e.number {
			return nil, c.malformed(join(path, e.name), "the entry is given twice")
		}
		names[i] = e.name
	}
	return names, nil
}

func (c *codec) decodeScalar(p *valuePlan, n *node, path string, into reflect.Value) error {
	if !n.set {
		return c.malformed(path, "a value is expected, not a structure")
	}
	if wrong := setScalar(p.kind, n.value, into); wrong != "" {
		shown := strconv.Quote(truncate(n.value))
		if p.checks.sensitive || p.kind == kindBlob { // a value that may be secret is not repeated
			shown = "the value"
		}
		return c.malformed(path, shown+" is "+wrong)
	}
	return nil
}

// setScalar reads value into a Go value; wrong says what value is not.
func setScalar(k kind, value string, into reflect.Value) (wrong string) {
	var err error
	switch k {
	case kindString:
		into.SetString(value)
	case kindInt:
		var i int64
		i, err = strconv.ParseInt(value, 10, 64)
		into.SetInt(i)
		wrong = "not an integer"
	case kindFloat:
		var f float64
		f, err = strconv.ParseFloat(value, 64)
		into.SetFloat(f)
		wrong = "not a number"
	case kindBool:
		var b bool
		b, err = strconv.ParseBool(strings.ToLower(value))
		into.SetBool(b)
		wrong = "neither true nor false"
	case kindTime:
		var t time.Time
		t, err = parseTime(value)
		into.Set(reflect.ValueOf(t))
		wrong = "not a time of the form YYYY-MM-DDTHH:MM:SSZ"
	case kindBlob:
		var b []byte
		b, err = base64.StdEncoding.DecodeString(value)
		into.SetBytes(b)
		wrong = "not base64"
	case kindStruct, kindList, kindMap: // not scalars
	}
	if err != nil {
		return wrong
	}
	return ""
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t, err = time.Parse("20060102T150405Z", s)
	}
	return t.UTC(), err
}

// malformed is the error for a parameter that cannot be read as its type.
func (c *codec) malformed(path, why string) *Error {
	if c.protocol == ProtocolEC2 {
		return Errorf("InvalidParameterValue", http.StatusBadRequest, "The parameter %s is invalid: %s",
			printable(path), why)
	}
	return Errorf("MalformedInput", http.StatusBadRequest, "The parameter %s is malformed: %s", printable(path), why)
}

// entry is what stands between a list's name and the number of an entry.
func (c *codec) entry() string {
	if c.protocol == ProtocolEC2 {
		return ""
	}
	return ".member"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// printable bounds what a message repeats of a name that the client chose.
func printable(s string) string {
	return strings.ToValidUTF8(truncate(s), "?")
}

// maxShown is how many bytes of a client's value a message repeats.
const maxShown = 512

func truncate(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return s[:maxShown] + "..."
}
