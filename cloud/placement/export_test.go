package placement

import (
	"context"
	"time"
)

// Publish writes what was heard, which a service does by itself from time to time.
func (s *Service) Publish(ctx context.Context) { s.publish(ctx) }

// Heard is when a node was last heard.
func (s *Service) Heard(nodeID string) time.Time { return s.presence.last(nodeID) }
