package sts

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// IAM is what this package needs of package iam.
type IAM interface {
	AuthorizeAssume(ctx context.Context, caller authn.Caller, roleARN string,
		conditions map[string][]string) (iam.AssumableRole, error)
	MintSession(ctx context.Context, session iam.Session) (iam.SessionCredentials, authn.Caller, error)
}

// Service is the security token service. It has no state of its own.
type Service struct{ iam IAM }

// New returns a Service that has its sessions made by iam.
func New(iam IAM) *Service { return &Service{iam: iam} }

// Handlers returns the operations that this service implements.
func (s *Service) Handlers() map[string]model.Handler { return stsmodel.Handlers(s) }

// SelfAuthorized names the operations that need no permission (GetCallerIdentity, GetSessionToken) or check it
// themselves (AssumeRole, for which the role's trust policy counts too).
func (s *Service) SelfAuthorized() map[string]bool {
	return map[string]bool{"AssumeRole": true, "GetCallerIdentity": true, "GetSessionToken": true}
}

// Resources names the ARNs that an operation touches.
func (s *Service) Resources(_ context.Context, _ string, _ authn.Caller, input any) ([]string, error) {
	if in, ok := input.(*stsmodel.AssumeRoleInput); ok {
		return []string{model.Val(in.RoleArn)}, nil
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
	return &stsmodel.GetCallerIdentityOutput{
		Account: model.Ptr(c.AccountID), Arn: model.Ptr(c.ARN), UserId: model.Ptr(c.UserID),
	}, nil
}

// AssumeRole makes a session of a role. It lasts DurationSeconds (900 to the role's MaxSessionDuration, at most one
// hour from another role's session; default one hour). Its name is the caller's choice and proves nothing: a session
// named like an instance is not the instance's.
func (s *Service) AssumeRole(
	ctx context.Context, in *stsmodel.AssumeRoleInput,
) (*stsmodel.AssumeRoleOutput, error) {
	caller := authn.CallerFrom(ctx)
	if err := checkAssume(in); err != nil {
		return nil, err
	}
	name := model.Val(in.RoleSessionName)
	conditions := map[string][]string{"sts:RoleSessionName": {name}}
	if in.ExternalId != nil {
		conditions["sts:ExternalId"] = []string{*in.ExternalId}
	}
	role, err := s.iam.AuthorizeAssume(ctx, caller, model.Val(in.RoleArn), conditions)
	if err != nil {
		return nil, err
	}
	life, err := assumeLife(in.DurationSeconds, caller, time.Duration(role.MaxSession)*time.Second)
	if err != nil {
		return nil, err
	}
	creds, session, err := s.iam.MintSession(ctx, iam.Session{
		AccountID: role.AccountID, RoleName: role.Name, Name: name, Life: life, Policy: model.Val(in.Policy),
	})
	if err != nil {
		return nil, err
	}
	out := &stsmodel.AssumeRoleOutput{
		AssumedRoleUser: &stsmodel.AssumedRoleUser{
			Arn: model.Ptr(session.ARN), AssumedRoleId: model.Ptr(session.UserID),
		},
		Credentials: view(creds),
	}
	if in.Policy != nil {
		out.PackedPolicySize = model.Ptr(int64(100 * utf8.RuneCountInString(*in.Policy) / maxPolicy))
	}
	return out, nil
}

func view(c iam.SessionCredentials) *stsmodel.Credentials {
	return &stsmodel.Credentials{
		AccessKeyId: model.Ptr(c.AccessKeyID), SecretAccessKey: model.Ptr(c.SecretAccessKey),
		SessionToken: model.Ptr(c.Token), Expiration: model.Ptr(c.Expiration),
	}
}

// checkAssume tests what can be told from the request alone. Parameters that would narrow or mark the session and are
// not implemented are refused: to drop them silently would give away more than was asked for.
func checkAssume(in *stsmodel.AssumeRoleInput) error {
	missing := func(name string) error {
		return validation("The parameter %s is not implemented by this cloud.", name)
	}
	switch {
	case len(in.PolicyArns) > 0:
		return missing("PolicyArns")
	case len(in.Tags) > 0:
		return missing("Tags")
	case len(in.TransitiveTagKeys) > 0:
		return missing("TransitiveTagKeys")
	case len(in.ProvidedContexts) > 0:
		return missing("ProvidedContexts")
	case in.SourceIdentity != nil:
		return missing("SourceIdentity")
	case in.SerialNumber != nil || in.TokenCode != nil:
		return missing("SerialNumber")
	}
	if err := checkSessionName(model.Val(in.RoleSessionName)); err != nil {
		return err
	}
	if arn := model.Val(in.RoleArn); !strings.HasPrefix(arn, "arn:") {
		return validation("The value for roleArn is invalid: %s is no ARN", arn)
	}
	if n := utf8.RuneCountInString(model.Val(in.Policy)); n > maxPolicy {
		return stsmodel.ErrPackedPolicyTooLarge("Policy has %d characters, at most %d are allowed.", n, maxPolicy)
	}
	return nil
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

func assumeLife(seconds *int64, caller authn.Caller, longest time.Duration) (time.Duration, error) {
	chained := caller.Kind == authn.KindRole
	if seconds == nil {
		return min(defaultSession, longest), nil
	}
	life := time.Duration(*seconds) * time.Second
	switch {
	case life < minSession:
		return 0, validation("The value for DurationSeconds must be at least %d.", int(minSession.Seconds()))
	case chained && life > maxChained:
		return 0, validation("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by " +
			"role chaining")
	case life > longest:
		return 0, validation("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return life, nil
}

// GetSessionToken makes temporary credentials of a user or root user. They call neither IAM nor, but for AssumeRole
// and GetCallerIdentity, STS. They last DurationSeconds: 900 to 129,600, default 43,200; at most 3,600 for root.
func (s *Service) GetSessionToken(
	ctx context.Context, in *stsmodel.GetSessionTokenInput,
) (*stsmodel.GetSessionTokenOutput, error) {
	c := authn.CallerFrom(ctx)
	if c.Kind != authn.KindUser && c.Kind != authn.KindRoot || strings.HasPrefix(c.AccessKeyID, "ASIA") {
		return nil, model.Errorf("AccessDenied", http.StatusForbidden,
			"Cannot call GetSessionToken with session credentials")
	}
	if in.SerialNumber != nil || in.TokenCode != nil {
		return nil, validation("The parameter SerialNumber is not implemented by this cloud.")
	}
	const usual, longest = 12 * time.Hour, 36 * time.Hour
	life := usual
	if in.DurationSeconds != nil {
		life = time.Duration(*in.DurationSeconds) * time.Second
	}
	if life < minSession || life > longest {
		return nil, validation("The value for DurationSeconds must be from %d to %d.",
			int(minSession.Seconds()), int(longest.Seconds()))
	}
	if c.Kind == authn.KindRoot {
		life = min(life, time.Hour)
	}
	creds, _, err := s.iam.MintSession(ctx, iam.Session{AccountID: c.AccountID, UserName: c.UserName, Life: life})
	if err != nil {
		return nil, err
	}
	return &stsmodel.GetSessionTokenOutput{Credentials: view(creds)}, nil
}
