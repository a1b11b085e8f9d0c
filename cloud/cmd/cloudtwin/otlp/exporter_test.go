package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes what is exported, by either protocol.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracepb.Span
	came  chan struct{}
	hang  chan struct{} // nil: it answers at once
}

func (c *collector) Export(_ context.Context, in *collectorpb.ExportTraceServiceRequest) (
	*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range in.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			c.spans = append(c.spans, s.GetSpans()...)
		}
	}
	select {
	case c.came <- struct{}{}:
	default:
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		in, _ = gzip.NewReader(r.Body)
	}
	body, err := io.ReadAll(in)
	if c.hang != nil {
		<-c.hang
		return
	}
	var request collectorpb.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = c.Export(r.Context(), &request)
}

// find waits for a span of that name.
func (c *collector) find(t *testing.T, name string) *tracepb.Span {
	t.Helper()
	for {
		c.mu.Lock()
		for _, s := range c.spans {
			if s.GetName() == name {
				c.mu.Unlock()
				return s
			}
		}
		c.mu.Unlock()
		select {
		case <-c.came:
		case <-t.Context().Done():
			t.Fatalf("no span %s came", name)
		}
	}
}

func start(t *testing.T, address string, log *slog.Logger) (*journal.Journal, *Exporter) {
	t.Helper()
	client, err := NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	j := journal.New(io.Discard)
	return j, Start(client, log, j.Follow)
}

func TestSpansReachTheCollector(t *testing.T) {
	c := &collector{came: make(chan struct{}, 1)}
	over := httptest.NewServer(c)
	defer over.Close()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	for name, address := range map[string]string{"HTTP": over.URL, "gRPC": "grpc://" + listener.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			c.mu.Lock()
			c.spans = nil
			c.mu.Unlock()
			j, exporter := start(t, address, slog.New(slog.DiscardHandler))
			defer exporter.Close()
			caller := journal.Begin(t.Context())
			request := journal.Begin(caller)
			at := time.Date(2026, 11, 22, 6, 0, 1, 0, time.UTC)
			j.Record(request, journal.Event{Time: at.Add(-time.Second), Kind: "policy.decided", Subject: "arn"})
			j.Record(request, journal.Event{Time: at, Kind: "api.request", Subject: "ec2:RunInstances",
				Attributes: map[string]string{"durationMs": "1500.000", "code": "UnauthorizedOperation", "status": "403"}})
			launch := journal.Begin(request)
			j.Record(launch, journal.Event{Time: at, Kind: "placement.chosen", Subject: "i-1",
				Attributes: map[string]string{"node": "node-1"}})
			j.Record(launch, journal.Event{Time: at.Add(time.Second), Kind: "guest.milestone", Subject: "i-1"})

			span := c.find(t, "ec2:RunInstances")
			want := strings.Split(journal.Traceparent(request), "-")
			if hex.EncodeToString(span.GetTraceId()) != want[1] || hex.EncodeToString(span.GetSpanId()) != want[2] {
				t.Errorf("span %x of %x, want %v", span.GetSpanId(), span.GetTraceId(), want)
			}
			if hex.EncodeToString(span.GetParentSpanId()) != strings.Split(journal.Traceparent(caller), "-")[2] {
				t.Errorf("parent %x", span.GetParentSpanId())
			}
			if took := span.GetEndTimeUnixNano() - span.GetStartTimeUnixNano(); took != uint64(1500*time.Millisecond) {
				t.Errorf("it took %d ns", took)
			}
			if span.GetStatus().GetMessage() != "UnauthorizedOperation" || len(span.GetEvents()) != 1 ||
				span.GetEvents()[0].GetName() != "policy.decided" || span.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
				t.Errorf("span %v", span)
			}
			guest := c.find(t, "placement.chosen")
			if !bytes.Equal(guest.GetParentSpanId(), span.GetSpanId()) || len(guest.GetEvents()) != 2 {
				t.Errorf("the guest's span %v", guest)
			}
		})
	}
}

// lines is a log that tells of each line.
type lines struct{ out chan string }

func (l lines) Write(p []byte) (int, error) {
	l.out <- string(p)
	return len(p), nil
}

// TestCollectorThatIsAwaySlowsNobody records many times what the exporter holds, and hears of it once.
func TestCollectorThatIsAwaySlowsNobody(t *testing.T) {
	for name, c := range map[string]*collector{"refuses": nil, "hangs": {hang: make(chan struct{})}} {
		t.Run(name, func(t *testing.T) {
			address := "http://127.0.0.1:1"
			if c != nil {
				over := httptest.NewServer(c)
				defer over.Close()
				defer close(c.hang)
				address = over.URL
			}
			log := lines{out: make(chan string, 100)}
			j, exporter := start(t, address, slog.New(slog.NewTextHandler(log, nil)))
			for range 20_000 {
				j.Record(journal.Begin(t.Context()), journal.Event{Kind: "api.request", Subject: "sts:GetCallerIdentity"})
			}
			if line := <-log.out; !strings.Contains(line, "level=WARN") || !strings.Contains(line, "collector") {
				t.Errorf("it says %q", line)
			}
			exporter.Close()
			if len(log.out) != 0 {
				t.Errorf("it says it again: %q", <-log.out)
			}
		})
	}
}

func TestAssemblyIsBounded(t *testing.T) {
	a := newAssembly(time.Hour)
	now := time.Unix(0, 0)
	for range 3 * maxOpen {
		ctx := journal.Begin(t.Context())
		a.add(&journal.Event{Kind: "store.write", Span: strings.Split(journal.Traceparent(ctx), "-")[2]}, now)
	}
	long := "00000000000000ff"
	for range 2 * maxEvents {
		a.add(&journal.Event{Kind: "store.write", Span: long}, now)
	}
	if len(a.open) > maxOpen || len(a.sent) > maxSent || len(a.fifo) > maxSent {
		t.Errorf("%d spans are open, %d remembered", len(a.open), len(a.sent))
	}
	if span := a.open[long].span; len(span.GetEvents()) != maxEvents || span.GetDroppedEventsCount() != maxEvents {
		t.Errorf("a span of %d events, %d dropped", len(span.GetEvents()), span.GetDroppedEventsCount())
	}
	if spans := a.take(now, true); len(spans) != 3*maxOpen+1 || len(a.open) != 0 {
		t.Errorf("%d spans", len(spans))
	}
	// What comes late is a span that the one which was sent caused.
	a.add(&journal.Event{Kind: "guest.milestone", Span: long}, now)
	if late := a.take(now, true); len(late) != 1 || hex.EncodeToString(late[0].GetParentSpanId()) != long {
		t.Errorf("late: %v", late)
	}
}

func TestAddresses(t *testing.T) {
	for address, good := range map[string]bool{
		"http://127.0.0.1:4318": true, "https://collector.example:4318/custom/path": true, "grpc://127.0.0.1:4317": true,
		"grpcs://collector.example:443": true,
		"":                              false, "127.0.0.1:4318": false, "ftp://127.0.0.1": false, "http://": false,
		"http://user:secret@127.0.0.1:4318": false, "grpc://127.0.0.1:4317/path": false, "http://127.0.0.1:4318?x=y": false,
	} {
		if _, err := NewClient(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}
