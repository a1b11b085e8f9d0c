package journal

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// TraceHeader names the place of a trace's context in HTTP requests, gRPC metadata and media (W3C Trace Context).
const TraceHeader = "traceparent"

// parentKey finds the step that caused the present one in a context.
type parentKey struct{}

// Begin begins a step of the trace that ctx is in, or of a new trace when it is in none. What is recorded with the
// context that it returns is told as a part of that step, and which one caused it.
func Begin(ctx context.Context) context.Context {
	at := trace.SpanContextFromContext(ctx)
	next := trace.SpanContextConfig{TraceID: at.TraceID(), TraceFlags: trace.FlagsSampled}
	if !at.IsValid() {
		binary.NativeEndian.PutUint64(next.TraceID[:8], number())
		binary.NativeEndian.PutUint64(next.TraceID[8:], number())
	}
	binary.NativeEndian.PutUint64(next.SpanID[:], number())
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(next))
	return context.WithValue(ctx, parentKey{}, at.SpanID())
}

// number is never 0, which an id must not be. An id is no secret.
func number() uint64 {
	return rand.Uint64() | 1 //nolint:gosec // it only has to differ
}

// Join goes on in the step that traceparent names, or in ctx as it is when that is not well-formed.
func Join(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	joined := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{TraceHeader: traceparent})
	if joined == ctx {
		return ctx
	}
	return context.WithValue(joined, parentKey{}, trace.SpanID{})
}

// JoinRequest goes on in the step that a request's header names. A header that is not well-formed, or not there just
// once, is as good as none: the recommendation has it so, and a request must not fail of it.
func JoinRequest(ctx context.Context, header http.Header) context.Context {
	if values := header.Values(TraceHeader); len(values) == 1 {
		return Join(ctx, values[0])
	}
	return ctx
}

// Traceparent names the step that ctx is in, for Join in another process or at another time; empty when in none.
func Traceparent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[TraceHeader]
}

// SameTrace says whether two traceparents are both well-formed and of one trace.
func SameTrace(a, b string) bool {
	first := trace.SpanContextFromContext(Join(context.Background(), a))
	second := trace.SpanContextFromContext(Join(context.Background(), b))
	return first.IsValid() && first.TraceID() == second.TraceID()
}

// step is where in which trace an event happened; zero for in none.
type step struct {
	at     trace.SpanContext
	parent trace.SpanID
}

// stepOf is the step that ctx is in, unless ev says already which one it is of.
func stepOf(ctx context.Context, ev *Event) step {
	at := trace.SpanContextFromContext(ctx)
	if ev.Trace != "" || !at.IsValid() {
		return step{}
	}
	parent, _ := ctx.Value(parentKey{}).(trace.SpanID)
	return step{at: at, parent: parent}
}

// Within is Join for a step that the one of ctx caused.
func Within(ctx context.Context, traceparent string) context.Context {
	joined := Join(ctx, traceparent)
	cause := trace.SpanContextFromContext(ctx)
	if joined != ctx && cause.IsValid() && SameTrace(Traceparent(ctx), traceparent) {
		return context.WithValue(joined, parentKey{}, cause.SpanID())
	}
	return joined
}
