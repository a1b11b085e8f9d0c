package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDocument bounds what Parse reads, in bytes. AWS's own limits (2,048 to 10,240 characters) are lower and are
// the business of whoever stores the document.
const maxDocument = 128 << 10

// maxDepth is more nesting than any policy has: document, statements, statement, condition, operator, values.
const maxDepth = 12

type nodeKind int

const (
	kindNull nodeKind = iota
	kindString
	kindNumber
	kindBool
	kindList
	kindObject
)

func (k nodeKind) String() string {
	switch k {
	case kindNull:
		return "null"
	case kindString:
		return "a string"
	case kindNumber:
		return "a number"
	case kindBool:
		return "a boolean"
	case kindList:
		return "a list"
	case kindObject:
		return "an object"
	}
	return "unknown"
}

// node is one JSON value with its place in the text. encoding/json's own decoding into structs would forget
// duplicate names, order and place, and an error that names the element needs all three.
type node struct {
	kind    nodeKind
	offset  int
	end     int    // of a list or object: behind its bracket
	text    string // of a string, number or boolean
	items   []*node
	members []member
}

type member struct {
	name   string
	offset int
	value  *node
}

// Error says which element of a document is wrong and where. Services answer it as MalformedPolicyDocument.
type Error struct {
	Element string // such as "Statement[0].Action"; empty for the document as a whole
	Line    int    // from 1
	Column  int    // from 1, in bytes
	Message string
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Element != "" {
		b.WriteString(e.Element)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	fmt.Fprintf(&b, " at position (%d,%d)", e.Line, e.Column)
	return b.String()
}

func errorAt(text string, offset int, element, format string, args ...any) *Error {
	offset = min(max(offset, 0), len(text))
	before := text[:offset]
	return &Error{
		Element: element,
		Line:    1 + strings.Count(before, "\n"),
		Column:  1 + offset - (strings.LastIndexByte(before, '\n') + 1),
		Message: fmt.Sprintf(format, args...),
	}
}

// readJSON reads exactly one JSON value with unique member names.
func readJSON(text string) (*node, error) {
	if len(text) > maxDocument {
		return nil, errorAt(text, maxDocument, "", "document is longer than %d bytes", maxDocument)
	}
	if !utf8.ValidString(text) {
		return nil, errorAt(text, 0, "", "document is not UTF-8")
	}
	r := &reader{text: text, dec: json.NewDecoder(bytes.NewReader([]byte(text)))}
	r.dec.UseNumber()
	n, err := r.value("", 0)
	if err != nil {
		return nil, err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errorAt(text, r.offset(), "", "syntax error: text after the document")
	}
	return n, nil
}

type reader struct {
	text string
	dec  *json.Decoder
}

func (r *reader) offset() int { return int(r.dec.InputOffset()) }

// next returns the next token and the place where it starts.
func (r *reader) next() (json.Token, int, error) {
	at := r.offset()
	for at < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[at]) >= 0 {
		at++
	}
	t, err := r.dec.Token()
	if err != nil {
		at = r.offset()
		var syn *json.SyntaxError
		switch {
		case errors.As(err, &syn):
			at = int(syn.Offset)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			at, err = len(r.text), errors.New("document ends early")
		}
		return nil, at, errorAt(r.text, at, "", "syntax error: %v", err)
	}
	return t, at, nil
}

func (r *reader) value(element string, depth int) (*node, error) {
	t, at, err := r.next()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, errorAt(r.text, at, element, "nested more than %d deep", maxDepth)
	}
	switch v := t.(type) {
	case string:
		return &node{kind: kindString, offset: at, text: v}, nil
	case json.Number:
		return &node{kind: kindNumber, offset: at, text: v.String()}, nil
	case bool:
		return &node{kind: kindBool, offset: at, text: fmt.Sprint(v)}, nil
	case nil:
		return &node{kind: kindNull, offset: at}, nil
	case json.Delim:
		if v == '[' {
			return r.list(element, at, depth)
		}
		if v == '{' {
			return r.object(element, at, depth)
		}
	}
	return nil, errorAt(r.text, at, element, "syntax error: unexpected %v", t)
}

func (r *reader) list(element string, at, depth int) (*node, error) {
	n := &node{kind: kindList, offset: at}
	for r.dec.More() {
		item, err := r.value(fmt.Sprintf("%s[%d]", element, len(n.items)), depth+1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
	_, _, err := r.next()
	n.end = r.offset()
	return n, err
}

func (r *reader) object(element string, at, depth int) (*node, error) {
	n := &node{kind: kindObject, offset: at}
	seen := make(map[string]bool)
	for r.dec.More() {
		t, nameAt, err := r.next()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, errorAt(r.text, nameAt, element, "syntax error: unexpected %v", t)
		}
		path := join(element, name)
		if seen[name] {
			return nil, errorAt(r.text, nameAt, path, "given twice")
		}
		seen[name] = true
		v, err := r.value(path, depth+1)
		if err != nil {
			return nil, err
		}
		n.members = append(n.members, member{name: name, offset: nameAt, value: v})
	}
	_, _, err := r.next()
	n.end = r.offset()
	return n, err
}

func join(element, name string) string {
	if element == "" {
		return name
	}
	return element + "." + name
}
