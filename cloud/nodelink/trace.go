package nodelink

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// traceHeader is the one field of W3C Trace Context that goes along; what else a peer might add is not taken.
const traceHeader = "traceparent"

// sendTrace has a call tell which step of a trace makes it.
func sendTrace(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	if step := carrier[traceHeader]; step != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, traceHeader, step)
	}
	return invoke(ctx, method, request, reply, conn, opts...)
}

// takeTrace has a call answered as a part of the step that made it. One that is not well-formed is none.
func takeTrace(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if steps := metadata.ValueFromIncomingContext(ctx, traceHeader); len(steps) == 1 {
		ctx = WithTrace(ctx, steps[0])
	}
	return handle(ctx, request)
}

// WithTrace returns a context in the step that traceparent names; ctx itself when that is not well-formed.
func WithTrace(ctx context.Context, traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceHeader: traceparent})
}

// SameTrace says whether ctx is in a step of the trace that traceparent is of.
func SameTrace(ctx context.Context, traceparent string) bool {
	of := trace.SpanContextFromContext(WithTrace(context.Background(), traceparent))
	return of.IsValid() && of.TraceID() == trace.SpanContextFromContext(ctx).TraceID()
}
