package iam

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// The bounds of a session's life.
const (
	minSession = 15 * time.Minute
	maxSession = 12 * time.Hour
)

// Session says whose temporary credentials MintSession makes. Either RoleName, UserName or neither (the root user) is
// set.
type Session struct {
	AccountID string
	RoleName  string
	UserName  string
	Name      string        // of a role session
	Life      time.Duration // 15 minutes to 36 hours; the caller has checked what the role allows
	// Policy limits the session when it is not empty.
	Policy string
	// PolicyARNs are managed policies of the account that limit it too.
	PolicyARNs []string
	// Tags are the session's, those taken over from the session before it included; Transitive are the keys of those
	// that go on.
	Tags       []authn.Tag
	Transitive []string
	// SourceIdentity is kept through chained roles.
	SourceIdentity string
	// MFA is when a code of an MFA device was shown; zero when none was.
	MFA time.Time
	// Federated is the name of a federated user, whom UserName or the root user made.
	Federated string
	// Provider is the identity provider that vouched for the holder.
	Provider string
}

// SessionCredentials are temporary credentials. They show themselves without the secret and the token.
type SessionCredentials struct {
	AccessKeyID     string // ASIA…
	SecretAccessKey string
	Token           string
	Expiration      time.Time
	LastUpdated     time.Time
}

// String leaves the secrets out.
func (c SessionCredentials) String() string {
	return "credentials " + c.AccessKeyID + " until " + c.Expiration.Format(time.RFC3339)
}

// Format writes String whatever the verb.
func (c SessionCredentials) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// LogValue leaves the secrets out.
func (c SessionCredentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText leaves the secrets out, of JSON and XML as well.
func (c SessionCredentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalBinary leaves the secrets out, of gob as well.
func (c SessionCredentials) MarshalBinary() ([]byte, error) { return c.MarshalText() }

// claims are what a session token carries, sealed with the token key: any replica can verify it and needs no record.
type claims struct {
	AccessKeyID    string      `json:"k"`
	Secret         string      `json:"s"`
	AccountID      string      `json:"a"`
	RoleName       string      `json:"r,omitempty"`
	UserName       string      `json:"u,omitempty"`
	PrincipalID    string      `json:"p"` // of the role or user: a successor of the same name is somebody else
	SessionName    string      `json:"n,omitempty"`
	InstanceID     string      `json:"i,omitempty"`
	Policy         string      `json:"y,omitempty"`
	SourceIdentity string      `json:"o,omitempty"`
	PolicyARNs     []string    `json:"ya,omitempty"`
	Tags           []authn.Tag `json:"g,omitempty"`
	Transitive     []string    `json:"tr,omitempty"`
	MFA            int64       `json:"m,omitempty"`
	Federated      string      `json:"f,omitempty"`
	Provider       string      `json:"ip,omitempty"`
	Issued         int64       `json:"t"` // seconds since 1970
	Expires        int64       `json:"e"`
}

const purposeToken = "session-token"

// MintSession makes temporary credentials. It checks no permission: that is sts's. The caller that the credentials
// will have is returned beside them. InstanceID is never set on it.
func (s *Service) MintSession(ctx context.Context, in Session) (SessionCredentials, authn.Caller, error) {
	return s.mint(ctx, in, "")
}

func (s *Service) mint(ctx context.Context, in Session, instanceID string) (SessionCredentials, authn.Caller, error) {
	if in.Policy != "" {
		if _, err := s.checkDocument(in.Policy, policy.Identity); err != nil {
			return SessionCredentials{}, authn.Caller{}, err
		}
	}
	now := s.now()
	c := claims{
		AccessKeyID: newAccessKeyID("ASIA", in.AccountID), Secret: newSecret(), AccountID: in.AccountID,
		RoleName: in.RoleName, UserName: in.UserName, SessionName: in.Name, InstanceID: instanceID, Policy: in.Policy,
		SourceIdentity: in.SourceIdentity, Issued: now.Unix(), Expires: now.Add(in.Life).Unix(),
		PolicyARNs: in.PolicyARNs, Tags: in.Tags, Transitive: in.Transitive, Federated: in.Federated,
		Provider: in.Provider,
	}
	if !in.MFA.IsZero() {
		c.MFA = in.MFA.Unix()
	}
	if err := s.checkSessionPolicies(ctx, in.AccountID, in.PolicyARNs); err != nil {
		return SessionCredentials{}, authn.Caller{}, err
	}
	switch {
	case in.RoleName != "":
		r, err := s.role(ctx, in.AccountID, in.RoleName)
		if err != nil {
			return SessionCredentials{}, authn.Caller{}, noRole(err, in.RoleName)
		}
		c.PrincipalID = r.ID
	case in.UserName != "":
		u, err := s.user(ctx, in.AccountID, in.UserName)
		if err != nil {
			return SessionCredentials{}, authn.Caller{}, noUser(err, in.UserName)
		}
		c.PrincipalID = u.ID
	default:
		c.PrincipalID = in.AccountID
	}
	caller, err := s.sessionCaller(ctx, &c)
	if err != nil {
		return SessionCredentials{}, authn.Caller{}, err
	}
	text, err := json.Marshal(c) //nolint:gosec // the secret goes into the sealed token and nowhere else
	if err != nil {
		return SessionCredentials{}, authn.Caller{}, fmt.Errorf("encode session: %w", err)
	}
	token, err := s.keys.tokens.seal(purposeToken, text)
	if err != nil {
		return SessionCredentials{}, authn.Caller{}, err
	}
	return SessionCredentials{
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.Secret, Token: token,
		Expiration: time.Unix(c.Expires, 0).UTC(), LastUpdated: now,
	}, caller, nil
}

// checkSessionPolicies refuses managed policies that the account has not.
func (s *Service) checkSessionPolicies(ctx context.Context, accountID string, arns []string) error {
	for _, arn := range arns {
		if _, err := s.managedPolicy(ctx, accountID, arn); err != nil {
			return noPolicy(err, arn)
		}
	}
	return nil
}

// session is what a token says beside the principal.
func (c *claims) session() *authn.Session {
	s := &authn.Session{
		Issued: time.Unix(c.Issued, 0).UTC(), Tags: c.Tags, Transitive: c.Transitive, SourceIdentity: c.SourceIdentity,
		Policies: c.PolicyARNs, Provider: c.Provider, Federated: c.Federated,
	}
	if c.MFA != 0 {
		s.MFA = time.Unix(c.MFA, 0).UTC()
	}
	if c.Federated != "" {
		s.Issuer = c.UserName
	}
	return s
}

// maxToken bounds a session token, in bytes: its longest session policy has 2,048 characters, its tags
// and policies' names as many.
const maxToken = 8 << 10

// readToken opens a session token and tests that it is this access key's. Expiry is the caller's to test.
func (s *Service) readToken(accessKeyID, token string) (*claims, bool) {
	if c, ok := s.sessions.get(accessKeyID, token); ok {
		return c, true
	}
	if len(token) > maxToken {
		return nil, false
	}
	text, err := s.keys.tokens.open(purposeToken, token)
	if err != nil {
		return nil, false
	}
	var c claims
	if err := json.Unmarshal(text, &c); err != nil || c.AccessKeyID != accessKeyID {
		return nil, false
	}
	s.sessions.put(token, &c)
	return &c, true
}

// sessionCache keeps opened tokens by their access key id, so that the second request of a session costs no
// decryption.
type sessionCache struct {
	mu   sync.Mutex
	kept lru[openedToken]
}

type openedToken struct {
	token  string
	claims *claims
}

func newSessionCache(limit int) *sessionCache { return &sessionCache{kept: newLRU[openedToken](limit)} }

func (s *sessionCache) get(accessKeyID, token string) (*claims, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.kept.get(accessKeyID)
	if !ok || o.token != token {
		return nil, false
	}
	return o.claims, true
}

func (s *sessionCache) put(token string, c *claims) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.put(c.AccessKeyID, openedToken{token: token, claims: c})
}

// account returns the account of a session's access key, if it is known here.
func (s *sessionCache) account(accessKeyID string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.kept.get(accessKeyID)
	if !ok {
		return "", false
	}
	return o.claims.AccountID, true
}
