package policy

import (
	"slices"
	"strings"
)

// Position is a place in a document's text, both parts from 1 and the column in bytes.
type Position struct{ Line, Column int }

// Match is a statement that applies to a request.
type Match struct {
	Stage     Stage
	Policy    string // the Source's name
	ID, Type  string // the Source's
	Statement int    // index in its document
	Sid       string
	Effect    Effect
	// Start and End bound the statement's text.
	Start, End Position
}

// Matched lists the statements that apply to r, stage by stage in the order in which Explain tells of them.
func (s *Set) Matched(r *Request) []Match {
	var out []Match
	s.each(func(st Stage, src *Source) { out = append(out, src.matched(st, r)...) })
	return out
}

func (src *Source) matched(st Stage, r *Request) []Match {
	if src.Document == nil {
		return nil
	}
	var out []Match
	for i := range src.Document.Statements {
		s := &src.Document.Statements[i]
		if s.applies(r) == grantNone {
			continue
		}
		out = append(out, Match{
			Stage: st, Policy: src.Name, ID: src.ID, Type: src.Type, Statement: i, Sid: s.Sid, Effect: s.Effect,
			Start: src.Document.position(s.start), End: src.Document.position(s.end),
		})
	}
	return out
}

func (d *Document) position(offset int) Position {
	e := errorAt(d.text, offset, "", "")
	return Position{Line: e.Line, Column: e.Column}
}

// ContextKeys lists the condition keys that the document's conditions and policy variables ask for, as they are
// written, sorted, and once each whatever their case.
func (d *Document) ContextKeys() []string {
	var keys []string
	add := func(key string) {
		if !slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) }) {
			keys = append(keys, key)
		}
	}
	variables := func(p *pattern) {
		for _, q := range p.pieces {
			if q.kind == pieceVariable {
				add(q.key)
			}
		}
	}
	for i := range d.Statements {
		s := &d.Statements[i]
		for j := range s.resources {
			variables(&s.resources[j])
		}
		for j := range s.conditions {
			c := &s.conditions[j]
			add(c.key)
			for k := range c.operands {
				variables(&c.operands[k].pattern)
				for l := range c.operands[k].arn.parts {
					variables(&c.operands[k].arn.parts[l])
				}
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// MissingKeys lists the condition keys that decide whether a statement of the set applies to r and that r has not:
// of statements whose action, resource and principal match.
func (s *Set) MissingKeys(r *Request) []string {
	var missing []string
	look := func(sources []Source) {
		for i := range sources {
			if sources[i].Document != nil {
				missing = append(missing, sources[i].Document.missingKeys(r)...)
			}
		}
	}
	look(s.Control)
	look(s.Identity)
	look(s.Boundary)
	look(s.Session)
	if s.Resource != nil {
		look([]Source{*s.Resource})
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func (d *Document) missingKeys(r *Request) []string {
	var missing []string
	for i := range d.Statements {
		s := &d.Statements[i]
		if !s.matchesAction(r.Action) || !s.matchesResource(r) || s.names(&r.Principal) == grantNone {
			continue
		}
		for j := range s.conditions {
			c := &s.conditions[j]
			if r.Context != nil {
				if _, ok := r.Context.Values(c.lower); ok {
					continue
				}
			}
			missing = append(missing, c.key)
		}
	}
	return missing
}

// GrantsService reports whether a statement allows some action of a service, whatever its resources and conditions.
func (d *Document) GrantsService(namespace string) bool {
	for i := range d.Statements {
		s := &d.Statements[i]
		if s.Effect != Allow {
			continue
		}
		if s.notAction {
			return true
		}
		for j := range s.actions {
			vendor, _, _ := strings.Cut(s.actions[j].text, ":")
			if vendor == "*" || strings.EqualFold(vendor, namespace) {
				return true
			}
		}
	}
	return false
}
