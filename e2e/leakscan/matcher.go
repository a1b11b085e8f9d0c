package leakscan

import (
	"bytes"
	"encoding/binary"
	"sort"
)

// seed is how many bytes are compared at once. A stretch of a form that is long enough to count holds a seed that
// begins at a multiple of its stride.
const seed = 8

// filterBits is the size of the table that rules out nearly every place at the cost of one look; it fits a core's
// second cache.
const filterBits = 20

// matcher finds the forms of many keys in one pass.
type matcher struct {
	keys   []Key
	filter *[1 << filterBits / 64]uint64
	seeds  map[uint64][]anchor
	// longest is the length of the longest form.
	longest int
}

// anchor is where a seed comes from.
type anchor struct{ key, form, offset int }

// match is a stretch of a form in a buffer.
type match struct{ key, form, from, to int }

func newMatcher(keys []Key) *matcher {
	m := &matcher{keys: keys, filter: new([1 << filterBits / 64]uint64), seeds: map[uint64][]anchor{}}
	for k := range keys {
		for f, form := range keys[k].forms {
			m.longest = max(m.longest, len(form.text))
			stride := form.least - seed + 1
			for at := 0; at+seed <= len(form.text); at += stride {
				word := binary.LittleEndian.Uint64(form.text[at:])
				m.seeds[word] = append(m.seeds[word], anchor{k, f, at})
				hash := word * multiplier
				m.filter[hash>>(64-filterBits+6)] |= 1 << (hash >> (64 - filterBits) & 63)
			}
		}
	}
	return m
}

// multiplier spreads a word over the upper bits of the product (Knuth, multiplicative hashing by the golden ratio).
const multiplier = 0x9E3779B97F4A7C15

// find calls found for every stretch in buf, each once. It looks at every byte of gigabytes that nobody else has, so
// the race detector is kept out of it: with it, it takes ten times as long.
//
//go:norace
func (m *matcher) find(buf []byte, found func(match)) {
	covered := map[[2]int]int{} // key and form to the end of the last stretch
	filter := m.filter
	for at, last := 0, len(buf)-seed; at <= last; at++ {
		word := binary.LittleEndian.Uint64(buf[at : at+seed])
		hash := word * multiplier
		if filter[hash>>(64-filterBits+6)]>>(hash>>(64-filterBits)&63)&1 == 0 {
			continue
		}
		for _, a := range m.seeds[word] {
			if hit, ok := m.extend(buf, at, a); ok && hit.from >= covered[[2]int{a.key, a.form}] {
				covered[[2]int{a.key, a.form}] = hit.to
				found(hit)
			}
		}
	}
}

// extend makes the stretch around a seed as long as it is.
func (m *matcher) extend(buf []byte, at int, a anchor) (match, bool) {
	form := &m.keys[a.key].forms[a.form]
	from, to := 0, seed
	for at+from > 0 && a.offset+from > 0 && buf[at+from-1] == form.text[a.offset+from-1] {
		from--
	}
	for at+to < len(buf) && a.offset+to < len(form.text) && buf[at+to] == form.text[a.offset+to] {
		to++
	}
	return match{a.key, a.form, at + from, at + to}, to-from >= form.least
}

// holds reports whether any key is in data.
func (m *matcher) holds(data []byte) bool {
	hit := false
	m.find(data, func(match) { hit = true })
	return hit
}

// sortFindings orders findings by place and offset.
func sortFindings(list []Finding) {
	sort.SliceStable(list, func(i, j int) bool {
		if list[i].Place != list[j].Place {
			return list[i].Place < list[j].Place
		}
		return list[i].Offset < list[j].Offset
	})
}

// isZero reports whether a page is empty; most of a guest's memory is.
func isZero(data, zeros []byte) bool { return bytes.Equal(data, zeros[:len(data)]) }
