package nodelink

import (
	"context"
	"time"

	"google.golang.org/grpc/metadata"
)

// startHeader tells when a node's process started, so that a connection made anew can be told from a node that was.
const startHeader = "cloudtwin-node-started"

// WithStart has a node's connection tell when the node started.
func WithStart(ctx context.Context, started time.Time) context.Context {
	return metadata.AppendToOutgoingContext(ctx, startHeader, started.UTC().Format(time.RFC3339Nano))
}

// StartFrom returns when the node that made a connection says it started; false when it says nothing of the kind.
func StartFrom(ctx context.Context) (time.Time, bool) {
	told := metadata.ValueFromIncomingContext(ctx, startHeader)
	if len(told) != 1 {
		return time.Time{}, false
	}
	started, err := time.Parse(time.RFC3339Nano, told[0])
	return started, err == nil
}
