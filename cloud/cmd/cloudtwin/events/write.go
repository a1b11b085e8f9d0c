package events

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Writer writes events, a line each.
type Writer struct {
	w    io.Writer
	json *json.Encoder
	last time.Time
}

// NewWriter writes lines for people to w, or JSON objects as the journal's file has them.
func NewWriter(w io.Writer, asJSON bool) *Writer {
	out := &Writer{w: w}
	if asJSON {
		out.json = json.NewEncoder(w)
	}
	return out
}

// Write writes one event: its number, its time, the time since the line before, what happened to what, and the rest.
func (w *Writer) Write(ev *journal.Event) error {
	if w.json != nil {
		return w.json.Encode(ev)
	}
	passed := ""
	if !w.last.IsZero() {
		passed = fmt.Sprintf("%+.3fs", ev.Time.Sub(w.last).Seconds())
	}
	w.last = ev.Time
	var b strings.Builder
	fmt.Fprintf(&b, "%6d %s %9s  %-26s %s", ev.Seq, ev.Time.UTC().Format("2006-01-02 15:04:05.000"), passed, ev.Kind,
		printable(ev.Subject))
	if ev.Trace != "" {
		fmt.Fprintf(&b, "  trace=%s", printable(ev.Trace))
	}
	for _, name := range slices.Sorted(maps.Keys(ev.Attributes)) {
		fmt.Fprintf(&b, "  %s=%s", name, printable(ev.Attributes[name]))
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w.w, b.String())
	return err
}

// printable quotes what would not be one word of a line: events hold what callers and guests said.
func printable(text string) string {
	quoted := strconv.Quote(text)
	if text == "" || strings.ContainsAny(text, " =") || quoted != `"`+text+`"` {
		return quoted
	}
	return text
}
