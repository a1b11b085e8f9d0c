package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func TestCutReadsWhatJSONReads(t *testing.T) {
	at := time.Date(2026, 11, 22, 6, 0, 0, 123456789, time.UTC)
	for name, ev := range map[string]journal.Event{
		"plain":         {Seq: 7, Time: at, Kind: "a.b", Subject: "i-1", Attributes: map[string]string{"x": "1", "y": "2"}},
		"no attributes": {Seq: 1, Time: at, Kind: "a", Subject: ""},
		"escapes": {Seq: 1, Time: at, Kind: "a", Subject: `a"b\c<>`,
			Attributes: map[string]string{`q"`: "\n}", "b": `\"`}},
		"not ASCII": {Seq: 1, Time: at, Kind: "ä", Subject: "ü", Attributes: map[string]string{"ö": "ß"}},
		"traced": {Seq: 1, Time: at, Kind: "a", Trace: strings.Repeat("ab", 16), Span: strings.Repeat("1", 16),
			Parent: strings.Repeat("2", 16), Attributes: map[string]string{"a": "b"}},
		"no number": {Time: at, Kind: "a"},
		"a zone":    {Seq: 1, Time: at.In(time.FixedZone("", 3600)), Kind: "a"},
		"empty map": {Seq: 1, Time: at, Kind: "a", Attributes: map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(ev)
			if err != nil {
				t.Fatal(err)
			}
			same(t, text)
			// The long way reads the same.
			same(t, bytes.ReplaceAll(text, []byte(`":`), []byte(`": `)))
		})
	}
}

// same compares what cut makes of a text with what encoding/json makes of it.
func same(t *testing.T, text []byte) {
	t.Helper()
	var want journal.Event
	wantErr := json.Unmarshal(text, &want)
	var l line
	err := l.cut(text, words{})
	var got journal.Event
	if err == nil {
		got, err = l.event(words{})
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: error %v, encoding/json has %v", text, err, wantErr)
	}
	if err != nil {
		return
	}
	if len(got.Attributes) == 0 && len(want.Attributes) == 0 {
		got.Attributes, want.Attributes = nil, nil
	}
	if !got.Time.Equal(want.Time) {
		t.Errorf("%q: time %v, want %v", text, got.Time, want.Time)
	}
	if got.Time, want.Time = (time.Time{}), (time.Time{}); !reflect.DeepEqual(got, want) {
		t.Errorf("%q: %+v, want %+v", text, got, want)
	}
}

func FuzzCut(f *testing.F) {
	for _, text := range []string{
		`{"seq":1,"time":"2026-11-22T06:00:00Z","kind":"a","subject":"b","attributes":{"c":"d"}}`,
		`{"seq":01,"time":"2026-11-22T06:00:00Z"}`, `{"attributes":{"a":"b"},"attributes":{}}`, `{}`, `{"kind":"\u0041"}`,
		`{"attributes":{"a":"b",}}`, `{"attributes":{,"a":"b"}}`, `{"kind":"a"}x`, `{"SEQ":2}`, `{"attributes":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		bounded.Memory(t, len(text), func() {
			if bytes.ContainsAny(text, "\r\n") {
				return // a line has none
			}
			same(t, text)
		})
	})
}

// many writes a bundle of n events by itself, the way Write does.
func many(t testing.TB, n, inPart int) string {
	t.Helper()
	dir := t.TempDir()
	s := &stage{dir: filepath.Join(dir, "stage"), src: Source{State: local.Layout(dir)}}
	parts := partWriter{most: inPart, create: func(name string) (io.WriteCloser, error) { return s.create(name) }}
	for i := range n {
		ev := journal.Event{Seq: uint64(i + 1), Time: begin.Add(time.Duration(i) * time.Millisecond), Kind: "api.request",
			Subject: "elasticloadbalancing:DescribeLoadBalancers", Trace: fmt.Sprintf("%032x", i/8),
			Span: fmt.Sprintf("%016x", i), Attributes: map[string]string{"status": "200", "requestId": fmt.Sprintf("r-%08d", i),
				"caller": "arn:aws:iam::123456789012:root"}}
		if i%100 == 0 {
			ev.Kind, ev.Subject = "guest.milestone", fmt.Sprintf("i-%d", i/1000)
			ev.Attributes = map[string]string{"stage": fmt.Sprintf("s%d", i/100%10)}
		}
		if i%500 == 499 {
			ev.Attributes["status"] = "503"
		}
		text, err := json.Marshal(ev)
		if err == nil {
			err = parts.write(append(text, '\n'))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := parts.close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "b.zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{Format: Format}
	if err := errors.Join(s.zip(f, &m), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEventsOfManyPartsAreInOrder(t *testing.T) {
	const inPart, n = 1000, 3005
	b, err := Open(many(t, n, inPart))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if parts := len(b.eventParts()); parts != 4 {
		t.Errorf("%d parts, want 4", parts)
	}
	last := uint64(0)
	err = b.Events(func(ev *journal.Event) error {
		if ev.Seq != last+1 {
			return fmt.Errorf("event %d after %d", ev.Seq, last)
		}
		last = ev.Seq
		return nil
	})
	if err != nil || last != n {
		t.Errorf("last event %d, %v, want %d", last, err, n)
	}
	r, err := b.Report()
	if err != nil || r.Events != n || len(r.Guests) != n/1000+1 || len(r.Troubles) != n/500 {
		t.Errorf("%d events, %d guests, %d troubles, %v", r.Events, len(r.Guests), len(r.Troubles), err)
	}
	enough := errors.New("enough")
	if err := b.Events(func(*journal.Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v, want the caller's own", err)
	}
}

func BenchmarkOpen(b *testing.B) {
	const events = 100_000
	path := many(b, events, 0)
	b.ResetTimer()
	for b.Loop() {
		bundle, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bundle.Report(); err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(bundle.Verify(), bundle.Close()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/events*1e9, "ns/event")
}

func BenchmarkEvents(b *testing.B) {
	const events = 100_000
	path := many(b, events, 0)
	b.ResetTimer()
	for b.Loop() {
		bundle, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(bundle.Events(func(*journal.Event) error { return nil }), bundle.Close()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/events*1e9, "ns/event")
}
