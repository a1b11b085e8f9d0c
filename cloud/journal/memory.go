package journal

// keep bounds the events that late followers still see.
const keep = 10_000

// mostText bounds what half of the remembered events keep of memory for those that come after them, in bytes.
const mostText = 8 << 20

// memory is the latest lines: half of keep of them at least, keep at most. The memory of the older half is that of the
// next one, so that to remember takes no more of it, and nothing in it has to be looked at by the garbage collector.
type memory struct {
	newer, older half
	dropped      int // lines that are not remembered any more
}

// half is lines behind one another, and where each ends.
type half struct {
	text []byte
	ends []int
}

func (m *memory) add(line []byte) {
	if len(m.newer.ends) == keep/2 {
		next := m.older
		m.dropped += len(next.ends)
		if cap(next.text) > mostText {
			next.text = nil
		}
		m.older, m.newer = m.newer, half{text: next.text[:0], ends: next.ends[:0]}
	}
	m.newer.text = append(m.newer.text, line...)
	m.newer.ends = append(m.newer.ends, len(m.newer.text))
}

// since copies the remembered lines from number next on, and returns the number that follows them.
func (m *memory) since(next int) (lines [][]byte, after int) {
	from := max(0, next-m.dropped)
	middle := len(m.older.ends)
	lines = m.older.appendFrom(nil, from)
	lines = m.newer.appendFrom(lines, max(0, from-middle))
	return lines, m.dropped + middle + len(m.newer.ends)
}

// appendFrom appends copies of the lines from the one with that index on.
func (h *half) appendFrom(lines [][]byte, from int) [][]byte {
	if from >= len(h.ends) {
		return lines
	}
	begin := 0
	if from > 0 {
		begin = h.ends[from-1]
	}
	text, copied := append([]byte(nil), h.text[begin:]...), 0
	for _, end := range h.ends[from:] {
		lines = append(lines, text[copied:end-begin:end-begin])
		copied = end - begin
	}
	return lines
}
