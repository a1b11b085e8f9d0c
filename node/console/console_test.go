package console

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func TestParseMilestone(t *testing.T) {
	long := strings.Repeat("x", MaxAttribute+1)
	tests := []struct {
		name, line string
		stage      string // empty: no milestone
		attrs      map[string]string
	}{
		{name: "plain", line: `@cloudtwin {"stage":"booted","t":0.5}`, stage: "booted",
			attrs: map[string]string{"t": "0.500"}},
		{name: "with attributes", line: "@cloudtwin {\"stage\":\"network\",\"t\":1,\"addr\":\"10.64.0.16\"}\r\n",
			stage: "network", attrs: map[string]string{"t": "1.000", "addr": "10.64.0.16"}},
		{name: "after kernel text", line: `[ 1.0] usb: hello@cloudtwin {"stage":"modules","t":1.0005}`, stage: "modules",
			attrs: map[string]string{"t": "1.000"}},
		{name: "a number", line: `@cloudtwin {"stage":"listeners","t":1,"count":2}`, stage: "listeners",
			attrs: map[string]string{"t": "1.000", "count": "2"}},
		{name: "other text", line: "hello"},
		{name: "no JSON", line: "@cloudtwin hello"},
		{name: "no object", line: "@cloudtwin []"},
		{name: "no stage", line: `@cloudtwin {"t":1}`},
		{name: "empty stage", line: `@cloudtwin {"stage":"","t":1}`},
		{name: "no time", line: `@cloudtwin {"stage":"x"}`},
		{name: "time is text", line: `@cloudtwin {"stage":"x","t":"1"}`},
		{name: "long value", line: `@cloudtwin {"stage":"x","t":1,"v":"` + long + `"}`},
		{name: "trailing text", line: `@cloudtwin {"stage":"x","t":1} x`},
		{name: "too many",
			line: `@cloudtwin {"stage":"x","t":1` + many(17) + `}`},
	}
	now := time.Unix(100, 5)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, ok := Parse([]byte(tt.line), now)
			if ok != (tt.stage != "") {
				t.Fatalf("milestone: %v", ok)
			}
			if !ok {
				return
			}
			if m.GetStage() != tt.stage || m.GetUnixNanos() != now.UnixNano() {
				t.Errorf("stage %q at %d", m.GetStage(), m.GetUnixNanos())
			}
			if diff := cmp.Diff(tt.attrs, m.GetAttributes()); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
		})
	}
}

// many returns that many attributes.
func many(n int) (text string) {
	for i := range n {
		text += `,"a` + strconv.Itoa(i) + `":""`
	}
	return text
}

func TestScanConsole(t *testing.T) {
	text := "one\n" + strings.Repeat("x", 3*MaxLine) + "\ntwo\nno end"
	var lines []string
	var total int64
	if err := Scan(strings.NewReader(text), func(line []byte) { lines = append(lines, string(line)) },
		func(n int64) { total = n }); err != nil {
		t.Fatal(err)
	}
	want := []string{"one\n", strings.Repeat("x", MaxLine), "two\n", "no end"}
	if diff := cmp.Diff(want, lines); diff != "" || total != int64(len(text)) {
		t.Errorf("%d bytes of %d, lines (-want +got):\n%s", total, len(text), diff)
	}
}

func TestTail(t *testing.T) {
	var tl Tail
	for range 100 {
		tl.Add([]byte("\x1b[31m" + strings.Repeat("y", 200) + "\x00\xff\n"))
		tl.Add([]byte(" \r\n"))
	}
	if text := tl.String(); len(text) > tailBytes || strings.ContainsAny(text, "\x1b\x00") ||
		strings.Count(text, "\n") > tailLines {
		t.Errorf("tail of %d bytes: %q", len(text), text)
	}
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("hello\n@cloudtwin {\"stage\":\"booted\",\"t\":0.1}\n"))
	f.Add([]byte("@cloudtwin {\"stage\":\"x\",\"t\":1e309,\"a\":null}\r\n\xff\xfe"))
	f.Add(bytes.Repeat([]byte("@cloudtwin "), 1000))
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Memory(t, len(data), func() {
			var tl Tail
			var total int64
			err := Scan(bytes.NewReader(data), func(line []byte) {
				if len(line) > MaxLine {
					t.Fatalf("a line of %d bytes", len(line))
				}
				tl.Add(line)
				m, ok := Parse(line, time.Unix(0, 0))
				if ok && (m.GetStage() == "" || len(m.GetAttributes()) > maxAttributes+1 || m.GetAttributes()["t"] == "") {
					t.Fatalf("milestone %v", m)
				}
				if ok && !Same(m, m) {
					t.Fatal("a milestone is not the same as itself")
				}
			}, func(n int64) { total = n })
			if err != nil || total != int64(len(data)) {
				t.Fatalf("%d bytes of %d, %v", total, len(data), err)
			}
			_ = tl.String()
		})
	})
}
