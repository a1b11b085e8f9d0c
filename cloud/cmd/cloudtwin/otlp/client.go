// Package otlp sends the cloud's events to an OpenTelemetry collector, as spans with events, while they happen. It
// follows the journal like any other reader, so that recording knows nothing of it: a collector that is slow or away
// costs the cloud nothing but what it would have been told.
//
// Read exporter.go first, then spans.go, which makes spans of events.
package otlp

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
)

// sendTimeout bounds one message to the collector.
const sendTimeout = 5 * time.Second

// ErrAddress means that a text is no address of a collector.
var ErrAddress = errors.New("want a collector's address such as http://127.0.0.1:4318 or grpc://127.0.0.1:4317")

// NewClient makes a client of the collector at address: http:// or https:// with a host and port, and a path unless it
// is OTLP's usual one (/v1/traces), or grpc://, or grpcs:// for TLS. It connects when it first has something to tell.
func NewClient(address string) (otlptrace.Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q: %w", address, ErrAddress)
	}
	switch u.Scheme {
	case "http", "https":
		options := []otlptracehttp.Option{
			otlptracehttp.WithEndpoint(u.Host), otlptracehttp.WithTimeout(sendTimeout),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}),
		}
		if u.Path != "" && u.Path != "/" {
			options = append(options, otlptracehttp.WithURLPath(u.Path))
		}
		if u.Scheme == "http" {
			options = append(options, otlptracehttp.WithInsecure())
		}
		return otlptracehttp.NewClient(options...), nil
	case "grpc", "grpcs":
		if u.Path != "" && u.Path != "/" {
			return nil, fmt.Errorf("%q: gRPC has no path: %w", address, ErrAddress)
		}
		options := []otlptracegrpc.Option{
			otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithTimeout(sendTimeout),
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}),
		}
		if u.Scheme == "grpc" {
			options = append(options, otlptracegrpc.WithInsecure())
		}
		return otlptracegrpc.NewClient(options...), nil
	}
	return nil, fmt.Errorf("%q: %w", address, ErrAddress)
}
