package model

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"slices"
	"strconv"
	"time"
)

// TimeFormat is how times are written: ISO 8601, UTC, milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// Output is a structure that answers can hold. Generated code implements it: answers with a thousand instances are
// common, and looking at each member by reflection costs more than to write it.
type Output interface {
	// WriteXML writes the members that are there, each an element. top says that the structure is the whole answer and
	// not a part of another one.
	WriteXML(w *Writer, top bool)
}

// Writer writes the XML of one answer. What a member holds that is nil is not there and not written, but for lists.
// Lists that hold nothing are written as empty elements, which clients show as []: always by the query services; by EC2
// only at the top of an answer, below that EC2 leaves out what a nil list stands for.
type Writer struct {
	text     []byte
	protocol Protocol
	entry    string // the element of a list's entry
}

func newWriter(p Protocol, room []byte) *Writer {
	w := &Writer{text: room, protocol: p, entry: "member"}
	if p == ProtocolEC2 {
		w.entry = "item"
	}
	return w
}

// Write implements io.Writer. It does not fail.
func (w *Writer) Write(text []byte) (int, error) {
	w.text = append(w.text, text...)
	return len(text), nil
}

func (w *Writer) raw(markup string) { w.text = append(w.text, markup...) }

func (w *Writer) opens(name string) {
	w.text = append(append(append(w.text, '<'), name...), '>')
}

func (w *Writer) closes(name string) {
	w.text = append(append(append(w.text, '<', '/'), name...), '>')
}

func (w *Writer) root(name, namespace string) {
	w.raw("<" + name + ` xmlns="`)
	w.escaped(namespace)
	w.raw(`">`)
}

// escaped writes a text. Bytes that XML cannot hold become U+FFFD.
func (w *Writer) escaped(s string) {
	if plain(s) {
		w.text = append(w.text, s...)
		return
	}
	_ = xml.EscapeText(w, []byte(s)) // a Writer does not fail
}

// plain says whether s stands in XML as it is.
func plain(s string) bool {
	const markup uint64 = 1<<'"' | 1<<'&' | 1<<'\'' | 1<<'<' | 1<<'>'
	for i := range len(s) {
		if b := s[i]; b < ' ' || b > '~' || b <= '>' && markup>>b&1 != 0 {
			return false
		}
	}
	return true
}

// String writes a text.
func (w *Writer) String(name string, v *string) {
	if v != nil {
		w.opens(name)
		w.escaped(*v)
		w.closes(name)
	}
}

// Int writes a whole number.
func (w *Writer) Int(name string, v *int64) {
	if v != nil {
		w.opens(name)
		w.text = strconv.AppendInt(w.text, *v, 10)
		w.closes(name)
	}
}

// Float writes a number, without an exponent.
func (w *Writer) Float(name string, v *float64) {
	if v != nil {
		w.opens(name)
		w.text = strconv.AppendFloat(w.text, *v, 'f', -1, 64)
		w.closes(name)
	}
}

// Bool writes true or false.
func (w *Writer) Bool(name string, v *bool) {
	if v != nil {
		w.opens(name)
		w.text = strconv.AppendBool(w.text, *v)
		w.closes(name)
	}
}

// Time writes a time in TimeFormat.
func (w *Writer) Time(name string, v *time.Time) {
	if v != nil {
		w.opens(name)
		w.text = v.UTC().AppendFormat(w.text, TimeFormat)
		w.closes(name)
	}
}

// Blob writes bytes in base64.
func (w *Writer) Blob(name string, v []byte) {
	if v != nil {
		w.opens(name)
		w.text = base64.StdEncoding.AppendEncode(w.text, v)
		w.closes(name)
	}
}

// Strings writes a list of texts.
func (w *Writer) Strings(name string, v []string, top bool) {
	if w.opensList(name, v != nil, top) {
		for i := range v {
			w.String(w.entry, &v[i])
		}
		w.closes(name)
	}
}

// Ints writes a list of whole numbers.
func (w *Writer) Ints(name string, v []int64, top bool) {
	if w.opensList(name, v != nil, top) {
		for i := range v {
			w.Int(w.entry, &v[i])
		}
		w.closes(name)
	}
}

// StringMap writes texts by their keys, in the order of the keys.
func (w *Writer) StringMap(name string, v map[string]string) {
	writeMap(w, name, v, w.String)
}

// IntMap writes whole numbers by their keys, in the order of the keys.
func (w *Writer) IntMap(name string, v map[string]int64) {
	writeMap(w, name, v, w.Int)
}

func writeMap[T any](w *Writer, name string, v map[string]T, value func(name string, v *T)) {
	if v == nil {
		return
	}
	w.opens(name)
	for _, key := range slices.Sorted(maps.Keys(v)) {
		held := v[key]
		w.opens("entry")
		w.String("key", &key)
		value("value", &held)
		w.closes("entry")
	}
	w.closes(name)
}

// opensList begins a list that is there. One that is not is written whole, if it is at all.
func (w *Writer) opensList(name string, there, top bool) bool {
	if there || top || w.protocol == ProtocolQuery {
		w.opens(name)
	}
	if !there && (top || w.protocol == ProtocolQuery) {
		w.closes(name)
	}
	return there
}

// pointer is a pointer to T whose methods write it.
type pointer[T any] interface {
	*T
	Output
}

// WriteStruct writes a structure.
func WriteStruct[T any, P pointer[T]](w *Writer, name string, v P) {
	if v != nil {
		w.opens(name)
		v.WriteXML(w, false)
		w.closes(name)
	}
}

// WriteList writes a list of structures.
func WriteList[T any, P pointer[T]](w *Writer, name string, v []T, top bool) {
	if w.opensList(name, v != nil, top) {
		for i := range v {
			w.opens(w.entry)
			P(&v[i]).WriteXML(w, false)
			w.closes(w.entry)
		}
		w.closes(name)
	}
}
