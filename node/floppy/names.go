package floppy

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

const (
	maxNameUnits  = 255 // UTF-16 code units in a long name
	unitsPerEntry = 13
	lastLongEntry = 0x40 // marks the entry that holds the name's end, the first on disk
	maxLongOrder  = (maxNameUnits + unitsPerEntry - 1) / unitsPerEntry
)

// Attributes of a directory entry.
const (
	attrReadOnly  = 0x01
	attrHidden    = 0x02
	attrSystem    = 0x04
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLongName  = attrReadOnly | attrHidden | attrSystem | attrVolume
	attrMask      = 0x3f
)

// unitOffsets are where a long entry keeps its 13 code units.
var unitOffsets = [unitsPerEntry]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// checkName says whether a name can be a long name in the root directory.
func checkName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return fmt.Errorf("%q: %w: no UTF-8", name, ErrName)
	case name == "" || strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, " "):
		return fmt.Errorf("%q: %w: empty, or a space or dot at its end", name, ErrName)
	case len(utf16.Encode([]rune(name))) > maxNameUnits:
		return fmt.Errorf("%.40q…: %w: longer than %d", name, ErrName, maxNameUnits)
	}
	if i := strings.IndexFunc(name, func(r rune) bool {
		return r < 0x20 || r == 0x7f || strings.ContainsRune(`"*/:<>?\|`, r)
	}); i >= 0 {
		return fmt.Errorf("%q: %w: %q", name, ErrName, name[i])
	}
	return nil
}

// shortName is the eleven bytes of a name in a directory entry, padded with spaces.
type shortName [11]byte

// isShort says whether a name is an 8.3 name by itself and needs no long entries.
func isShort(name string) (shortName, bool) {
	stem, ext, dot := strings.Cut(name, ".")
	if stem == "" || len(stem) > 8 || len(ext) > 3 || (dot && ext == "") {
		return shortName{}, false
	}
	for _, c := range []byte(stem + ext) {
		if !shortChar(c) {
			return shortName{}, false
		}
	}
	return makeShort(stem, ext), true
}

func shortChar(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'()-@^_`{}~", c) >= 0
}

func makeShort(stem, ext string) shortName {
	var s shortName
	copy(s[:], "           ")
	copy(s[:8], stem)
	copy(s[8:], ext)
	return s
}

// aliasFor makes the short name that stands for a long one, and notes it in taken.
func aliasFor(name string, taken map[shortName]bool) shortName {
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		stem, ext = name[:i], name[i+1:]
	}
	stem, ext = shorten(stem, 8), shorten(ext, 3)
	for n := 1; ; n++ {
		tail := fmt.Sprintf("~%d", n)
		s := makeShort(stem[:min(len(stem), 8-len(tail))]+tail, ext)
		if !taken[s] {
			taken[s] = true
			return s
		}
	}
}

// shorten makes a part of a long name fit for a short one.
func shorten(part string, limit int) string {
	var b strings.Builder
	for _, r := range strings.ToUpper(part) {
		switch {
		case r == '.' || r == ' ':
			continue
		case r < utf8.RuneSelf && shortChar(byte(r)):
			b.WriteByte(byte(r))
		default:
			b.WriteByte('_')
		}
		if b.Len() == limit {
			break
		}
	}
	return b.String()
}

// checksum ties long entries to the short name behind them.
func (s shortName) checksum() byte {
	var sum byte
	for _, c := range s {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// text is the short name as people see it. flags are the entry's byte 12, in which Windows NT and Linux note that a
// part is in lower case.
func (s shortName) text(flags byte) string {
	if s[0] == 0x05 {
		s[0] = 0xe5 // 0xe5 itself would mean a deleted entry
	}
	stem := decodeOEM(strings.TrimRight(string(s[:8]), " "))
	ext := decodeOEM(strings.TrimRight(string(s[8:]), " "))
	if flags&0x08 != 0 {
		stem = strings.ToLower(stem)
	}
	if flags&0x10 != 0 {
		ext = strings.ToLower(ext)
	}
	if ext == "" {
		return stem
	}
	return stem + "." + ext
}

func decodeOEM(s string) string {
	// Every byte has a meaning in code page 437, so there is no error.
	t, _ := charmap.CodePage437.NewDecoder().String(s)
	return t
}

// longEntries are the directory entries that hold a long name, in the order on disk.
func longEntries(name string, alias shortName) []byte {
	units := utf16.Encode([]rune(name))
	count := (len(units) + unitsPerEntry - 1) / unitsPerEntry
	if len(units)%unitsPerEntry != 0 {
		units = append(units, 0)
	}
	for len(units) < count*unitsPerEntry {
		units = append(units, 0xffff)
	}
	b := make([]byte, 0, count*entrySize)
	for order := count; order > 0; order-- {
		e := make([]byte, entrySize)
		e[0] = byte(order)
		if order == count {
			e[0] |= lastLongEntry
		}
		e[11] = attrLongName
		e[13] = alias.checksum()
		for i, at := range unitOffsets {
			u := units[(order-1)*unitsPerEntry+i]
			e[at], e[at+1] = byte(u), byte(u>>8)
		}
		b = append(b, e...)
	}
	return b
}

// longName collects the long entries before a short one. The zero value has none.
type longName struct {
	units [maxLongOrder * unitsPerEntry]uint16
	count int  // entries the name has
	next  int  // order of the entry that has to come next, 0 when complete
	sum   byte // checksum of the short name that has to follow
}

// add takes the next long entry; anything out of order makes the name void.
func (l *longName) add(e []byte) {
	order := int(e[0] &^ lastLongEntry)
	if e[0]&lastLongEntry != 0 {
		l.count, l.next, l.sum = order, order, e[13]
	}
	if order == 0 || order > maxLongOrder || order != l.next || e[13] != l.sum {
		l.count = 0
		return
	}
	l.next--
	for i, at := range unitOffsets {
		l.units[(order-1)*unitsPerEntry+i] = uint16(e[at]) | uint16(e[at+1])<<8
	}
}

// take returns the name if it is complete and belongs to the short name, and forgets it.
func (l *longName) take(short shortName) (string, bool) {
	ok := l.count > 0 && l.next == 0 && l.sum == short.checksum()
	units := l.units[:l.count*unitsPerEntry]
	l.count = 0
	if !ok {
		return "", false
	}
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return string(utf16.Decode(units)), true
}
