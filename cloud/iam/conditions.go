package iam

import (
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
)

// conditionContext gives a request's condition keys to the policy engine. Values are made only when a condition or
// variable asks for them: most policies ask for none.
type conditionContext struct {
	caller   *authn.Caller
	now      time.Time
	region   string
	sessions *sessionCache
	extra    map[string][]string // from the service, keys in any case
}

// Values implements policy.Context.
func (c *conditionContext) Values(key string) ([]string, bool) {
	if v := c.global(key); v != "" {
		return []string{v}, true
	}
	if v, ok := c.extra[key]; ok {
		return v, true
	}
	for k, v := range c.extra {
		if strings.EqualFold(k, key) {
			return v, true
		}
	}
	return nil, false
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
	case "aws:requestedregion":
		return c.region
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
	case "aws:tokenissuetime":
		if at, ok := c.sessions.issued(c.caller.AccessKeyID); ok {
			return at.Format(time.RFC3339)
		}
	}
	return ""
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
	}
	return ""
}
