package sts

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// IAM is what this package needs of package iam.
type IAM interface {
	AuthorizeAssumption(ctx context.Context, caller authn.Caller, in iam.Assumption) (iam.AssumableRole, error)
	MintSession(ctx context.Context, session iam.Session) (iam.SessionCredentials, authn.Caller, error)
	VerifyMFA(ctx context.Context, caller authn.Caller, serial, code string) error
	Provider(ctx context.Context, arn string) (iam.Provider, error)
	OIDCProviderFor(ctx context.Context, accountID, issuer string) (iam.Provider, error)
	DecodeMessage(ctx context.Context, accountID, encoded string) (string, error)
	AccessKeyAccount(ctx context.Context, id string) (string, error)
	NoteUse(caller *authn.Caller, action string)
}

// Service is the security token service. It has no state of its own but the keys of OpenID Connect providers.
type Service struct {
	iam   IAM
	clock func() time.Time
	keys  *keyFetcher
}

// Option alters a Service.
type Option func(*Service)

// WithClock sets the time by which assertions and tokens of identity providers are judged; nil means time.Now.
func WithClock(clock func() time.Time) Option {
	return func(s *Service) {
		if clock != nil {
			s.clock = clock
		}
	}
}

// New returns a Service that has its sessions made by iam.
func New(iam IAM, options ...Option) *Service {
	s := &Service{iam: iam, clock: time.Now}
	for _, o := range options {
		o(s)
	}
	s.keys = newKeyFetcher(s.clock)
	return s
}

// Handlers returns the operations that this service implements.
func (s *Service) Handlers() map[string]model.Handler { return stsmodel.Handlers(s) }

// SelfAuthorized names the operations that need no permission (GetCallerIdentity, GetSessionToken) or check it
// themselves (the AssumeRole family, for which the role's trust policy counts too).
func (s *Service) SelfAuthorized() map[string]bool {
	return map[string]bool{
		"AssumeRole": true, "AssumeRoleWithSAML": true, "AssumeRoleWithWebIdentity": true, "GetCallerIdentity": true,
		"GetSessionToken": true,
	}
}

// Unsigned names the operations whose callers have no AWS credentials: an identity provider vouches for them.
func (s *Service) Unsigned() map[string]bool {
	return map[string]bool{"AssumeRoleWithSAML": true, "AssumeRoleWithWebIdentity": true}
}

// Resources names the ARNs that an operation touches.
func (s *Service) Resources(_ context.Context, _ string, c authn.Caller, input any) ([]string, error) {
	switch in := input.(type) {
	case *stsmodel.AssumeRoleInput:
		return []string{model.Val(in.RoleArn)}, nil
	case *stsmodel.GetFederationTokenInput:
		return []string{"arn:aws:sts::" + c.AccountID + ":federated-user/" + model.Val(in.Name)}, nil
	}
	return nil, nil
}

// Conditions names the condition keys that an operation's own parameters answer.
func (s *Service) Conditions(_ context.Context, _ string, _ authn.Caller, input any) (map[string][]string, error) {
	if in, ok := input.(*stsmodel.GetFederationTokenInput); ok {
		return tagConditions(in.Tags), nil
	}
	return nil, nil
}

const (
	defaultSession = time.Hour
	minSession     = 15 * time.Minute
	// maxChained is the longest session of a role that was assumed by another role's session.
	maxChained = time.Hour
	// maxPolicy is how many characters a session policy may have.
	maxPolicy = 2048
	// maxPacked is how many bytes policy, policies' ARNs and tags may have together.
	maxPacked = 4096
	// maxPolicyARNs is how many managed policies may limit a session.
	maxPolicyARNs = 10
)

func validation(format string, args ...any) error {
	return model.Errorf("ValidationError", http.StatusBadRequest, format, args...)
}

// GetCallerIdentity tells who the caller is. No policy can forbid it.
func (s *Service) GetCallerIdentity(
	ctx context.Context, _ *stsmodel.GetCallerIdentityInput,
) (*stsmodel.GetCallerIdentityOutput, error) {
	c := authn.CallerFrom(ctx)
	if c.Kind == "" {
		return nil, model.Errorf("AccessDenied", http.StatusForbidden, "The caller is not known.")
	}
	s.iam.NoteUse(&c, "sts:GetCallerIdentity")
	return &stsmodel.GetCallerIdentityOutput{
		Account: model.Ptr(c.AccountID), Arn: model.Ptr(c.ARN), UserId: model.Ptr(c.UserID),
	}, nil
}

func view(c iam.SessionCredentials) *stsmodel.Credentials {
	return &stsmodel.Credentials{
		AccessKeyId: model.Ptr(c.AccessKeyID), SecretAccessKey: model.Ptr(c.SecretAccessKey),
		SessionToken: model.Ptr(c.Token), Expiration: model.Ptr(c.Expiration),
	}
}

func checkSessionName(name string) error {
	bad := func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune("_+=,.@-", c)
	}
	const shortest, longest = 2, 64
	if len(name) < shortest || len(name) > longest || strings.ContainsFunc(name, bad) {
		return validation("The value for roleSessionName must have %d to %d of the characters A-Z a-z 0-9 and _+=,.@-",
			shortest, longest)
	}
	return nil
}

// GetSessionToken makes temporary credentials of a user or root user. They call IAM only if made with an MFA code, and
// of STS only AssumeRole and GetCallerIdentity. They last DurationSeconds: 900 to 129,600, default 43,200; at most
// 3,600 for root.
func (s *Service) GetSessionToken(
	ctx context.Context, in *stsmodel.GetSessionTokenInput,
) (*stsmodel.GetSessionTokenOutput, error) {
	c := authn.CallerFrom(ctx)
	life, err := ownLife(&c, "GetSessionToken", in.DurationSeconds)
	if err != nil {
		return nil, err
	}
	session := iam.Session{AccountID: c.AccountID, UserName: c.UserName, Life: life}
	mfa, err := s.checkMFA(ctx, c, in.SerialNumber, in.TokenCode)
	if err != nil {
		return nil, err
	}
	if mfa {
		session.MFA = s.clock()
	}
	creds, _, err := s.iam.MintSession(ctx, session)
	if err != nil {
		return nil, err
	}
	return &stsmodel.GetSessionTokenOutput{Credentials: view(creds)}, nil
}

// ownLife is how long the credentials are good that a user or root user makes of its own: 900 to 129,600 seconds,
// default 43,200, and at most 3,600 for root. Whoever calls with temporary credentials is refused the operation.
func ownLife(c *authn.Caller, operation string, seconds *int64) (time.Duration, error) {
	if c.Kind != authn.KindUser && c.Kind != authn.KindRoot || c.Session != nil {
		return 0, model.Errorf("AccessDenied", http.StatusForbidden,
			"Cannot call %s with session credentials", operation)
	}
	const usual, longest = 12 * time.Hour, 36 * time.Hour
	life := usual
	if seconds != nil {
		life = time.Duration(*seconds) * time.Second
	}
	if life < minSession || life > longest {
		return 0, validation("The value for DurationSeconds must be from %d to %d.",
			int(minSession.Seconds()), int(longest.Seconds()))
	}
	if c.Kind == authn.KindRoot {
		life = min(life, time.Hour)
	}
	return life, nil
}
