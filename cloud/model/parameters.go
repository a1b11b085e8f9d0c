package model

import (
	"encoding/base64"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Redacted stands for a value that must not be repeated.
const Redacted = "[redacted]"

// Parameters returns an input's parameters by the names that a client uses for them, for records. Members that the
// model calls sensitive, and one-time codes, are Redacted.
func (h Handler) Parameters(input any) map[string]string {
	v := reflect.ValueOf(input).Elem()
	p := map[string]string{}
	h.codec.collectFields(h.codec.plan(v.Type()), v, "", p)
	return p
}

func (c *codec) collectFields(s *structPlan, v reflect.Value, path string, into map[string]string) {
	for _, f := range s.fields {
		at := v.Field(f.index)
		if absent(at) {
			continue
		}
		name := join(path, f.query)
		if f.value.checks.sensitive || strings.Contains(f.query, "AuthenticationCode") || f.query == "TokenCode" {
			into[name] = Redacted
			continue
		}
		c.collect(f.value, at, name, into)
	}
}

func (c *codec) collect(p *valuePlan, v reflect.Value, path string, into map[string]string) {
	if p.pointer {
		v = v.Elem()
	}
	switch p.kind {
	case kindStruct:
		c.collectFields(p.fields, v, path, into)
	case kindList:
		for i := range v.Len() {
			c.collect(p.elem, v.Index(i), path+c.entry()+"."+strconv.Itoa(i+1), into)
		}
	case kindMap:
		for _, k := range v.MapKeys() {
			c.collect(p.elem, v.MapIndex(k), path+"["+k.String()+"]", into)
		}
	case kindString:
		into[path] = v.String()
	case kindInt:
		into[path] = strconv.FormatInt(v.Int(), 10)
	case kindFloat:
		into[path] = strconv.FormatFloat(v.Float(), 'f', -1, 64)
	case kindBool:
		into[path] = strconv.FormatBool(v.Bool())
	case kindTime:
		if t, ok := v.Interface().(time.Time); ok {
			into[path] = t.UTC().Format(TimeFormat)
		}
	case kindBlob:
		into[path] = base64.StdEncoding.EncodeToString(v.Bytes())
	}
}
