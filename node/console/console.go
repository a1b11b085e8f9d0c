// Package console reads what a guest says on its serial console: milestones, one line each, and the last lines as
// evidence of how it ended. Nothing that a guest prints is trusted.
package console

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// Bounds of what is taken from a guest's console, which may print anything.
const (
	MaxLine       = 4096 // bytes; the rest of a longer line is skipped
	maxStage      = 64
	maxAttributes = 16
	MaxAttribute  = 600 // bytes, of a name or a value
	tailLines     = 20
	tailBytes     = 2048
)

var milestonePrefix = []byte("@cloudtwin ")

// Parse reads one console line: the prefix, then a JSON object with stage, t (seconds since the guest's
// boot) and texts. ok is false for every other line.
func Parse(line []byte, now time.Time) (m *nodelink.Milestone, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	// Kernel messages may stand before it on the same line when both write at once.
	at := bytes.Index(line, milestonePrefix)
	if at < 0 || len(line) > MaxLine {
		return nil, false
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line[at+len(milestonePrefix):], &fields); err != nil {
		return nil, false
	}
	var stage string
	var seconds float64
	if json.Unmarshal(fields["stage"], &stage) != nil || stage == "" || len(stage) > maxStage ||
		json.Unmarshal(fields["t"], &seconds) != nil || len(fields) > maxAttributes+2 {
		return nil, false
	}
	delete(fields, "stage")
	delete(fields, "t")
	attributes := map[string]string{"t": strconv.FormatFloat(seconds, 'f', 3, 64)}
	for name, raw := range fields {
		var value string
		if json.Unmarshal(raw, &value) != nil {
			// A number or truth value is as good as its text.
			value = string(raw)
		}
		if len(name) > MaxAttribute || len(value) > MaxAttribute {
			return nil, false
		}
		attributes[name] = value
	}
	return &nodelink.Milestone{Stage: stage, UnixNanos: now.UnixNano(), Attributes: attributes}, true
}

// Same is the rule by which the cloud knows a milestone again.
func Same(a, b *nodelink.Milestone) bool {
	if a.GetStage() != b.GetStage() || len(a.GetAttributes()) != len(b.GetAttributes()) {
		return false
	}
	for k, v := range a.GetAttributes() {
		if w, ok := b.GetAttributes()[k]; !ok || v != w {
			return false
		}
	}
	_, guests := a.GetAttributes()["t"]
	return guests || a.GetUnixNanos() == b.GetUnixNanos()
}

// Scan reads r to its end and gives each line, at most MaxLine bytes of it, to line. read is told the
// number of bytes seen so far after each.
func Scan(r io.Reader, line func([]byte), read func(total int64)) error {
	br := bufio.NewReaderSize(r, MaxLine)
	var total int64
	skipping := false
	for {
		chunk, err := br.ReadSlice('\n')
		total += int64(len(chunk))
		full := errors.Is(err, bufio.ErrBufferFull)
		if len(chunk) > 0 && !skipping {
			line(chunk)
		}
		skipping = full
		read(total)
		switch {
		case full:
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// Tail keeps the last lines of a console as text that is fit for people, and the first line that tells of a fault of
// the guest's kernel, which the trace that follows it would push out.
type Tail struct {
	mu    sync.Mutex
	lines []string
	fault string
}

// Add takes one line in.
func (t *Tail) Add(line []byte) {
	text := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(line), "?"))
	if strings.TrimSpace(text) == "" {
		return
	}
	if len(text) > 256 {
		text = strings.ToValidUTF8(text[:256], "") + "..."
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault == "" && kernelFault(text) {
		t.fault = strings.TrimSpace(text)
	}
	t.lines = append(t.lines, text)
	if len(t.lines) > tailLines {
		t.lines = append(t.lines[:0], t.lines[len(t.lines)-tailLines:]...)
	}
}

// kernelFault says whether a line is where the kernel gives up.
func kernelFault(line string) bool {
	for _, words := range []string{"Kernel panic", "BUG: ", "Out of memory", "Oops: "} {
		if strings.Contains(line, words) {
			return true
		}
	}
	return false
}

// Fault is the first line that told of a fault of the guest's kernel, or empty.
func (t *Tail) Fault() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fault
}

// String returns the lines, the last tailBytes of them.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.Join(t.lines, "\n")
	if len(text) > tailBytes {
		text = strings.ToValidUTF8(text[len(text)-tailBytes:], "")
	}
	return text
}

// Section is the tail as the end of a reason, or empty.
func (t *Tail) Section() string {
	if text := t.String(); text != "" {
		return "; last lines of its console:\n" + text
	}
	return ""
}
