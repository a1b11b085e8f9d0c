package otlp

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

const (
	// every is how often spans are sent, and idle how long one waits for more of its events.
	every, idle = time.Second, 2 * time.Second
	// batch is how many spans a message holds, and queued how many messages wait for a slow collector.
	batch, queued = 512, 16
	// farewell bounds the sending of the last spans.
	farewell = 3 * time.Second
)

// Exporter sends what it is told until Close.
type Exporter struct {
	client   otlptrace.Client
	log      *slog.Logger
	messages chan []*tracepb.Span
	ctx      context.Context //nolint:containedctx // ends with Close
	stop     context.CancelFunc
	done     sync.WaitGroup
	resource *resourcepb.Resource

	mu       sync.Mutex
	troubled bool // the last message did not arrive, and that was said
}

// Start sends the events that follow gives to the collector. follow is called once, with a context that ends with
// Close; its channel ends with that.
func Start(client otlptrace.Client, log *slog.Logger, follow func(context.Context) <-chan journal.Event) *Exporter {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Exporter{client: client, log: log, messages: make(chan []*tracepb.Span, queued), ctx: ctx, stop: stop,
		resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{
			text("service.name", "cloudtwin"), text("service.version", version),
		}}}
	events := follow(ctx)
	e.done.Go(func() {
		defer close(e.messages)
		e.assemble(events)
	})
	e.done.Go(e.send)
	return e
}

// Close sends what is left, for a few seconds at most, and ends the exporter.
func (e *Exporter) Close() {
	e.stop()
	e.done.Wait()
}

// assemble makes spans of the events until they end. It waits for nobody.
func (e *Exporter) assemble(events <-chan journal.Event) {
	spans := newAssembly(idle)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		end, full := false, false
		select {
		case ev, ok := <-events:
			if end = !ok; ok {
				spans.add(&ev, time.Now())
				full = len(spans.done) >= batch
			}
		case <-tick.C:
			full = true
		}
		if end || full {
			e.enqueue(spans.take(time.Now(), end))
		}
		if end {
			return
		}
	}
}

func (e *Exporter) enqueue(spans []*tracepb.Span) {
	for len(spans) > 0 {
		n := min(len(spans), batch)
		select {
		case e.messages <- spans[:n]:
		default:
			e.trouble("the collector is too slow")
		}
		spans = spans[n:]
	}
}

// send sends messages until there are no more.
func (e *Exporter) send() {
	ctx := context.Background()
	started := e.client.Start(ctx)
	if started != nil {
		e.trouble(started.Error())
	}
	for spans := range e.messages {
		if started != nil {
			continue
		}
		bound := sendTimeout
		if len(e.messages) == 0 && e.closing() {
			bound = farewell
		}
		if err := e.upload(ctx, bound, spans); err != nil {
			e.trouble(err.Error())
			if e.closing() {
				break
			}
			continue
		}
		e.recovered()
	}
	for range e.messages { // a collector that is away is not asked again at the end
	}
	if started == nil {
		ctx, cancel := context.WithTimeout(ctx, farewell)
		defer cancel()
		_ = e.client.Stop(ctx)
	}
}

func (e *Exporter) upload(ctx context.Context, bound time.Duration, spans []*tracepb.Span) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return e.client.UploadTraces(ctx, []*tracepb.ResourceSpans{{
		Resource: e.resource,
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: "github.com/cloudtwin/cloudtwin/cloud/journal"}, Spans: spans,
		}},
	}})
}

func (e *Exporter) closing() bool { return e.ctx.Err() != nil }

// trouble says once that events do not reach the collector.
func (e *Exporter) trouble(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.troubled {
		e.log.Warn("events do not reach the collector; they are in the journal all the same", "error", why)
	}
	e.troubled = true
}

func (e *Exporter) recovered() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.troubled {
		e.log.Info("events reach the collector again")
	}
	e.troubled = false
}
