package nodelink_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func TestStart(t *testing.T) {
	const header = "cloudtwin-node-started"
	at := time.Date(2026, 11, 22, 11, 30, 0, 123, time.UTC)
	told, _ := metadata.FromOutgoingContext(nodelink.WithStart(t.Context(), at))
	for name, c := range map[string]struct {
		header metadata.MD
		ok     bool
	}{
		"told":       {told, true},
		"not told":   {metadata.MD{}, false},
		"told twice": {metadata.Pairs(header, told.Get(header)[0], header, told.Get(header)[0]), false},
		"no time":    {metadata.Pairs(header, "yesterday"), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := nodelink.StartFrom(metadata.NewIncomingContext(t.Context(), c.header))
			if ok != c.ok || ok && !got.Equal(at) {
				t.Errorf("%v, %v", got, ok)
			}
		})
	}
}
