package sts

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// webClaims are those claims of an OpenID Connect token that matter here.
type webClaims struct {
	jwt.Claims
	AuthorizedParty string   `json:"azp"`
	Methods         []string `json:"amr"`
	SourceIdentity  string   `json:"https://aws.amazon.com/source_identity"`
	Tags            struct {
		Principal  map[string][]string `json:"principal_tags"`
		Transitive []string            `json:"transitive_tag_keys"`
	} `json:"https://aws.amazon.com/tags"`
}

// tokenLeeway is how far the clocks of an identity provider and this cloud may differ.
const tokenLeeway = time.Minute

// audience is the token's for conditions: the authorized party, if it names one.
func (c *webClaims) audience() []string {
	if c.AuthorizedParty != "" {
		return []string{c.AuthorizedParty}
	}
	return c.Audience
}

// AssumeRoleWithWebIdentity makes a session of a role for the holder of a token of an OpenID Connect provider, which
// the role's account knows and its trust policy names.
func (s *Service) AssumeRoleWithWebIdentity(
	ctx context.Context, in *stsmodel.AssumeRoleWithWebIdentityInput,
) (*stsmodel.AssumeRoleWithWebIdentityOutput, error) {
	roleARN, name := model.Val(in.RoleArn), model.Val(in.RoleSessionName)
	if err := checkSession(roleARN, name, len(in.PolicyArns)); err != nil {
		return nil, err
	}
	if in.ProviderId != nil {
		return nil, validation("ProviderId is for OAuth 2.0 providers, which this cloud has not; leave it out for " +
			"OpenID Connect.")
	}
	c, provider, err := s.openWebToken(ctx, roleARN, model.Val(in.WebIdentityToken))
	if err != nil {
		return nil, err
	}
	session := iam.Session{
		Name: name, Policy: model.Val(in.Policy), PolicyARNs: policyARNs(in.PolicyArns), Provider: provider.ARN,
		SourceIdentity: c.SourceIdentity,
	}
	if err := inherit(&session, nil, c.tags(), c.Tags.Transitive); err != nil {
		return nil, err
	}
	keys := c.conditions(strings.TrimPrefix(provider.Issuer, "https://"))
	keys["sts:RoleSessionName"] = []string{name}
	made, err := s.assumeFederated(ctx, federation{
		action: "sts:AssumeRoleWithWebIdentity", roleARN: roleARN, session: session, conditions: keys,
		seconds: in.DurationSeconds, tagged: len(c.Tags.Principal) > 0,
	})
	if err != nil {
		return nil, err
	}
	out := &stsmodel.AssumeRoleWithWebIdentityOutput{
		AssumedRoleUser: made.user, Credentials: made.credentials, PackedPolicySize: made.packed,
		Audience: model.Ptr(c.audience()[0]), Provider: model.Ptr(provider.ARN),
		SubjectFromWebIdentityToken: model.Ptr(c.Subject),
	}
	if c.SourceIdentity != "" {
		out.SourceIdentity = model.Ptr(c.SourceIdentity)
	}
	return out, nil
}

// federation is an assumption by somebody for whom an identity provider vouches.
type federation struct {
	action, roleARN string
	session         iam.Session // without role and life
	conditions      map[string][]string
	seconds         *int64
	longest         time.Duration // that the provider allows; zero means as long as the role does
	tagged          bool
}

type federated struct {
	user        *stsmodel.AssumedRoleUser
	credentials *stsmodel.Credentials
	packed      *int64
}

// assumeFederated asks the role's trust policy and makes the session.
func (s *Service) assumeFederated(ctx context.Context, f federation) (*federated, error) {
	packed, err := packedSize(&f.session)
	if err != nil {
		return nil, err
	}
	for _, t := range f.session.Tags {
		f.conditions["aws:RequestTag/"+t.Key] = []string{t.Value}
		f.conditions["aws:TagKeys"] = append(f.conditions["aws:TagKeys"], t.Key)
	}
	if f.session.SourceIdentity != "" {
		f.conditions["sts:SourceIdentity"] = []string{f.session.SourceIdentity}
	}
	q := iam.Assumption{
		Action: f.action, RoleARN: f.roleARN, Provider: f.session.Provider, Conditions: f.conditions,
	}
	nobody := authn.CallerFrom(ctx)
	role, err := s.iam.AuthorizeAssumption(ctx, nobody, q)
	if err == nil && f.tagged {
		q.Action = "sts:TagSession"
		_, err = s.iam.AuthorizeAssumption(ctx, nobody, q)
	}
	if err == nil && f.session.SourceIdentity != "" {
		q.Action = "sts:SetSourceIdentity"
		_, err = s.iam.AuthorizeAssumption(ctx, nobody, q)
	}
	if err != nil {
		return nil, err
	}
	longest := time.Duration(role.MaxSession) * time.Second
	if f.session.Life, err = assumeLife(f.seconds, nobody, longest); err != nil {
		return nil, err
	}
	if f.longest > 0 {
		f.session.Life = min(f.session.Life, f.longest)
	}
	f.session.AccountID, f.session.RoleName = role.AccountID, role.Name
	creds, made, err := s.iam.MintSession(ctx, f.session)
	if err != nil {
		return nil, err
	}
	return &federated{
		user:        &stsmodel.AssumedRoleUser{Arn: model.Ptr(made.ARN), AssumedRoleId: model.Ptr(made.UserID)},
		credentials: view(creds), packed: packed,
	}, nil
}

// openWebToken finds the token's provider in the role's account and checks the token: signature, audience, time.
func (s *Service) openWebToken(ctx context.Context, roleARN, text string) (*webClaims, iam.Provider, error) {
	var none iam.Provider
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256,
		jose.ES384, jose.ES512, jose.PS256})
	if err != nil {
		return nil, none, stsmodel.ErrInvalidIdentityToken("The ID Token provided is not a valid JWT. (You may see this " +
			"error if you sent an Access Token)")
	}
	var c webClaims
	if err := token.UnsafeClaimsWithoutVerification(&c); err != nil || c.Issuer == "" {
		return nil, none, stsmodel.ErrInvalidIdentityToken("Missing a required claim: iss")
	}
	accountID, _ := roleAccount(roleARN)
	provider, err := s.iam.OIDCProviderFor(ctx, accountID, strings.TrimSuffix(c.Issuer, "/"))
	if err != nil {
		return nil, none, stsmodel.ErrInvalidIdentityToken("No OpenIDConnect provider found in your account for %.200s",
			c.Issuer)
	}
	keyID := ""
	if len(token.Headers) == 1 {
		keyID = token.Headers[0].KeyID
	}
	keys, err := s.keys.key(ctx, provider, keyID)
	if err != nil {
		return nil, none, stsmodel.ErrIDPCommunicationError("Couldn't retrieve verification key from your identity "+
			"provider: %w", err)
	}
	verified := false
	for _, k := range keys {
		var checked webClaims
		if err := token.Claims(k.Key, &checked); err == nil {
			c, verified = checked, true
			break
		}
	}
	if !verified {
		return nil, none, stsmodel.ErrInvalidIdentityToken("The signature of the token is not of a key of the provider")
	}
	return &c, provider, s.checkWebClaims(&c, provider)
}

// roleAccount returns the account of a role's ARN.
func roleAccount(arn string) (string, bool) {
	parts := strings.SplitN(arn, ":", 6)
	const wanted = 6
	if len(parts) != wanted {
		return "", false
	}
	return parts[4], true
}

func (s *Service) checkWebClaims(c *webClaims, p iam.Provider) error {
	now := s.clock()
	switch {
	case c.Subject == "":
		return stsmodel.ErrInvalidIdentityToken("Missing a required claim: sub")
	case c.Expiry == nil:
		return stsmodel.ErrInvalidIdentityToken("Missing a required claim: exp")
	case c.IssuedAt == nil:
		return stsmodel.ErrInvalidIdentityToken("Missing a required claim: iat")
	case len(c.Audience) == 0:
		return stsmodel.ErrInvalidIdentityToken("Missing a required claim: aud")
	case !now.Before(c.Expiry.Time()):
		return stsmodel.ErrExpiredTokenException("Token expired: current date/time %d must be before the expiration "+
			"date/time %d", now.Unix(), c.Expiry.Time().Unix())
	case now.Add(tokenLeeway).Before(c.IssuedAt.Time()),
		c.NotBefore != nil && now.Add(tokenLeeway).Before(c.NotBefore.Time()):
		return stsmodel.ErrInvalidIdentityToken("The token is not valid yet")
	}
	fits := func(a string) bool { return slices.Contains(p.ClientIDs, a) }
	if !slices.ContainsFunc(c.audience(), fits) {
		return stsmodel.ErrInvalidIdentityToken("Incorrect token audience")
	}
	return nil
}

// tags are the session tags that the token asks for, by key.
func (c *webClaims) tags() []stsmodel.Tag {
	var out []stsmodel.Tag
	for key, values := range c.Tags.Principal {
		if len(values) == 1 {
			out = append(out, stsmodel.Tag{Key: model.Ptr(key), Value: model.Ptr(values[0])})
		}
	}
	slices.SortFunc(out, func(a, b stsmodel.Tag) int { return strings.Compare(*a.Key, *b.Key) })
	return out
}

// conditions are the keys that the token answers, named after the provider.
func (c *webClaims) conditions(provider string) map[string][]string {
	keys := map[string][]string{
		provider + ":sub": {c.Subject}, provider + ":aud": c.audience(),
	}
	if c.AuthorizedParty != "" {
		keys[provider+":oaud"] = c.Audience
	}
	if len(c.Methods) > 0 {
		keys[provider+":amr"] = c.Methods
	}
	return keys
}
