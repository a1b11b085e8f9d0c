package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

const outside = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// recorded is an event as it is written with ctx.
func recorded(ctx context.Context, t *testing.T) (ev journal.Event) {
	t.Helper()
	var line bytes.Buffer
	journal.New(&line).Record(ctx, journal.Event{Kind: "test"})
	if err := json.Unmarshal(line.Bytes(), &ev); err != nil {
		t.Fatal(err)
	}
	return ev
}

func TestStepsOfATrace(t *testing.T) {
	if ev := recorded(t.Context(), t); ev.Trace+ev.Span+ev.Parent != "" {
		t.Errorf("outside of a trace: %+v", ev)
	}
	request := journal.Begin(t.Context())
	first := recorded(request, t)
	if len(first.Trace) != 32 || len(first.Span) != 16 || first.Parent != "" {
		t.Errorf("of the first step: %+v", first)
	}
	second := recorded(journal.Begin(request), t)
	if second.Trace != first.Trace || second.Parent != first.Span || second.Span == first.Span {
		t.Errorf("a step of it: %+v, the first: %+v", second, first)
	}
	// Another process goes on in the same step, and begins one of its own.
	later := journal.Join(t.Context(), journal.Traceparent(request))
	if ev := recorded(later, t); ev.Trace != first.Trace || ev.Span != first.Span {
		t.Errorf("joined: %+v, want %+v", ev, first)
	}
	if ev := recorded(journal.Begin(later), t); ev.Trace != first.Trace || ev.Parent != first.Span {
		t.Errorf("begun in what was joined: %+v", ev)
	}
	if other := recorded(journal.Begin(t.Context()), t); other.Trace == first.Trace {
		t.Error("two traces are one")
	}
}

func TestTraceOfARequest(t *testing.T) {
	for _, c := range []struct {
		name   string
		header []string
		joins  bool
	}{
		{"well-formed", []string{outside}, true},
		{"of a later version", []string{"01" + outside[2:] + "-more"}, true},
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"twice", []string{outside, outside}, false},
		{"upper case", []string{strings.ToUpper(outside)}, false},
		{"cut short", []string{outside[:54]}, false},
		{"of version ff", []string{"ff" + outside[2:]}, false},
		{"with more", []string{outside + "-more"}, false},
		{"trace of zeros", []string{"00-00000000000000000000000000000000-b7ad6b7169203331-01"}, false},
		{"span of zeros", []string{"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"}, false},
		{"text", []string{"i-0123456789abcdef0\n"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := journal.Begin(journal.JoinRequest(t.Context(), http.Header{"Traceparent": c.header}))
			ev := recorded(ctx, t)
			if joins := ev.Trace == outside[3:35]; joins != c.joins || (ev.Parent != "") != c.joins {
				t.Errorf("recorded %+v, joins: %v", ev, c.joins)
			}
		})
	}
}

func TestSameTrace(t *testing.T) {
	other := journal.Traceparent(journal.Begin(t.Context()))
	sibling := journal.Traceparent(journal.Begin(journal.Join(t.Context(), outside)))
	if !journal.SameTrace(outside, sibling) || journal.SameTrace(outside, other) || journal.SameTrace("", "") {
		t.Errorf("%s and %s, %s", outside, sibling, other)
	}
}
