package sts

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

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
	session := iam.Session{
		Name: model.Val(in.RoleSessionName), Policy: model.Val(in.Policy), PolicyARNs: policyARNs(in.PolicyArns),
		SourceIdentity: model.Val(in.SourceIdentity),
	}
	if err := inherit(&session, caller.Session, in.Tags, in.TransitiveTagKeys); err != nil {
		return nil, err
	}
	packed, err := packedSize(&session)
	if err != nil {
		return nil, err
	}
	mfa, err := s.checkMFA(ctx, caller, in.SerialNumber, in.TokenCode)
	if err != nil {
		return nil, err
	}
	role, err := s.authorizeAssume(ctx, caller, in, session.SourceIdentity, mfa)
	if err != nil {
		return nil, err
	}
	session.AccountID, session.RoleName = role.AccountID, role.Name
	longest := time.Duration(role.MaxSession) * time.Second
	if session.Life, err = assumeLife(in.DurationSeconds, caller, longest); err != nil {
		return nil, err
	}
	creds, made, err := s.iam.MintSession(ctx, session)
	if err != nil {
		return nil, err
	}
	out := &stsmodel.AssumeRoleOutput{
		AssumedRoleUser: &stsmodel.AssumedRoleUser{Arn: model.Ptr(made.ARN), AssumedRoleId: model.Ptr(made.UserID)},
		Credentials:     view(creds), PackedPolicySize: packed,
	}
	if session.SourceIdentity != "" {
		out.SourceIdentity = model.Ptr(session.SourceIdentity)
	}
	return out, nil
}

// authorizeAssume asks for each action that the request is: to assume the role, to tag the session, and to say who is
// behind it.
func (s *Service) authorizeAssume(ctx context.Context, caller authn.Caller, in *stsmodel.AssumeRoleInput,
	sourceIdentity string, mfa bool,
) (iam.AssumableRole, error) {
	keys := tagConditions(in.Tags)
	keys["sts:RoleSessionName"] = []string{model.Val(in.RoleSessionName)}
	if in.ExternalId != nil {
		keys["sts:ExternalId"] = []string{*in.ExternalId}
	}
	if len(in.TransitiveTagKeys) > 0 {
		keys["sts:TransitiveTagKeys"] = in.TransitiveTagKeys
	}
	if sourceIdentity != "" {
		keys["sts:SourceIdentity"] = []string{sourceIdentity}
	}
	q := iam.Assumption{RoleARN: model.Val(in.RoleArn), Conditions: keys, MFA: mfa}
	role, err := s.iam.AuthorizeAssumption(ctx, caller, q)
	if err == nil && len(in.Tags)+len(in.TransitiveTagKeys) > 0 {
		q.Action = "sts:TagSession"
		_, err = s.iam.AuthorizeAssumption(ctx, caller, q)
	}
	if err == nil && sourceIdentity != "" {
		q.Action = "sts:SetSourceIdentity"
		_, err = s.iam.AuthorizeAssumption(ctx, caller, q)
	}
	return role, err
}

// tagConditions names the condition keys that session tags answer.
func tagConditions(tags []stsmodel.Tag) map[string][]string {
	keys := make(map[string][]string)
	for _, t := range tags {
		keys["aws:RequestTag/"+model.Val(t.Key)] = []string{model.Val(t.Value)}
		keys["aws:TagKeys"] = append(keys["aws:TagKeys"], model.Val(t.Key))
	}
	return keys
}

func policyARNs(in []stsmodel.PolicyDescriptorType) []string {
	var out []string
	for _, p := range in {
		out = append(out, model.Val(p.Arn))
	}
	return out
}

// inherit gives a session its own tags and the transitive ones of the session that it is made from, whose source
// identity stays too.
func inherit(session *iam.Session, from *authn.Session, tags []stsmodel.Tag, transitive []string) error {
	session.Tags = from.Inherited()
	for _, t := range session.Tags {
		session.Transitive = append(session.Transitive, t.Key)
	}
	own := make(map[string]bool)
	for _, t := range tags {
		key := strings.ToLower(model.Val(t.Key))
		if own[key] {
			return validation("Duplicate tag keys found: %s. Tag keys are case-insensitive.", model.Val(t.Key))
		}
		own[key] = true
		if slices.ContainsFunc(session.Transitive, func(k string) bool { return strings.EqualFold(k, key) }) {
			return validation("The transitive tag %s of the calling session cannot be given another value.",
				model.Val(t.Key))
		}
		session.Tags = append(session.Tags, authn.Tag{Key: model.Val(t.Key), Value: model.Val(t.Value)})
	}
	for _, k := range transitive {
		if !own[strings.ToLower(k)] {
			return validation("The transitive tag key %s is not among the session's tags.", k)
		}
		session.Transitive = append(session.Transitive, k)
	}
	if from != nil && from.SourceIdentity != "" {
		if session.SourceIdentity != "" && session.SourceIdentity != from.SourceIdentity {
			return model.Errorf("AccessDenied", http.StatusForbidden,
				"The source identity of the calling session cannot be changed.")
		}
		session.SourceIdentity = from.SourceIdentity
	}
	return nil
}

// packedSize tells how much of the room for policies and tags a session takes, in percent; nil when it takes none.
func packedSize(session *iam.Session) (*int64, error) {
	if n := utf8.RuneCountInString(session.Policy); n > maxPolicy {
		return nil, stsmodel.ErrPackedPolicyTooLarge("Policy has %d characters, at most %d are allowed.", n, maxPolicy)
	}
	size := 2 * len(session.Policy)
	for _, a := range session.PolicyARNs {
		size += len(a)
	}
	for _, t := range session.Tags {
		size += len(t.Key) + len(t.Value)
	}
	if size == 0 {
		return nil, nil
	}
	if size > maxPacked {
		return nil, stsmodel.ErrPackedPolicyTooLarge("Policies and tags take %d%% of the room that a session has.",
			100*size/maxPacked)
	}
	return model.Ptr(int64(100 * size / maxPacked)), nil
}

// checkMFA checks the code of an MFA device, if there is one, and says whether there is.
func (s *Service) checkMFA(ctx context.Context, caller authn.Caller, serial, code *string) (bool, error) {
	switch {
	case serial == nil && code == nil:
		return false, nil
	case serial == nil || code == nil:
		return false, validation("SerialNumber and TokenCode must be given together.")
	}
	return true, s.iam.VerifyMFA(ctx, caller, *serial, *code)
}

// checkAssume tests what can be told from the request alone.
func checkAssume(in *stsmodel.AssumeRoleInput) error {
	if len(in.ProvidedContexts) > 0 {
		return validation("The parameter ProvidedContexts is not implemented by this cloud.")
	}
	return checkSession(model.Val(in.RoleArn), model.Val(in.RoleSessionName), len(in.PolicyArns))
}

func checkSession(roleARN, name string, policies int) error {
	if err := checkSessionName(name); err != nil {
		return err
	}
	if !strings.HasPrefix(roleARN, "arn:") {
		return validation("The value for roleArn is invalid: %s is no ARN", roleARN)
	}
	if policies > maxPolicyARNs {
		return validation("The value for policyArns is invalid: at most %d are allowed", maxPolicyARNs)
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
