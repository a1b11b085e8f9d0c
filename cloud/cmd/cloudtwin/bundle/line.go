package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/bits"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// line is one event as it stands in a bundle: cut into its parts, of which the attributes are opened when they are
// asked for. Its byte slices are valid as long as the text that it was cut from.
type line struct {
	seq                 uint64
	time                time.Time
	kind, subject       string
	trace, span, parent []byte
	attributes          []byte         // a JSON object, empty when there is none
	whole               *journal.Event // of a line that was read the long way
}

// words keeps one string of each text that comes again and again: kinds, subjects, names of attributes. It is of one
// goroutine. What would make it too large is not kept.
type words map[string]string

const (
	maxWord  = 128     // bytes
	maxWords = 1 << 16 // kept in one set
)

func (w words) of(text []byte) string {
	if known, ok := w[string(text)]; ok {
		return known
	}
	word := string(text)
	if len(text) <= maxWord && len(w) < maxWords {
		w[word] = word
	}
	return word
}

// short keeps texts that are short enough to come again.
func (w words) short(text []byte) string {
	const often = 20 // bytes; ids of requests are longer
	if len(text) > often {
		return string(text)
	}
	return w.of(text)
}

// cut reads a line that journal.Event was written as. Most lines need no more than to find their quotes; one that holds
// an escape, a space between its parts or anything that is not known goes the long way through encoding/json.
func (l *line) cut(text []byte, w words) error {
	*l = line{}
	if l.cutFast(text, w) {
		return nil
	}
	ev := &journal.Event{}
	if err := json.Unmarshal(text, ev); err != nil {
		return err
	}
	attributes, err := json.Marshal(ev.Attributes)
	*l = line{seq: ev.Seq, time: ev.Time, kind: w.of([]byte(ev.Kind)), subject: w.of([]byte(ev.Subject)),
		trace: []byte(ev.Trace), span: []byte(ev.Span), parent: []byte(ev.Parent), attributes: attributes, whole: ev}
	return err
}

// cutFast returns false for a line that it cannot read for certain.
func (l *line) cutFast(text []byte, w words) bool {
	c := cursor{rest: bytes.TrimRight(text, " \r\n")}
	if !c.take('{') {
		return false
	}
	seen := uint(0)
	for {
		name, ok := c.text()
		if !ok || len(name) == 0 || !c.take(':') || !l.field(name, &c, w) {
			return false
		}
		// No two fields have the same first letter and length. Of one that comes twice the last counts, more or less.
		bit := uint(1) << ((uint(name[0]) ^ uint(len(name))<<2) % bits.UintSize)
		if seen&bit != 0 {
			return false
		}
		seen |= bit
		if c.take('}') {
			return len(c.rest) == 0
		}
		if !c.take(',') {
			return false
		}
	}
}

func (l *line) field(name []byte, c *cursor, w words) (ok bool) {
	switch string(name) {
	case "seq":
		l.seq, ok = c.number()
		return ok
	case "attributes":
		l.attributes, ok = c.flatObject()
		return ok
	}
	value, ok := c.text()
	if !ok {
		return false
	}
	switch string(name) {
	case "time":
		return l.time.UnmarshalText(value) == nil
	case "kind":
		l.kind = w.of(value)
	case "subject":
		l.subject = w.of(value)
	case "trace":
		l.trace = value
	case "span":
		l.span = value
	case "parent":
		l.parent = value
	default:
		return false
	}
	return true
}

// open returns the attributes; w may be nil.
func (l *line) open(w words) (map[string]string, error) {
	if len(l.attributes) == 0 {
		return nil, nil
	}
	attributes := make(map[string]string, bytes.Count(l.attributes, []byte(`":`)))
	c := cursor{rest: l.attributes}
	for ok := c.take('{') && !c.take('}'); ok; {
		name, named := c.text()
		colon := c.take(':')
		value, valued := c.text()
		if !named || !colon || !valued {
			break
		}
		if w == nil {
			attributes[string(name)] = string(value)
		} else {
			attributes[w.of(name)] = w.short(value)
		}
		if c.take('}') {
			return attributes, nil
		}
		ok = c.take(',')
	}
	clear(attributes)
	if err := json.Unmarshal(l.attributes, &attributes); err != nil {
		return nil, fmt.Errorf("attributes: %w", err)
	}
	return attributes, nil
}

// event is the whole event.
func (l *line) event(w words) (journal.Event, error) {
	if l.whole != nil {
		return *l.whole, nil
	}
	attributes, err := l.open(w)
	return journal.Event{Seq: l.seq, Time: l.time, Kind: l.kind, Subject: l.subject, Attributes: attributes,
		Trace: w.of(l.trace), Span: string(l.span), Parent: w.of(l.parent)}, err
}

// cursor reads JSON that was written without spaces.
type cursor struct{ rest []byte }

func (c *cursor) take(b byte) bool {
	if len(c.rest) == 0 || c.rest[0] != b {
		return false
	}
	c.rest = c.rest[1:]
	return true
}

// text takes a string without escapes, and without control characters, which JSON does not have.
func (c *cursor) text() ([]byte, bool) {
	if !c.take('"') {
		return nil, false
	}
	for i, b := range c.rest {
		switch {
		case b == '"':
			text := c.rest[:i]
			c.rest = c.rest[i+1:]
			return text, true
		case b == '\\' || b < ' ' || b >= 0x80: // other than ASCII may not be well-formed
			return nil, false
		}
	}
	return nil, false
}

func (c *cursor) number() (n uint64, ok bool) {
	i := 0
	for ; i < len(c.rest) && i < 19 && c.rest[i] >= '0' && c.rest[i] <= '9'; i++ {
		n = n*10 + uint64(c.rest[i]-'0')
	}
	if i == 0 || i > 1 && c.rest[0] == '0' {
		return 0, false
	}
	c.rest = c.rest[i:]
	return n, true
}

// flatObject takes an object whose values are strings, closing brace and all, and looks no further into it than for its
// end: open finds what is wrong with it.
func (c *cursor) flatObject() ([]byte, bool) {
	if len(c.rest) == 0 || c.rest[0] != '{' {
		return nil, false
	}
	for i := 1; i < len(c.rest); i++ {
		switch c.rest[i] {
		case '"':
			end := endOfString(c.rest[i+1:])
			if end < 0 {
				return nil, false
			}
			i += end + 1
		case '}':
			text := c.rest[:i+1]
			c.rest = c.rest[i+1:]
			return text, true
		case ':', ',':
		default:
			return nil, false
		}
	}
	return nil, false
}

// endOfString is where the closing quote of a string is whose opening one is before text, -1 without one.
func endOfString(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return -1
}
