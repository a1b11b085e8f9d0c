package model

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/xml"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// TimeFormat is how times are written: ISO 8601, UTC, milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// largestKept bounds the buffers that are used again, in bytes: an answer with a thousand instances has about 1.5 MB.
const largestKept = 4 << 20

// encode writes an operation's answer. It is written into a buffer that has grown for others before.
func (c *codec) encode(s Service, op Operation, output any, version, requestID string) []byte {
	e, ok := c.encoders.Get().(*encoder)
	if !ok {
		e = &encoder{protocol: c.protocol}
	}
	e.Reset()
	c.write(e, s, op, output, version, requestID)
	answer := bytes.Clone(e.Bytes())
	clear(e.Bytes()) // some answers hold secrets
	if e.Cap() <= largestKept {
		c.encoders.Put(e)
	}
	return answer
}

func (c *codec) write(e *encoder, s Service, op Operation, output any, version, requestID string) {
	v := reflect.Indirect(reflect.ValueOf(output))
	plan := c.plan(v.Type())
	root := op.Name + "Response"
	if c.protocol == ProtocolEC2 {
		e.WriteString(xml.Header)
		e.root(root, ec2Namespace(s, version))
		e.element("requestId", requestID)
		e.fields(plan, v, true)
		e.close(root)
		return
	}
	e.root(root, s.Namespace)
	if op.ResultWrapper != "" {
		e.open(op.ResultWrapper)
		e.fields(plan, v, true)
		e.close(op.ResultWrapper)
	}
	e.open("ResponseMetadata")
	e.element("RequestId", requestID)
	e.close("ResponseMetadata")
	e.close(root)
}

// ec2Namespace is the namespace of the version asked for, so that clients that were built for an older API version
// find their elements. It ends in a slash.
func ec2Namespace(s Service, version string) string {
	return "http://ec2.amazonaws.com/doc/" + cmp.Or(version, s.Version) + "/"
}

// encoder writes XML by plan. It is a plain writer, not encoding/xml, because names come from the plan and answers
// with a thousand instances are common.
type encoder struct {
	bytes.Buffer
	protocol Protocol
}

func (e *encoder) root(name, namespace string) {
	e.WriteByte('<')
	e.WriteString(name)
	e.WriteString(` xmlns="`)
	e.text(namespace)
	e.WriteString(`">`)
}

func (e *encoder) open(name string) {
	e.WriteByte('<')
	e.WriteString(name)
	e.WriteByte('>')
}

func (e *encoder) close(name string) {
	e.WriteString("</")
	e.WriteString(name)
	e.WriteByte('>')
}

func (e *encoder) element(name, text string) {
	e.open(name)
	e.text(text)
	e.close(name)
}

// text escapes s. Bytes that XML cannot hold become U+FFFD.
func (e *encoder) text(s string) {
	if plain(s) {
		e.WriteString(s)
		return
	}
	_ = xml.EscapeText(e, []byte(s)) // a bytes.Buffer does not fail
}

func plain(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case b < ' ', b > '~', b == '<', b == '>', b == '&', b == '"', b == '\'':
			return false
		}
	}
	return true
}

func (e *encoder) fields(p *structPlan, v reflect.Value, top bool) {
	for i := range p.fields {
		f := &p.fields[i]
		e.member(f, v.Field(f.index), top)
	}
}

// member writes a structure's member if it is there. Lists that hold nothing are written as empty elements, which
// clients show as []: always by the query services; by EC2 only at the top of an answer, below that EC2 leaves out
// what a nil list stands for.
func (e *encoder) member(f *fieldPlan, v reflect.Value, top bool) {
	if absent(v) {
		if f.value.kind == kindList && (top || e.protocol == ProtocolQuery) {
			e.open(f.xml)
			e.close(f.xml)
		}
		return
	}
	e.open(f.xml)
	e.value(f.value, v)
	e.close(f.xml)
}

func (e *encoder) value(p *valuePlan, v reflect.Value) {
	if p.pointer {
		v = v.Elem()
	}
	switch p.kind {
	case kindStruct:
		e.fields(p.fields, v, false)
	case kindList:
		name := "member"
		if e.protocol == ProtocolEC2 {
			name = "item"
		}
		for i := range v.Len() {
			e.open(name)
			e.value(p.elem, v.Index(i))
			e.close(name)
		}
	case kindMap:
		e.mapEntries(p, v)
	case kindString:
		e.text(v.String())
	case kindInt:
		e.Write(strconv.AppendInt(e.AvailableBuffer(), v.Int(), 10))
	case kindFloat:
		e.Write(strconv.AppendFloat(e.AvailableBuffer(), v.Float(), 'f', -1, 64))
	case kindBool:
		e.Write(strconv.AppendBool(e.AvailableBuffer(), v.Bool()))
	case kindTime:
		if t, ok := v.Interface().(time.Time); ok {
			e.Write(t.UTC().AppendFormat(e.AvailableBuffer(), TimeFormat))
		}
	case kindBlob:
		e.Write(base64.StdEncoding.AppendEncode(e.AvailableBuffer(), v.Bytes()))
	}
}

func (e *encoder) mapEntries(p *valuePlan, v reflect.Value) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
	for _, k := range keys {
		e.open("entry")
		e.element("key", k.String())
		e.open("value")
		e.value(p.elem, v.MapIndex(k))
		e.close("value")
		e.close("entry")
	}
}
