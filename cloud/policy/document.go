package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Grammar says which elements a document may and must have.
type Grammar int

// The grammars.
const (
	// Identity documents belong to a user, group, role or session: Resource is required, Principal is refused.
	Identity Grammar = iota
	// Trust documents say who may assume a role: Principal is required, Resource is refused, actions are STS's.
	Trust
	// Resource documents belong to a resource such as a bucket: Principal and Resource are required.
	Resource
)

// Effect is what a statement does when it applies.
type Effect int

// The effects. The zero Effect is none, so that a forgotten one allows nothing.
const (
	Allow Effect = iota + 1
	Deny
)

func (e Effect) String() string {
	switch e {
	case Allow:
		return "Allow"
	case Deny:
		return "Deny"
	}
	return "none"
}

// Document is a compiled policy document. It is immutable and safe for use by many goroutines.
type Document struct {
	Version    string // 2012-10-17, or 2008-10-17 (also when the text names none)
	ID         string
	Statements []Statement
	text       string
}

// Text returns the document as it was given to Parse.
func (d *Document) Text() string { return d.text }

// Statement is one compiled statement.
type Statement struct {
	Sid    string // may be empty
	Effect Effect

	actions       []pattern
	notAction     bool
	resources     []pattern
	notResource   bool
	hasResource   bool
	principals    []principalEntry
	notPrincipal  bool
	hasPrincipals bool
	conditions    []condition
	start, end    int // in the document's text
}

// Principals lists the AWS principals (account ids and ARNs) that the document's statements name, in order and
// once each, so that the service which stores a trust policy can refuse names that do not exist.
func (d *Document) Principals() []string {
	var out []string
	for i := range d.Statements {
		for _, p := range d.Statements[i].principals {
			if p.kind == principalAWS && p.value != "*" && !slices.Contains(out, p.value) {
				out = append(out, p.value)
			}
		}
	}
	return out
}

const (
	version2012 = "2012-10-17"
	version2008 = "2008-10-17"
)

// Parse compiles a document. The error is an *Error that names the first wrong element and its position.
func Parse(text string, g Grammar) (*Document, error) {
	root, err := readJSON(text)
	if err != nil {
		return nil, err
	}
	p := &parser{text: text, grammar: g, sids: make(map[string]bool)}
	d, perr := p.document(root)
	if perr != nil {
		return nil, perr
	}
	d.text = text
	return d, nil
}

type parser struct {
	text      string
	grammar   Grammar
	variables bool
	sids      map[string]bool
}

func (p *parser) fail(n *node, element, format string, args ...any) *Error {
	return errorAt(p.text, n.offset, element, format, args...)
}

func (p *parser) document(root *node) (*Document, *Error) {
	if root.kind != kindObject {
		return nil, p.fail(root, "", "document must be an object, not %s", root.kind)
	}
	d := &Document{Version: version2008}
	var statements *node
	for _, m := range root.members {
		switch m.name {
		case "Version":
			d.Version = m.value.text
			if d.Version != version2012 && d.Version != version2008 {
				return nil, p.fail(m.value, "Version", "must be %q or %q", version2012, version2008)
			}
		case "Id":
			d.ID = m.value.text
			if m.value.kind != kindString {
				return nil, p.fail(m.value, "Id", "must be a string, not %s", m.value.kind)
			}
		case "Statement":
			statements = m.value
		default:
			return nil, errorAt(p.text, m.offset, m.name, "unknown element")
		}
	}
	p.variables = d.Version == version2012
	if statements == nil {
		return nil, p.fail(root, "Statement", "missing required element")
	}
	return d, p.statements(d, statements)
}

func (p *parser) statements(d *Document, statements *node) *Error {
	items, list := []*node{statements}, false
	if statements.kind == kindList {
		items, list = statements.items, true
	}
	if len(items) == 0 {
		return p.fail(statements, "Statement", "must hold at least one statement")
	}
	for i, n := range items {
		element := "Statement"
		if list {
			element = fmt.Sprintf("Statement[%d]", i)
		}
		s, err := p.statement(n, element)
		if err != nil {
			return err
		}
		d.Statements = append(d.Statements, s)
	}
	return nil
}

func (p *parser) statement(n *node, element string) (Statement, *Error) {
	s := Statement{start: n.offset, end: n.end}
	if n.kind != kindObject {
		return s, p.fail(n, element, "must be an object, not %s", n.kind)
	}
	seen := make(map[string]bool)
	for _, m := range n.members {
		at := join(element, m.name)
		opposite, paired := pairOf(m.name)
		if paired && seen[opposite] {
			return s, errorAt(p.text, m.offset, at, "must not stand beside %s", opposite)
		}
		seen[m.name] = true
		if err := p.element(&s, m, at); err != nil {
			return s, err
		}
	}
	if s.Effect == 0 {
		return s, p.fail(n, element+".Effect", "missing required element")
	}
	if len(s.actions) == 0 {
		return s, p.fail(n, element+".Action", "missing required element")
	}
	switch {
	case !s.hasResource && p.grammar != Trust:
		return s, p.fail(n, element+".Resource", "missing required element")
	case !s.hasPrincipals && p.grammar != Identity:
		return s, p.fail(n, element+".Principal", "missing required element")
	case s.notPrincipal && s.Effect == Allow && p.grammar == Trust:
		return s, p.fail(n, element+".NotPrincipal", "must not be used with Effect Allow")
	}
	return s, nil
}

func pairOf(name string) (string, bool) {
	if strings.HasPrefix(name, "Not") {
		return strings.TrimPrefix(name, "Not"), true
	}
	switch name {
	case "Action", "Resource", "Principal":
		return "Not" + name, true
	}
	return "", false
}

func (p *parser) element(s *Statement, m member, at string) *Error {
	switch m.name {
	case "Sid":
		return p.sid(s, m.value, at)
	case "Effect":
		return p.effect(s, m.value, at)
	case "Action", "NotAction":
		s.notAction = m.name == "NotAction"
		return p.actions(s, m.value, at)
	case "Resource", "NotResource":
		if p.grammar == Trust {
			return errorAt(p.text, m.offset, at, "has no place in a trust policy")
		}
		s.notResource = m.name == "NotResource"
		return p.resources(s, m.value, at)
	case "Principal", "NotPrincipal":
		if p.grammar == Identity {
			return errorAt(p.text, m.offset, at, "policy document should not specify a principal")
		}
		s.notPrincipal = m.name == "NotPrincipal"
		return p.principals(s, m.value, at)
	case "Condition":
		return p.conditions(s, m.value, at)
	}
	return errorAt(p.text, m.offset, at, "unknown element")
}

func (p *parser) sid(s *Statement, n *node, at string) *Error {
	if n.kind != kindString {
		return p.fail(n, at, "must be a string, not %s", n.kind)
	}
	for _, c := range n.text {
		if !isAlphanumeric(c) {
			return p.fail(n, at, "must hold only letters and digits")
		}
	}
	if n.text != "" && p.sids[n.text] {
		return p.fail(n, at, "statement ids must be unique: %q is given twice", n.text)
	}
	p.sids[n.text] = true
	s.Sid = n.text
	return nil
}

func isAlphanumeric(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (p *parser) effect(s *Statement, n *node, at string) *Error {
	switch {
	case n.kind == kindString && n.text == "Allow":
		s.Effect = Allow
	case n.kind == kindString && n.text == "Deny":
		s.Effect = Deny
	default:
		return p.fail(n, at, `must be "Allow" or "Deny"`)
	}
	return nil
}

// stringsOf reads a string or a list of strings, at least one.
func (p *parser) stringsOf(n *node, at string) ([]*node, *Error) {
	items := []*node{n}
	if n.kind == kindList {
		items = n.items
	}
	if len(items) == 0 {
		return nil, p.fail(n, at, "must not be empty")
	}
	for _, it := range items {
		if it.kind != kindString {
			return nil, p.fail(it, at, "must be a string or a list of strings, not %s", it.kind)
		}
	}
	return items, nil
}

func (p *parser) actions(s *Statement, n *node, at string) *Error {
	items, err := p.stringsOf(n, at)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.text != "*" && it.text != "*:*" {
			vendor, name, found := strings.Cut(it.text, ":")
			if !found || vendor == "" {
				return p.fail(it, at, "%q must be prefaced by a vendor, such as iam or ec2", clip(it.text))
			}
			if !isAction(vendor, name) {
				return p.fail(it, at, "%q is not the name of an action", clip(it.text))
			}
			if p.grammar == Trust && !strings.EqualFold(vendor, "sts") {
				return p.fail(it, at, "a trust policy may only name STS actions, not %q", clip(it.text))
			}
		}
		// A pattern's own letters are folded when it is matched: action names are case-insensitive.
		c, cerr := compilePattern(it.text, false, true)
		if cerr != nil {
			return p.fail(it, at, "%v", cerr)
		}
		s.actions = append(s.actions, c)
	}
	return nil
}

// isAction reports whether a name such as iam:Get* has a vendor without wildcards and a plain action name.
func isAction(vendor, name string) bool {
	plain := func(extra string) func(rune) bool {
		return func(c rune) bool { return !isAlphanumeric(c) && !strings.ContainsRune(extra, c) }
	}
	return name != "" && !strings.ContainsFunc(vendor, plain("-")) && !strings.ContainsFunc(name, plain("*?"))
}

func (p *parser) resources(s *Statement, n *node, at string) *Error {
	items, err := p.stringsOf(n, at)
	if err != nil {
		return err
	}
	for _, it := range items {
		if !p.resourceSyntax(it.text) {
			return p.fail(it, at, `%q must be in ARN format or "*"`, clip(it.text))
		}
		c, cerr := compilePattern(it.text, p.variables, true)
		if cerr != nil {
			return p.fail(it, at, "%q: %v", clip(it.text), cerr)
		}
		s.resources = append(s.resources, c)
	}
	s.hasResource = true
	return nil
}

func (p *parser) resourceSyntax(text string) bool {
	if text == "*" {
		return true
	}
	parts := splitARN(text, p.variables)
	if len(parts) != arnParts || parts[0] != "arn" || parts[2] == "" || parts[arnParts-1] == "" {
		return false
	}
	return parts[1] == "*" || parts[1] == "aws" || strings.HasPrefix(parts[1], "aws-")
}

// clip keeps what an error repeats of the caller's text short.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
