package imds

import (
	"context"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
)

// traceSource notes in which trace it is asked for credentials.
type traceSource struct {
	*source
	trace string
}

func (s *traceSource) RoleCredentials(ctx context.Context, id string) (Credentials, error) {
	s.trace = trace.SpanContextFromContext(ctx).TraceID().String()
	return s.source.RoleCredentials(ctx, id)
}

// TestSessionsNameTheirTrace to guests that were told none otherwise.
func TestSessionsNameTheirTrace(t *testing.T) {
	const step = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	src := newSource()
	traced := src.instances[fullID]
	traced.ID, traced.Traceparent = "i-traced", step
	src.instances[traced.ID] = traced
	h := newHandler(src)
	for id, want := range map[string]string{traced.ID: step, fullID: ""} {
		answer := ask(h, id, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
		if got := answer.Header.Get("traceparent"); got != want || answer.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d, step %q, want %q", id, answer.StatusCode, got, want)
		}
	}
	answer := ask(h, traced.ID, http.MethodGet, "/latest/meta-data/instance-id")
	if got := answer.Header.Get("traceparent"); got != "" {
		t.Errorf("an item comes with step %q", got)
	}
}

// TestRequestsAreTold with their answer's status, and never with what the answer holds.
func TestRequestsAreTold(t *testing.T) {
	const step = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var told []Request
	src := &traceSource{source: newSource()}
	h := New(Config{Source: src, InstanceFrom: identify, Asked: func(r Request) { told = append(told, r) }})
	role := body(t, ask(h, fullID, http.MethodGet, "/latest/meta-data/iam/security-credentials/"))
	path := "/latest/meta-data/iam/security-credentials/" + role
	ask(h, fullID, http.MethodGet, path, "traceparent", step)
	if src.trace != step[3:35] {
		t.Errorf("the credentials were asked for in trace %s", src.trace)
	}
	ask(h, fullID, http.MethodGet, path, "traceparent", "00-x")
	if src.trace != "00000000000000000000000000000000" {
		t.Errorf("a malformed header begins trace %s", src.trace)
	}
	ask(h, "i-disabled", http.MethodPut, "/latest/api/token")
	want := []Request{
		{InstanceID: fullID, Method: "GET", Path: "/latest/meta-data/iam/security-credentials/", Status: 200},
		{InstanceID: fullID, Method: "GET", Path: path, Status: 200, Traceparent: step},
		{InstanceID: fullID, Method: "GET", Path: path, Status: 200, Traceparent: "00-x"},
		{InstanceID: "i-disabled", Method: "PUT", Path: "/latest/api/token", Status: 403},
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
