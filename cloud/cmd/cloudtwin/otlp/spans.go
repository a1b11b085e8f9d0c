package otlp

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Bounds of what is kept in memory, beside the journal's own.
const (
	maxOpen   = 4096 // spans that wait for more of their events
	maxEvents = 128  // events of one span
	maxSent   = 8192 // spans that are remembered once they were sent
)

// requestKind is the event that ends a span: it tells how long the request took.
const requestKind = "api.request"

// assembly makes spans of events. A request's span ends with its event; any other when nothing more was told of it for
// a while. What is told of a span after that is a span of its own, caused by the one that was sent.
type assembly struct {
	idle  time.Duration
	open  map[string]*building // by span id
	begun []string             // of open, oldest first; some are finished
	sent  map[string]struct{}
	fifo  []string // of sent
	done  []*tracepb.Span
}

type building struct {
	span *tracepb.Span
	last time.Time // when it was added to, by the exporter's clock
}

func newAssembly(idle time.Duration) *assembly {
	return &assembly{idle: idle, open: map[string]*building{}, sent: map[string]struct{}{}}
}

// add takes one event.
func (a *assembly) add(ev *journal.Event, now time.Time) {
	key := ev.Span
	b := a.open[key]
	if b == nil || key == "" {
		b = &building{span: a.begin(ev)}
	}
	b.last = now
	at := nanos(ev.Time)
	b.span.StartTimeUnixNano = min(b.span.GetStartTimeUnixNano(), at)
	b.span.EndTimeUnixNano = max(b.span.GetEndTimeUnixNano(), at)
	if ev.Parent != "" && len(b.span.GetParentSpanId()) == 0 {
		b.span.ParentSpanId = id(ev.Parent, 8)
	}
	switch {
	case ev.Kind == requestKind:
		endRequest(b.span, ev)
		a.finish(key, b.span)
		return
	case len(b.span.GetEvents()) < maxEvents:
		b.span.Events = append(b.span.Events,
			&tracepb.Span_Event{TimeUnixNano: at, Name: ev.Kind, Attributes: attributes(ev)})
	default:
		b.span.DroppedEventsCount++
	}
	if key == "" {
		a.done = append(a.done, b.span)
		return
	}
	if a.open[key] == nil {
		a.open[key] = b
		a.begun = append(a.begun, key)
	}
	for len(a.open) > maxOpen || len(a.begun) > 2*maxOpen {
		a.finishOldest()
	}
}

// begin makes the span of an event that is the first of it.
func (a *assembly) begin(ev *journal.Event) *tracepb.Span {
	at := nanos(ev.Time)
	span := &tracepb.Span{
		TraceId: id(ev.Trace, 16), SpanId: id(ev.Span, 8), Name: ev.Kind, Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: at, EndTimeUnixNano: at,
	}
	if _, again := a.sent[ev.Span]; again {
		span.ParentSpanId, span.SpanId = span.GetSpanId(), id("", 8)
	}
	return span
}

func endRequest(span *tracepb.Span, ev *journal.Event) {
	span.Name, span.Kind = ev.Subject, tracepb.Span_SPAN_KIND_SERVER
	span.Attributes = attributes(ev)
	if ms, err := strconv.ParseFloat(ev.Attributes["durationMs"], 64); err == nil && ms >= 0 {
		begun := ev.Time.Add(-time.Duration(ms * float64(time.Millisecond)))
		span.StartTimeUnixNano = min(span.GetStartTimeUnixNano(), nanos(begun))
	}
	if code := ev.Attributes["code"]; code != "" {
		span.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: code}
	}
}

func (a *assembly) finish(key string, span *tracepb.Span) {
	delete(a.open, key)
	a.done = append(a.done, span)
	if _, known := a.sent[key]; key == "" || known {
		return
	}
	a.sent[key] = struct{}{}
	if a.fifo = append(a.fifo, key); len(a.fifo) > maxSent {
		delete(a.sent, a.fifo[0])
		a.fifo = a.fifo[1:]
	}
}

func (a *assembly) finishOldest() {
	oldest := a.begun[0]
	a.begun = a.begun[1:]
	if b := a.open[oldest]; b != nil {
		a.finish(oldest, b.span)
	}
}

// take returns the spans that are whole: at the end, all.
func (a *assembly) take(now time.Time, end bool) []*tracepb.Span {
	for _, key := range slices.Sorted(maps.Keys(a.open)) {
		if b := a.open[key]; end || now.Sub(b.last) >= a.idle {
			a.finish(key, b.span)
		}
	}
	done := a.done
	a.done = nil
	return done
}

func attributes(ev *journal.Event) []*commonpb.KeyValue {
	out := []*commonpb.KeyValue{text("subject", ev.Subject), text("seq", strconv.FormatUint(ev.Seq, 10))}
	for _, name := range slices.Sorted(maps.Keys(ev.Attributes)) {
		out = append(out, text(name, ev.Attributes[name]))
	}
	return out
}

func text(name, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: name,
		Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func nanos(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

// id is an id's bytes, or new ones when the text is none.
func id(text string, size int) []byte {
	if b, err := hex.DecodeString(text); err == nil && len(b) == size {
		return b
	}
	b := make([]byte, 0, size)
	for len(b) < size {
		b = binary.NativeEndian.AppendUint64(b, rand.Uint64()|1) //nolint:gosec // it only has to differ
	}
	return b
}
