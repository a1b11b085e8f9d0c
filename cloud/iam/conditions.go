package iam

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// conditionContext gives a request's condition keys to the policy engine. Values are made only when a condition or
// variable asks for them: most policies ask for none.
type conditionContext struct {
	ctx     context.Context
	service *Service
	caller  *authn.Caller
	now     time.Time
	region  string
	request *policy.Request
	extra   map[string][]string // from the service, keys in any case
	single  [1]string           // what Values returned last, so that nothing is allocated for it
}

// Values implements policy.Context.
func (c *conditionContext) Values(key string) ([]string, bool) {
	if v := c.global(key); v != "" {
		return c.just(v)
	}
	if key == "aws:useragent" && c.caller.Transport != authn.TransportUnknown {
		return c.just("") // a client that does not say what it is
	}
	if v, ok := c.own(key); ok {
		return v, true
	}
	return c.tag(key)
}

// just is a key's only value, which may be empty.
func (c *conditionContext) just(value string) ([]string, bool) {
	c.single[0] = value
	return c.single[:], true
}

// global returns a key that every request has; empty when this one has not. What the request itself says can never
// take the place of these.
func (c *conditionContext) global(key string) string {
	switch key {
	case "aws:currenttime":
		return c.now.UTC().Format(time.RFC3339)
	case "aws:epochtime":
		return strconv.FormatInt(c.now.Unix(), 10)
	case "aws:sourceip":
		return c.caller.SourceIP
	case "aws:useragent":
		return c.caller.UserAgent
	case "aws:securetransport":
		return secureTransport(c.caller.Transport)
	case "aws:requestedregion":
		return c.region
	case "ec2:region":
		if strings.HasPrefix(c.request.Action, "ec2:") {
			return c.region
		}
	case "aws:resourceaccount":
		return accountOf(c.request.Resource)
	}
	return c.principal(key)
}

// principal returns a key that tells who asks.
func (c *conditionContext) principal(key string) string {
	switch key {
	case "aws:username":
		return c.caller.UserName
	case "aws:userid":
		return c.caller.UserID
	case "aws:principalaccount":
		return c.caller.AccountID
	case "aws:principalarn":
		return principalARN(c.caller)
	case "aws:principaltype":
		return principalType(c.caller.Kind)
	case "aws:principalisawsservice", "aws:viaawsservice":
		return "false"
	}
	return c.session(key)
}

// session returns a key that requests with temporary credentials have.
func (c *conditionContext) session(key string) string {
	s := c.caller.Session
	if s == nil {
		return ""
	}
	switch key {
	case "aws:tokenissuetime":
		return s.Issued.UTC().Format(time.RFC3339)
	case "aws:multifactorauthpresent":
		return strconv.FormatBool(!s.MFA.IsZero())
	case "aws:multifactorauthage":
		if !s.MFA.IsZero() {
			return strconv.FormatInt(int64(c.now.Sub(s.MFA).Seconds()), 10)
		}
	case "aws:sourceidentity":
		return s.SourceIdentity
	case "aws:federatedprovider":
		return s.Provider
	case "ec2:sourceinstancearn":
		if c.caller.InstanceID != "" {
			return "arn:aws:ec2:" + c.region + ":" + c.caller.AccountID + ":instance/" + c.caller.InstanceID
		}
	}
	return ""
}

// tag returns the tags of the principal and of IAM's own resources. A tag's value may be empty.
func (c *conditionContext) tag(key string) ([]string, bool) {
	if name, ok := strings.CutPrefix(key, "aws:principaltag/"); ok {
		if v, ok := c.caller.Session.Tag(name); ok {
			return c.just(v)
		}
		return c.findTag(c.service.principalTags(c.ctx, c.caller), name)
	}
	name, ok := strings.CutPrefix(key, "aws:resourcetag/")
	if !ok {
		name, ok = strings.CutPrefix(key, "iam:resourcetag/")
	}
	if !ok {
		return c.ofResource(key)
	}
	accountID, kind, _, _, ok := splitARN(c.request.Resource)
	if !ok {
		return c.ofResource(key)
	}
	// A record that cannot be read has no tags: the condition decides as for a key that is not there.
	tags, err := c.service.tagsOf(c.ctx, kind, accountID, c.request.Resource)
	if err != nil {
		return nil, false
	}
	return c.findTag(tags, name)
}

func (c *conditionContext) findTag(tags []tag, key string) ([]string, bool) {
	i := slices.IndexFunc(tags, func(t tag) bool { return strings.EqualFold(t.Key, key) })
	if i < 0 {
		return nil, false
	}
	return c.just(tags[i].Value)
}

// secureTransport is the value of aws:SecureTransport; empty for what did not come over the network.
func secureTransport(t authn.Transport) string {
	switch t {
	case authn.TransportTLS:
		return "true"
	case authn.TransportPlain:
		return "false"
	case authn.TransportUnknown:
	}
	return ""
}

// principalTags returns the tags of the caller's user or role.
func (s *Service) principalTags(ctx context.Context, c *authn.Caller) []tag {
	switch c.Kind {
	case authn.KindUser:
		if u, err := s.user(ctx, c.AccountID, c.UserName); err == nil {
			return u.Tags
		}
	case authn.KindRole:
		if r, err := s.role(ctx, c.AccountID, c.RoleName); err == nil {
			return r.Tags
		}
	case authn.KindRoot, authn.KindFederated:
	}
	return nil
}

// principalARN is the value of aws:PrincipalArn: the role's ARN for a role session.
func principalARN(c *authn.Caller) string {
	if c.Kind == authn.KindRole {
		return c.RoleARN
	}
	return c.ARN
}

func principalType(k authn.CallerKind) string {
	switch k {
	case authn.KindRoot:
		return "Account"
	case authn.KindUser:
		return "User"
	case authn.KindRole:
		return "AssumedRole"
	case authn.KindFederated:
		return "FederatedUser"
	}
	return ""
}
