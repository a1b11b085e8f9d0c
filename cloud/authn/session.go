package authn

import (
	"slices"
	"strings"
	"time"
)

// Tag is a session tag.
type Tag struct{ Key, Value string }

// Session is what temporary credentials carry beside the principal. It is shared and not changed.
type Session struct {
	Issued time.Time
	// MFA is when the holder showed a code of an MFA device; zero when no code was shown.
	MFA time.Time
	// Tags are the session's own tags and those that it took over from the session before it.
	Tags []Tag
	// Transitive are the keys of those tags that go over to sessions made from this one.
	Transitive []string
	// SourceIdentity names the person behind the session; it is kept through chained roles.
	SourceIdentity string
	// Policies are ARNs of managed policies that limit the session beside the Caller's SessionPolicy.
	Policies []string
	// Provider is the identity provider that vouched for the holder; empty for sessions made by AWS identities.
	Provider string
	// Federated is the name of a federated user (GetFederationToken), whose permissions come from Issuer.
	Federated string
	// Issuer is the user who made the federated user's credentials; empty for the root user.
	Issuer string
}

// MFA reports whether the credentials were made with a code of an MFA device.
func (c *Caller) MFA() bool { return c.Session != nil && !c.Session.MFA.IsZero() }

// Tag returns the session tag of a key, which is the same without regard to case.
func (s *Session) Tag(key string) (string, bool) {
	if s == nil {
		return "", false
	}
	i := slices.IndexFunc(s.Tags, func(t Tag) bool { return strings.EqualFold(t.Key, key) })
	if i < 0 {
		return "", false
	}
	return s.Tags[i].Value, true
}

// Inherited returns the tags that go over to sessions made from this one.
func (s *Session) Inherited() []Tag {
	if s == nil {
		return nil
	}
	var out []Tag
	for _, t := range s.Tags {
		if slices.ContainsFunc(s.Transitive, func(k string) bool { return strings.EqualFold(k, t.Key) }) {
			out = append(out, t)
		}
	}
	return out
}
