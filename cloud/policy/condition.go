package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Context gives the values of a request's condition keys.
type Context interface {
	// Values returns the values of key, which is in lower case ("aws:sourceip"), and whether the request has the
	// key at all. The caller does not change the slice, and is done with it before it asks for another key.
	Values(key string) (values []string, ok bool)
}

// ContextMap is a Context whose keys are in lower case.
type ContextMap map[string][]string

// Values implements Context.
func (m ContextMap) Values(key string) ([]string, bool) {
	v, ok := m[key]
	return v, ok
}

// condition is one key of a Condition element's operator.
type condition struct {
	op       operator
	key      string // as written
	lower    string
	operands []operand
}

func (p *parser) conditions(s *Statement, n *node, at string) *Error {
	if n.kind != kindObject {
		return p.fail(n, at, "must be an object, not %s", n.kind)
	}
	for _, m := range n.members {
		path := join(at, m.name)
		op, ok := parseOperator(m.name)
		if !ok {
			return errorAt(p.text, m.offset, path, "unknown condition operator")
		}
		if m.value.kind != kindObject || len(m.value.members) == 0 {
			return p.fail(m.value, path, "must be an object with at least one condition key")
		}
		for _, k := range m.value.members {
			c, err := p.condition(op, k, join(path, k.name))
			if err != nil {
				return err
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return nil
}

func (p *parser) condition(op operator, m member, at string) (condition, *Error) {
	c := condition{op: op, key: m.name, lower: strings.ToLower(m.name)}
	if vendor, name, ok := strings.Cut(m.name, ":"); !ok || vendor == "" || name == "" {
		return c, errorAt(p.text, m.offset, at, "condition keys must be prefaced by a vendor, such as aws or iam")
	}
	items := []*node{m.value}
	if m.value.kind == kindList {
		items = m.value.items
	}
	for _, it := range items {
		switch it.kind {
		case kindString, kindNumber, kindBool:
		case kindNull, kindList, kindObject:
			return c, p.fail(it, at, "must be a string, number, boolean or a list of them, not %s", it.kind)
		}
		o, err := op.compile(it.text, p.variables)
		if err != nil {
			return c, p.fail(it, at, "%q %v", clip(it.text), err)
		}
		c.operands = append(c.operands, o)
	}
	return c, nil
}

// met decides the condition by the User Guide's rules for absent keys: a positive operator is not met, a negated one
// is, …IfExists and ForAllValues are, ForAnyValue is not.
func (c *condition) met(ctx Context) bool {
	var values []string
	present := false
	if ctx != nil {
		values, present = ctx.Values(c.lower)
	}
	if c.op.compare == compareNull {
		for i := range c.operands {
			if c.operands[i].truth != present {
				return true
			}
		}
		return false
	}
	if !present || len(values) == 0 {
		if c.op.ifExists {
			return true
		}
		switch c.op.quantifier {
		case quantifyAll:
			return true
		case quantifyAny:
			return false
		case quantifyNone:
		}
		return c.op.negated
	}
	return c.quantified(values, ctx)
}

func (c *condition) quantified(values []string, ctx Context) bool {
	some, all := false, true
	for _, v := range values {
		if c.one(v, ctx) {
			some = true
		} else {
			all = false
		}
	}
	switch {
	case c.op.quantifier == quantifyAll:
		return all
	case c.op.quantifier == quantifyAny:
		return some
	// Several values without a set operator: a positive operator wants one of them, a negated one wants none.
	case c.op.negated:
		return all
	}
	return some
}

// one decides for one value of the request: the operands are alternatives, and under negation none may hold.
func (c *condition) one(v string, ctx Context) bool {
	for i := range c.operands {
		if c.op.holds(v, &c.operands[i], ctx) {
			return !c.op.negated
		}
	}
	return c.op.negated
}

func (c *condition) trace(ctx Context) ConditionTrace {
	t := ConditionTrace{Operator: c.op.name, Key: c.key, Met: c.met(ctx)}
	for i := range c.operands {
		t.Want = append(t.Want, c.operands[i].text)
	}
	if ctx != nil {
		t.Have, t.Present = ctx.Values(c.lower)
		t.Have = slices.Clone(t.Have)
	}
	return t
}

func (t ConditionTrace) String() string {
	have := "is absent"
	if t.Present {
		have = "is " + quoted(t.Have)
	}
	return fmt.Sprintf("%s %s wants %s and %s", t.Key, t.Operator, quoted(t.Want), have)
}

func quoted(values []string) string {
	q := make([]string, len(values))
	for i, v := range values {
		q[i] = fmt.Sprintf("%q", v)
	}
	if len(q) == 1 {
		return q[0]
	}
	return "[" + strings.Join(q, ", ") + "]"
}
