package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// generator holds one service while its files are written.
type generator struct {
	service service
	api     *api
	ops     []string // the chosen operations, sorted

	inInput  map[string]bool   // shapes that a request can hold; only these carry constraints
	inOutput map[string]bool   // shapes that an answer can hold
	nested   map[string]bool   // shapes that are a member or list entry of another
	typeName map[string]string // Go names of structure shapes
	alias    map[string]string // XOutput -> the Go name of a shape that is used elsewhere too
}

func newGenerator(s service, a *api) (*generator, error) {
	g := &generator{
		service: s, api: a,
		inInput: map[string]bool{}, inOutput: map[string]bool{}, nested: map[string]bool{},
		typeName: map[string]string{}, alias: map[string]string{},
	}
	g.ops = slices.Sorted(maps.Keys(a.Operations))
	if len(s.only) > 0 {
		g.ops = slices.Sorted(slices.Values(s.only))
	}
	uses := map[string]int{}
	for _, name := range g.ops {
		op, ok := a.Operations[name]
		if !ok {
			return nil, fmt.Errorf("the model has no operation %s", name)
		}
		for _, use := range []struct {
			ref  *ref
			seen map[string]bool
		}{{op.Input, g.inInput}, {op.Output, g.inOutput}} {
			if use.ref == nil {
				continue
			}
			uses[use.ref.Shape]++
			if err := g.reach(use.ref.Shape, use.seen); err != nil {
				return nil, err
			}
		}
	}
	return g, g.name(uses)
}

// reach marks a shape and all that it holds.
func (g *generator) reach(name string, seen map[string]bool) error {
	if seen[name] {
		return nil
	}
	seen[name] = true
	s, ok := g.api.Shapes[name]
	if !ok {
		return fmt.Errorf("the model has no shape %s", name)
	}
	held := slices.Collect(maps.Values(s.Members))
	for _, r := range []*ref{s.Member, s.Key, s.Value} {
		if r != nil {
			held = append(held, *r)
			if inner := g.api.Shapes[r.Shape]; inner != nil && (inner.Type == "list" || inner.Type == "map") {
				return fmt.Errorf("shape %s: lists of lists are not supported", name)
			}
		}
	}
	for _, r := range held {
		g.nested[r.Shape] = true
		if err := g.reach(r.Shape, seen); err != nil {
			return err
		}
	}
	return nil
}

// name gives every structure its Go name: XInput and XOutput for those that belong to one operation alone.
func (g *generator) name(uses map[string]int) error {
	taken := map[string]string{}
	for _, op := range g.ops {
		o := g.api.Operations[op]
		if r := o.Input; r != nil {
			if uses[r.Shape] > 1 || g.nested[r.Shape] {
				return fmt.Errorf("operation %s: its input is used elsewhere too", op)
			}
			g.typeName[r.Shape] = op + "Input"
		}
		taken[op+"Input"], taken[op+"Output"] = op, op
		if r := o.Output; r != nil {
			if uses[r.Shape] > 1 || g.nested[r.Shape] {
				g.alias[op+"Output"] = exported(r.Shape)
			} else {
				g.typeName[r.Shape] = op + "Output"
			}
		}
	}
	for _, name := range g.structures() {
		if g.typeName[name] != "" {
			continue
		}
		goName := exported(name)
		if other, clash := taken[goName]; clash {
			return fmt.Errorf("shape %s: the name %s is taken by %s", name, goName, other)
		}
		taken[goName] = name
		g.typeName[name] = goName
	}
	return nil
}

// structures returns the reachable structure shapes, sorted by name.
func (g *generator) structures() []string {
	var names []string
	for name, s := range g.api.Shapes {
		if s.Type == "structure" && (g.inInput[name] || g.inOutput[name]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// goType is the Go type of a shape as a structure's member.
func (g *generator) goType(name string) (string, error) {
	switch s := g.api.Shapes[name]; s.Type {
	case "structure":
		return "*" + g.typeName[name], nil
	case "list":
		elem, err := g.goType(s.Member.Shape)
		return "[]" + strings.TrimPrefix(elem, "*"), err
	case "map":
		key, keyErr := g.goType(s.Key.Shape)
		value, err := g.goType(s.Value.Shape)
		if err == nil {
			err = keyErr
		}
		return "map[" + strings.TrimPrefix(key, "*") + "]" + strings.TrimPrefix(value, "*"), err
	case "string", "character":
		return "*string", nil
	case "integer", "long":
		return "*int64", nil
	case "float", "double":
		return "*float64", nil
	case "boolean":
		return "*bool", nil
	case "timestamp":
		return "*time.Time", nil
	case "blob":
		return "[]byte", nil
	default:
		return "", fmt.Errorf("shape %s: type %q is not supported", name, s.Type)
	}
}

// exported makes a model's name an exported Go identifier.
func exported(name string) string {
	parts := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, p := range parts {
		parts[i] = strings.ToUpper(p[:1]) + p[1:]
	}
	return strings.Join(parts, "")
}
