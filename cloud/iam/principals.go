package iam

import (
	"context"
	"slices"
	"strings"
	"unicode"

	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// The most characters, white space not counted, that an entity's policies may have together.
const (
	maxUserPolicy  = 2048
	maxGroupPolicy = 5120
	maxRolePolicy  = 10_240
	maxTrustPolicy = 2048
)

// user is a userRecord with its policies compiled and what every request of the user needs.
type user struct {
	userRecord
	fullARN  string
	policies []policy.Source // the inline ones
}

// group is a groupRecord likewise.
type group struct {
	groupRecord
	policies []policy.Source
}

// role is a roleRecord likewise.
type role struct {
	roleRecord
	fullARN  string
	policies []policy.Source
	trust    policy.Source
}

// A stored document was parsed before it was stored. Should it not parse any more, its principal must lose what it
// allows and what it denies alike, so the principal is not usable at all until the document is replaced.
func (s *Service) compileUser(rec *userRecord) (*user, error) {
	sources, err := s.compileInline(rec.Policies, kindUser, rec.Name)
	return &user{userRecord: *rec, fullARN: rec.arn(), policies: sources}, err
}

func (s *Service) compileGroup(rec *groupRecord) (*group, error) {
	sources, err := s.compileInline(rec.Policies, kindGroup, rec.Name)
	return &group{groupRecord: *rec, policies: sources}, err
}

func (s *Service) compileRole(rec *roleRecord) (*role, error) {
	sources, err := s.compileInline(rec.Policies, kindRole, rec.Name)
	if err != nil {
		return nil, err
	}
	trust, err := s.policies.Parse(rec.Trust, policy.Trust)
	if err != nil {
		return nil, err
	}
	return &role{
		roleRecord: *rec, fullARN: rec.arn(), policies: sources,
		trust: policy.Source{Name: "trust policy of role " + rec.Name, Document: trust},
	}, nil
}

func (s *Service) compileInline(policies []inlinePolicy, kind, owner string) ([]policy.Source, error) {
	sources := make([]policy.Source, len(policies))
	for i, p := range policies {
		doc, err := s.policies.Parse(p.Document, policy.Identity)
		if err != nil {
			return nil, err
		}
		sources[i] = policy.Source{
			Name: "inline policy " + p.Name + " of " + kind + " " + owner, Document: doc,
			ID: kind + "_" + owner + "_" + p.Name, Type: kind, Owner: owner,
		}
	}
	return sources, nil
}

// user returns a user by the exact name, or store.ErrNotFound.
func (s *Service) user(ctx context.Context, accountID, name string) (*user, error) {
	u, err := s.users.cached(ctx, recordKey(accountID, name))
	if err == nil && u.Name != name {
		return nil, store.ErrNotFound
	}
	return u, err
}

func (s *Service) role(ctx context.Context, accountID, name string) (*role, error) {
	r, err := s.roles.cached(ctx, recordKey(accountID, name))
	if err == nil && r.Name != name {
		return nil, store.ErrNotFound
	}
	return r, err
}

func noUser(err error, name string) error {
	return missing(err, "The user with name %s cannot be found.", name)
}

func noRole(err error, name string) error {
	return missing(err, "The role with name %s cannot be found.", name)
}

// checkDocument parses a document and answers MalformedPolicyDocument with the element that is wrong.
func (s *Service) checkDocument(text string, g policy.Grammar) (*policy.Document, error) {
	doc, err := s.policies.Parse(text, g)
	if err != nil {
		return nil, iammodel.ErrMalformedPolicyDocument("%w", err)
	}
	return doc, nil
}

// policySize counts as AWS does: without white space.
func policySize(text string) int {
	n := 0
	for _, c := range text {
		if !unicode.IsSpace(c) {
			n++
		}
	}
	return n
}

func checkPolicySize(text, owner string, limit int) error {
	if policySize(text) > limit {
		return iammodel.ErrLimitExceeded("Maximum policy size of %d bytes exceeded for %s", limit, owner)
	}
	return nil
}

// putInline returns policies with one added or replaced. limit bounds their sum; 0 means unbounded.
func putInline(policies []inlinePolicy, p inlinePolicy, owner string, limit int) ([]inlinePolicy, error) {
	out := slices.DeleteFunc(slices.Clone(policies), func(q inlinePolicy) bool { return q.Name == p.Name })
	at, _ := slices.BinarySearchFunc(out, p, func(a, b inlinePolicy) int { return strings.Compare(a.Name, b.Name) })
	out = slices.Insert(out, at, p)
	size := 0
	for _, q := range out {
		size += policySize(q.Document)
	}
	if limit > 0 && size > limit {
		return nil, iammodel.ErrLimitExceeded("Maximum policy size of %d bytes exceeded for %s", limit, owner)
	}
	return out, nil
}

func findInline(policies []inlinePolicy, name, kind string) (int, error) {
	i := slices.IndexFunc(policies, func(p inlinePolicy) bool { return p.Name == name })
	if i < 0 {
		return 0, iammodel.ErrNoSuchEntity("The %s policy with name %s cannot be found.", kind, name)
	}
	return i, nil
}

func inlineNames(policies []inlinePolicy) []string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.Name
	}
	return names
}

// checkTrustPrincipals refuses a trust policy that names an account, user or role that does not exist, as AWS does.
func (s *Service) checkTrustPrincipals(ctx context.Context, doc *policy.Document) error {
	for _, p := range doc.Principals() {
		if err := s.principalExists(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) principalExists(ctx context.Context, principal string) error {
	accountID := principal
	if !isAccountID(principal) {
		accountID = accountOf(principal)
	}
	_, err := s.accounts.cached(ctx, accountID)
	_, kind, _, name, named := splitARN(principal)
	if err == nil && named {
		switch kind {
		case kindUser:
			var u *user
			if u, err = s.user(ctx, accountID, name); err == nil && u.fullARN != principal {
				err = store.ErrNotFound
			}
		case kindRole:
			var r *role
			if r, err = s.role(ctx, accountID, name); err == nil && r.fullARN != principal {
				err = store.ErrNotFound
			}
		default:
			err = store.ErrNotFound
		}
	}
	if isMissing(err) {
		return iammodel.ErrMalformedPolicyDocument("Invalid principal in policy: \"AWS\":%q", principal)
	}
	return err
}
