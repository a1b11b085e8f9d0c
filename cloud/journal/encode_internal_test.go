package journal

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzEncode writes what any caller or guest may have said and reads it back as encoding/json does.
func FuzzEncode(f *testing.F) {
	f.Add("delivery.denied", "arn:aws:iam::123456789012:user/x", "reason", "it \"said\"\n\x00\x1b", uint64(1))
	f.Add("", "", "", "", uint64(math.MaxUint64))
	f.Add("k", "\u00e4\u2028\ufffd<&>", "a\\b", "\xff\xfe", uint64(7))
	f.Fuzz(func(t *testing.T, kind, subject, name, value string, seq uint64) {
		ev := Event{Time: time.Date(2026, 11, 22, 6, 0, 0, 123456789, time.FixedZone("", 3600)), Kind: kind, Subject: subject,
			Trace: "0af7651916cd43dd8448eb211c80319c", Span: "b7ad6b7169203331",
			Attributes: map[string]string{name: value, "b": "2", "a": "1"}}
		line := string(numbered(encode(nil, &ev, step{}, nil), seq))
		if !strings.HasSuffix(line, "}\n") || strings.Count(line, "\n") != 1 {
			t.Fatalf("line %q", line)
		}
		ev.Seq = seq
		text, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		var got, want Event
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
		again, ok := decode([]byte(line))
		if diff := cmp.Diff(want, again); !ok || diff != "" {
			t.Errorf("remembered (-want +got):\n%s", diff)
		}
	})
}

// TestListsAreAsMaps writes the same attributes in both ways.
func TestListsAreAsMaps(t *testing.T) {
	for name, list := range map[string][]Attribute{
		"none": nil, "empty": {{Name: "a"}},
		"some": {{Name: "a", Value: "1"}, {Name: "b"}, {Name: "c", Value: "\"\n\u00e4"}, {Name: "d", Value: "~ <&>"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := Begin(Begin(t.Context()))
			var written bytes.Buffer
			j := New(&written)
			j.RecordList(ctx, Event{Kind: "test"}, list)
			attributes := map[string]string{}
			for _, a := range list {
				if a.Value != "" {
					attributes[a.Name] = a.Value
				}
			}
			j.Record(ctx, Event{Kind: "test", Attributes: attributes})
			told := j.Events()
			if len(told) != 2 || bytes.Count(written.Bytes(), []byte("\n")) != 2 {
				t.Fatalf("%d events of two, in the file:\n%s", len(told), &written)
			}
			if told[0].Parent == "" || len(told[0].Attributes) != len(attributes) {
				t.Errorf("parent %q, %d attributes, want one and %d", told[0].Parent, len(told[0].Attributes), len(attributes))
			}
			same := cmpopts.IgnoreFields(Event{}, "Seq", "Time")
			if diff := cmp.Diff(told[1], told[0], same, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("from a map (-) and a list (+):\n%s", diff)
			}
		})
	}
}

// TestPlainWhereverACharacterIs puts each byte at each place of a text that is looked at by eights.
func TestPlainWhereverACharacterIs(t *testing.T) {
	for length := 1; length < 20; length++ {
		for at := range length {
			for c := range 256 {
				text := []byte(strings.Repeat("x", length))
				text[at] = byte(c)
				if got := isPlain(string(text)); got != plain[c] {
					t.Fatalf("byte %#x at %d of %d counts as plain: %v", c, at, length, got)
				}
			}
		}
	}
}

// BenchmarkRecordList is what most requests wait for.
func BenchmarkRecordList(b *testing.B) {
	j := openBenched(b)
	ctx := Begin(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		j.RecordList(ctx, Event{Kind: "api.request", Subject: "sts:GetCallerIdentity"}, []Attribute{
			{"accessKeyId", "AKIAAAAAAAAAAAAAAAAA"}, {"action", "sts:GetCallerIdentity"},
			{"caller", "arn:aws:iam::123456789012:root"}, {"cause", ""}, {"durationMs", "0.123"},
			{"requestId", "7bb1ea9b-ed5f-4d4f-8ce7-98e5b9ee13a5"}, {"sourceIp", "127.0.0.1"}, {"status", "200"},
			{"userAgent", "aws-sdk-go-v2/1.47.7 os/linux lang/go#1.26"},
		})
	}
}

// BenchmarkRecord is what a request waits for.
func BenchmarkRecord(b *testing.B) {
	j := openBenched(b)
	ctx := Begin(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		j.Record(ctx, benched())
	}
}

// BenchmarkRecordAtOnce is what requests wait for that come at the same time.
func BenchmarkRecordAtOnce(b *testing.B) {
	j := openBenched(b)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		ctx := Begin(b.Context())
		for p.Next() {
			j.Record(ctx, benched())
		}
	})
}

func openBenched(b *testing.B) *Journal {
	b.Helper()
	j, err := Open(b.TempDir() + "/journal.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := j.Close(); err != nil {
			b.Error(err)
		}
	})
	return j
}

func benched() Event {
	return Event{Kind: "api.request", Subject: "sts:GetCallerIdentity", Attributes: map[string]string{
		"action": "sts:GetCallerIdentity", "status": "200", "requestId": "7bb1ea9b-ed5f-4d4f-8ce7-98e5b9ee13a5",
		"durationMs": "0.123", "sourceIp": "127.0.0.1", "caller": "arn:aws:iam::123456789012:root",
		"accessKeyId": "AKIAAAAAAAAAAAAAAAAA", "userAgent": "aws-sdk-go-v2/1.47.7 os/linux lang/go#1.26",
	}}
}
