package journal

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
)

// numberRoom is how much of a line its beginning with the event's number takes at most.
const numberRoom = len(`{"seq":18446744073709551615`)

// encode appends ev to line as json.Marshal would write it, some times faster: each request waits for it. What ev does
// not say of its step and its attributes is in s and in the list. The beginning, with the number that is not known yet,
// is left free; numbered puts it there.
func encode(line []byte, ev *Event, s step, list []Attribute) []byte {
	line = append(line, make([]byte, numberRoom)...)
	line = append(line, `,"time":"`...)
	line = ev.Time.AppendFormat(line, time.RFC3339Nano)
	line = append(line, `","kind":`...)
	line = appendText(line, ev.Kind)
	line = append(line, `,"subject":`...)
	line = appendText(line, ev.Subject)
	if s.at.IsValid() {
		line = s.append(line)
	} else {
		line = appendIDs(line, ev)
	}
	switch {
	case len(ev.Attributes) > 0:
		line = append(line, `,"attributes":`...)
		line = appendTexts(line, ev.Attributes)
	case len(list) > 0:
		line = append(line, `,"attributes":`...)
		line = appendList(line, list)
	}
	return append(line, "}\n"...)
}

// append writes the ids of the step.
func (s step) append(line []byte) []byte {
	traceID, spanID := s.at.TraceID(), s.at.SpanID()
	line = append(line, `,"trace":"`...)
	line = hex.AppendEncode(line, traceID[:])
	line = append(line, `","span":"`...)
	line = hex.AppendEncode(line, spanID[:])
	if s.parent.IsValid() {
		line = append(line, `","parent":"`...)
		line = hex.AppendEncode(line, s.parent[:])
	}
	return append(line, '"')
}

// appendIDs writes the ids that the event has itself.
func appendIDs(line []byte, ev *Event) []byte {
	for _, id := range [...]struct{ name, value string }{
		{`,"trace":`, ev.Trace}, {`,"span":`, ev.Span}, {`,"parent":`, ev.Parent},
	} {
		if id.value != "" {
			line = append(line, id.name...)
			line = appendText(line, id.value)
		}
	}
	return line
}

// decode reads what encode wrote.
func decode(line []byte) (ev Event, ok bool) {
	err := json.Unmarshal(line, &ev)
	return ev, err == nil
}

func appendTexts(line []byte, texts map[string]string) []byte {
	var few [24]string
	names := slices.AppendSeq(few[:0], maps.Keys(texts))
	slices.Sort(names)
	line = append(line, '{')
	for i, name := range names {
		if i > 0 {
			line = append(line, ',')
		}
		line = appendText(line, name)
		line = append(line, ':')
		line = appendText(line, texts[name])
	}
	return append(line, '}')
}

func appendList(line []byte, list []Attribute) []byte {
	between := byte('{')
	for i := range list {
		if list[i].Value == "" {
			continue
		}
		line = append(line, between, '"')
		line = append(line, list[i].Name...)
		line = appendText(append(line, `":`...), list[i].Value)
		between = ','
	}
	if between == '{' {
		line = append(line, between)
	}
	return append(line, '}')
}

// appendText writes a JSON string. What is not plain is left to encoding/json.
func appendText(line []byte, text string) []byte {
	if !isPlain(text) {
		quoted, err := json.Marshal(text)
		if err != nil {
			quoted = []byte(`""`) // never: json replaces what is no UTF-8
		}
		return append(line, quoted...)
	}
	line = append(line, '"')
	line = append(line, text...)
	return append(line, '"')
}

// isPlain says whether all characters of a text stand for themselves in a JSON string. It looks at eight at a time: a
// byte's highest bit is set in strange when it is no ASCII, less than a space, a quote, a backslash or a DEL.
func isPlain(text string) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for ; len(text) >= 8; text = text[8:] {
		eight := uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
			uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
		quotes, slashes := eight^(ones*'"'), eight^(ones*'\\')
		strange := eight | (eight - ones*' ') | (quotes - ones) | (slashes - ones) | (eight + ones)
		if strange&high != 0 {
			return false
		}
	}
	for i := range len(text) {
		if !plain[text[i]] {
			return false
		}
	}
	return true
}

// plain are the characters that stand for themselves in a JSON string.
var plain = func() (is [256]bool) {
	for c := ' '; c <= '~'; c++ {
		is[c] = c != '"' && c != '\\'
	}
	return is
}()

// numbered puts the number into the room at the line's beginning.
func numbered(line []byte, seq uint64) []byte {
	var digits [20]byte
	number := strconv.AppendUint(digits[:0], seq, 10)
	at := numberRoom - len(number)
	copy(line[at:], number)
	const name = `{"seq":`
	copy(line[at-len(name):], name)
	return line[at-len(name):]
}
