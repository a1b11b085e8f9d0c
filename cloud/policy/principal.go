package policy

import "strings"

// Principal is who asks. At most one of ARN, Service and Federated is set; none means an anonymous request.
type Principal struct {
	ARN       string // of the root user, the user, or the role session
	AccountID string // of ARN
	RoleARN   string // of the role behind a role session, else empty
	Root      bool   // the account's root user
	Service   string // a service that acts for itself, such as ec2.amazonaws.com
	Federated string // an identity provider
}

type principalKind int

const (
	principalAWS principalKind = iota
	principalService
	principalFederated
	principalCanonical
)

type principalEntry struct {
	kind  principalKind
	value string // as written
	// account is set when the entry hands the decision to a whole account (its id or its root user's ARN).
	account string
}

// grant is how a statement named the asker: by a wildcard or name of its own, or by its account, in which case the
// account's identity policies must also allow.
type grant int

const (
	grantNone grant = iota
	grantAccount
	grantRole    // the role behind the session, or everybody
	grantSession // the user itself or this very session
)

func (e *principalEntry) match(p *Principal) grant {
	switch e.kind {
	case principalAWS:
		return e.matchAWS(p)
	case principalService:
		if p.Service != "" && (e.value == "*" || strings.EqualFold(e.value, p.Service)) {
			return grantSession
		}
	case principalFederated:
		if p.Federated != "" && (e.value == "*" || e.value == p.Federated) {
			return grantSession
		}
	case principalCanonical:
	}
	return grantNone
}

func (e *principalEntry) matchAWS(p *Principal) grant {
	switch {
	case p.Service != "" || p.Federated != "":
		return grantNone
	case e.value == "*":
		return grantRole
	case p.ARN == "":
		return grantNone
	case e.account != "":
		if e.account != p.AccountID {
			return grantNone
		}
		if p.Root {
			return grantSession
		}
		return grantAccount
	case e.value == p.ARN:
		return grantSession
	case e.value == p.RoleARN:
		return grantRole
	}
	return grantNone
}

func (p *parser) principals(s *Statement, n *node, at string) *Error {
	s.hasPrincipals = true
	if n.kind == kindString {
		if n.text != "*" {
			return p.fail(n, at, `must be "*" or an object`)
		}
		s.principals = []principalEntry{{kind: principalAWS, value: "*"}}
		return nil
	}
	if n.kind != kindObject || len(n.members) == 0 {
		return p.fail(n, at, `must be "*" or an object with AWS, Service or Federated`)
	}
	for _, m := range n.members {
		path := join(at, m.name)
		kind, ok := principalKindOf(m.name)
		if !ok {
			return errorAt(p.text, m.offset, path, "unknown kind of principal")
		}
		items, err := p.stringsOf(m.value, path)
		if err != nil {
			return err
		}
		for _, it := range items {
			e := principalEntry{kind: kind, value: it.text}
			if err := p.checkPrincipal(&e, it, path); err != nil {
				return err
			}
			s.principals = append(s.principals, e)
		}
	}
	return nil
}

func principalKindOf(name string) (principalKind, bool) {
	switch name {
	case "AWS":
		return principalAWS, true
	case "Service":
		return principalService, true
	case "Federated":
		return principalFederated, true
	case "CanonicalUser":
		return principalCanonical, true
	}
	return 0, false
}

func (p *parser) checkPrincipal(e *principalEntry, n *node, at string) *Error {
	if e.value == "" {
		return p.fail(n, at, "must not be empty")
	}
	if e.kind != principalAWS || e.value == "*" {
		return nil
	}
	if isAccountID(e.value) {
		e.account = e.value
		return nil
	}
	parts := splitARN(e.value, false)
	valid := len(parts) == arnParts && parts[0] == "arn" && parts[3] == "" && isAccountID(parts[4]) &&
		(parts[2] == "iam" || parts[2] == "sts") && !strings.ContainsAny(e.value, "*?")
	if !valid {
		return p.fail(n, at, "invalid principal %q: give an account id or the ARN of a user, role or session",
			clip(e.value))
	}
	if parts[2] == "iam" && parts[5] == "root" {
		e.account = parts[4]
	}
	return nil
}

func isAccountID(s string) bool {
	if len(s) != 12 {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
}

// names returns the strongest way in which the statement names p. A statement of a grammar without principals is
// about whoever holds the policy.
func (s *Statement) names(p *Principal) grant {
	if !s.hasPrincipals {
		return grantSession
	}
	if s.notPrincipal {
		return s.excepts(p)
	}
	best := grantNone
	for i := range s.principals {
		best = max(best, s.principals[i].match(p))
	}
	return best
}

// excepts is names for NotPrincipal, which leaves an asker out only when it lists all that the asker is: the account,
// the role and the session (IAM User Guide, "NotPrincipal").
func (s *Statement) excepts(p *Principal) grant {
	var account, role, self bool
	for i := range s.principals {
		e := &s.principals[i]
		g := e.match(p)
		if g == grantNone {
			continue
		}
		if e.value == "*" || e.kind != principalAWS || s.Effect == Allow { // in doubt, nothing is allowed
			return grantNone
		}
		account = account || e.account != ""
		self = self || g == grantSession && e.account == ""
		role = role || g == grantRole
	}
	if everybody := p.Root || self && (role || p.RoleARN == ""); account && everybody {
		return grantNone
	}
	return grantRole
}
