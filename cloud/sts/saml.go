package sts

import (
	"context"
	"crypto/sha1" //nolint:gosec // saml:namequalifier is a SHA-1 by its definition
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// attributePrefix is how the SAML attributes that AWS reads are named.
const attributePrefix = "https://aws.amazon.com/SAML/Attributes/"

// AssumeRoleWithSAML makes a session of a role for the subject of a SAML assertion, of a provider that the role's
// account knows and its trust policy names. The assertion says which roles its subject may have.
func (s *Service) AssumeRoleWithSAML(
	ctx context.Context, in *stsmodel.AssumeRoleWithSAMLInput,
) (*stsmodel.AssumeRoleWithSAMLOutput, error) {
	roleARN, providerARN := model.Val(in.RoleArn), model.Val(in.PrincipalArn)
	provider, err := s.iam.Provider(ctx, providerARN)
	account, ok := roleAccount(roleARN)
	if err != nil || !ok || provider.SAMLMetadata == "" || account != provider.AccountID {
		return nil, stsmodel.ErrInvalidIdentityToken("The provider %s is not one of the role's account", providerARN)
	}
	metadata, err := iam.ParseSAMLMetadata(provider.SAMLMetadata)
	if err != nil {
		return nil, stsmodel.ErrInvalidIdentityToken("The provider's metadata cannot be read: %w", err)
	}
	a, err := openAssertion(model.Val(in.SAMLAssertion), metadata, s.clock())
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(a.attributes[attributePrefix+"Role"], func(v string) bool {
		return namesRole(v, roleARN, providerARN)
	}) {
		return nil, stsmodel.ErrIDPRejectedClaim("The assertion's attribute Role does not hold %s with %s", roleARN,
			providerARN)
	}
	name := first(a.attributes[attributePrefix+"RoleSessionName"])
	if err := checkSession(roleARN, name, len(in.PolicyArns)); err != nil {
		return nil, stsmodel.ErrInvalidIdentityToken("RoleSessionName is required in SAMLAssertion: %w", err)
	}
	f := federation{
		action: "sts:AssumeRoleWithSAML", roleARN: roleARN, seconds: in.DurationSeconds,
		session: iam.Session{
			Name: name, Policy: model.Val(in.Policy), PolicyARNs: policyARNs(in.PolicyArns), Provider: providerARN,
			SourceIdentity: first(a.attributes[attributePrefix+"SourceIdentity"]),
		},
	}
	if err := f.takeAttributes(a, s.clock()); err != nil {
		return nil, err
	}
	qualifier := a.qualifier(provider.AccountID, providerARN)
	f.conditions = a.conditions(qualifier)
	f.conditions["sts:RoleSessionName"] = []string{name}
	made, err := s.assumeFederated(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &stsmodel.AssumeRoleWithSAMLOutput{
		AssumedRoleUser: made.user, Credentials: made.credentials, PackedPolicySize: made.packed,
		Audience: model.Ptr(a.recipient), Issuer: model.Ptr(a.issuer), NameQualifier: model.Ptr(qualifier),
		Subject: model.Ptr(a.subject), SubjectType: model.Ptr(a.subjectType()),
	}
	if f.session.SourceIdentity != "" {
		out.SourceIdentity = model.Ptr(f.session.SourceIdentity)
	}
	return out, nil
}

// namesRole reports whether a value of the attribute Role is the pair of role and provider, in either order.
func namesRole(value, roleARN, providerARN string) bool {
	one, two, _ := strings.Cut(value, ",")
	one, two = strings.TrimSpace(one), strings.TrimSpace(two)
	return one == roleARN && two == providerARN || one == providerARN && two == roleARN
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// takeAttributes takes up the session's tags and its longest life, which no session outlives.
func (f *federation) takeAttributes(a *assertion, now time.Time) error {
	if text := first(a.attributes[attributePrefix+"SessionDuration"]); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || time.Duration(seconds)*time.Second < minSession {
			return stsmodel.ErrInvalidIdentityToken("SessionDuration in SAMLAssertion must be a number of seconds from %d",
				int(minSession.Seconds()))
		}
		f.longest = time.Duration(seconds) * time.Second
	}
	if !a.sessionEnd.IsZero() {
		left := a.sessionEnd.Sub(now)
		if f.longest == 0 || left < f.longest {
			f.longest = left
		}
	}
	var tags []stsmodel.Tag
	for name, values := range a.attributes {
		if key, ok := strings.CutPrefix(name, attributePrefix+"PrincipalTag:"); ok && len(values) == 1 {
			tags = append(tags, stsmodel.Tag{Key: model.Ptr(key), Value: model.Ptr(values[0])})
		}
	}
	slices.SortFunc(tags, func(x, y stsmodel.Tag) int { return strings.Compare(*x.Key, *y.Key) })
	f.tagged = len(tags) > 0
	return inherit(&f.session, nil, tags, a.attributes[attributePrefix+"TransitiveTagKeys"])
}

// qualifier is the saml:namequalifier: who says so, for which account, by which provider.
func (a *assertion) qualifier(accountID, providerARN string) string {
	name := providerARN[strings.LastIndexByte(providerARN, '/')+1:]
	sum := sha1.Sum([]byte(a.issuer + accountID + "/" + name)) //nolint:gosec // see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

// subjectType is the format of the subject's name as conditions have it.
func (a *assertion) subjectType() string {
	_, kind, _ := strings.Cut(a.format, "nameid-format:")
	switch kind {
	case "persistent", "transient":
		return kind
	}
	return a.format
}

func (a *assertion) conditions(qualifier string) map[string][]string {
	return map[string][]string{
		"saml:aud": {a.recipient}, "saml:iss": {a.issuer}, "saml:sub": {a.subject}, "saml:sub_type": {a.subjectType()},
		"saml:namequalifier": {qualifier}, "saml:doc": {a.provider},
	}
}
