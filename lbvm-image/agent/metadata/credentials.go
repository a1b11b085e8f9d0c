package metadata

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Credentials of a role session. It formats and logs as [redacted].
type Credentials struct {
	Role            string
	AccessKeyID     string
	SecretAccessKey string
	Token           string
	Expiration      time.Time
}

const redacted = "[redacted]"

// Format implements fmt.Formatter for every verb.
func (Credentials) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (Credentials) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON keeps the secret out of JSON too.
func (Credentials) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

const (
	// renewBefore is how long before their end credentials are renewed: the service has new ones at least 5 minutes
	// before the old ones end.
	renewBefore = 5 * time.Minute
	// renewPause keeps a service that goes on giving credentials near their end from being asked at every call.
	renewPause = 10 * time.Second
)

// Source keeps the credentials of this instance's role fresh. It may be used from several goroutines.
type Source struct {
	client *Client
	now    func() time.Time

	mu      sync.Mutex
	current Credentials
	asked   time.Time
	stale   bool
}

// NewSource asks client; now is the wall clock by which Expiration is judged.
func NewSource(client *Client, now func() time.Time) *Source {
	return &Source{client: client, now: now}
}

// Credentials returns credentials that are valid now. When new ones cannot be had, the old ones are returned as long
// as they are valid.
func (s *Source) Credentials(ctx context.Context) (Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	left := s.current.Expiration.Sub(now)
	fresh := left > renewBefore && !s.stale
	pause := left > 0 && now.Sub(s.asked) >= 0 && now.Sub(s.asked) < renewPause
	if fresh || pause {
		return s.current, nil
	}
	renewed, err := s.fetch(ctx)
	s.asked = now
	if err != nil {
		if left > 0 {
			return s.current, nil
		}
		return Credentials{}, err
	}
	s.current, s.stale = renewed, false
	return renewed, nil
}

// Invalidate says that a service refused the credentials: the next call of Credentials asks for others.
func (s *Source) Invalidate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = true
}

func (s *Source) fetch(ctx context.Context) (Credentials, error) {
	role, err := s.client.Role(ctx)
	if err != nil {
		return Credentials{}, fmt.Errorf("learn role: %w", err)
	}
	credentials, err := s.client.RoleCredentials(ctx, role)
	if err != nil {
		return Credentials{}, fmt.Errorf("fetch role credentials: %w", err)
	}
	if end := credentials.Expiration; !end.After(s.now()) {
		return Credentials{}, fmt.Errorf("fetch role credentials: expired at %s", end.UTC().Format(time.RFC3339))
	}
	return credentials, nil
}
