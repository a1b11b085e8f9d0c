package model

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// kind is what a value is on the wire.
type kind int

const (
	kindString kind = iota
	kindInt
	kindFloat
	kindBool
	kindTime
	kindBlob
	kindStruct
	kindList
	kindMap
)

// valuePlan says how to read, write and check a value of one Go type in one place.
type valuePlan struct {
	kind    kind
	pointer bool        // the Go value is a pointer: nil means not sent
	fields  *structPlan // kindStruct
	elem    *valuePlan  // kindList: entries; kindMap: values
	key     *valuePlan  // kindMap
	checks  checks
}

// fieldPlan is a member of a structure.
type fieldPlan struct {
	index int
	query string // name as a request parameter
	value *valuePlan
}

type structPlan struct {
	fields []fieldPlan
}

// field returns the member that a parameter's name means, nil when there is none.
func (p *structPlan) field(query string) *fieldPlan {
	for i := range p.fields {
		if p.fields[i].query == query {
			return &p.fields[i]
		}
	}
	return nil
}

// checks are the constraints of the service model on one value.
type checks struct {
	required  bool
	sensitive bool // never repeat the value in a message
	min, max  *float64
	pattern   *regexp.Regexp
	source    string // the pattern as the model has it, for messages
	enum      []string
}

// codec reads the requests of one service; it builds the plan of a type when it first meets it.
type codec struct {
	protocol Protocol
	whole    sync.Map // of *structPlan by reflect.Type: what plan has returned
	mu       sync.Mutex
	plans    map[reflect.Type]*structPlan
}

func newCodec(p Protocol) *codec {
	return &codec{protocol: p, plans: map[reflect.Type]*structPlan{}}
}

// planOf returns the plan of an operation's input.
func (c *codec) planOf(op Operation) *structPlan {
	return c.plan(reflect.TypeOf(op.NewInput()).Elem())
}

// plan returns the plan of struct type t. A type that no generated code could hold is a panic.
func (c *codec) plan(t reflect.Type) *structPlan {
	if p, ok := c.whole.Load(t); ok {
		return p.(*structPlan)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.structPlan(t)
	c.whole.Store(t, p)
	return p
}

func (c *codec) structPlan(t reflect.Type) *structPlan {
	if p, ok := c.plans[t]; ok {
		return p
	}
	p := &structPlan{}
	c.plans[t] = p // before the fields, which may lead back to t
	for i := range t.NumField() {
		f := t.Field(i)
		fp := fieldPlan{index: i, query: f.Name, value: c.valuePlan(f.Type, f.Tag, "")}
		if q := f.Tag.Get("query"); q != "" {
			fp.query = q
		}
		if (fp.value.kind == kindString || fp.value.kind == kindBlob) && secretByName(fp.query) {
			fp.value.checks.sensitive = true
		}
		p.fields = append(p.fields, fp)
	}
	return p
}

// valuePlan reads the plan of a value of type t whose constraints are the tags that begin with prefix ("" for the
// member itself, "each" for the entries of a list or the values of a map, "key" for the keys of a map).
func (c *codec) valuePlan(t reflect.Type, tag reflect.StructTag, prefix string) *valuePlan {
	v := &valuePlan{checks: readChecks(tag, prefix)}
	if t.Kind() == reflect.Pointer {
		v.pointer = true
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		v.kind = kindTime
	case t == reflect.TypeFor[[]byte]():
		v.kind = kindBlob
	case t.Kind() == reflect.String:
		v.kind = kindString
	case t.Kind() == reflect.Int64:
		v.kind = kindInt
	case t.Kind() == reflect.Float64:
		v.kind = kindFloat
	case t.Kind() == reflect.Bool:
		v.kind = kindBool
	case t.Kind() == reflect.Struct:
		v.kind, v.fields = kindStruct, c.structPlan(t)
	case t.Kind() == reflect.Slice:
		v.kind, v.elem = kindList, c.valuePlan(t.Elem(), tag, "each")
	case t.Kind() == reflect.Map:
		v.kind = kindMap
		v.elem, v.key = c.valuePlan(t.Elem(), tag, "each"), c.valuePlan(t.Key(), tag, "key")
	default:
		panic(fmt.Sprintf("model: no wire form for type %s", t))
	}
	return v
}

func readChecks(tag reflect.StructTag, prefix string) checks {
	get := func(name string) string {
		if prefix != "" {
			name = prefix + strings.ToUpper(name[:1]) + name[1:]
		}
		return tag.Get(name)
	}
	k := checks{required: get("required") == "true", sensitive: tag.Get("sensitive") == "true"}
	k.min, k.max = readBound(get("min")), readBound(get("max"))
	if p := get("pattern"); p != "" {
		re, err := CompilePattern(p)
		if err != nil {
			panic(fmt.Sprintf("model: %v", err))
		}
		k.pattern, k.source = re, p
	}
	if e := get("enum"); e != "" {
		k.enum = strings.Split(e, "|")
	}
	return k
}

func readBound(s string) *float64 {
	if s == "" {
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(fmt.Sprintf("model: bound %q: %v", s, err))
	}
	return &f
}
