package policy

// Request is one question: may this principal do this action on this resource?
type Request struct {
	Action    string // vendor:Name, compared without regard to case
	Resource  string // an ARN, or * when the action is about no resource
	Principal Principal
	// CrossAccount says that the resource belongs to another account than the principal. Identity policies alone
	// then never suffice: a resource policy must allow too.
	CrossAccount bool
	Context      Context // nil has no keys
}

// Source is a document with the name by which an explanation refers to it.
type Source struct {
	Name     string // such as "inline policy p of user alice"
	Document *Document
	// ID and Type are how policy simulation names the document, and Owner is the entity that an inline one lies in;
	// they may be empty.
	ID, Type, Owner string
}

// Set holds the documents that bear on a request. The zero Set allows nothing.
type Set struct {
	Identity []Source // of the user or role
	// Boundary limits Identity when it is not empty; it grants nothing itself.
	Boundary []Source
	// Session limits a role session's or federated user's permissions when it is not empty; it grants nothing.
	Session []Source
	// Control holds the service control policies of the principal's account. When it is not empty they limit every
	// principal of the account, its root user included, and grant nothing.
	Control []Source
	// Unlimited says that the principal is the account's root user, which no identity policy need allow anything.
	Unlimited bool
	// Resource is the resource's own policy, nil if it has none.
	Resource *Source
	// ResourceDecides says that without the resource's leave nothing is allowed even inside one account: the rule
	// for trust policies of roles.
	ResourceDecides bool
}

// Verdict is the outcome of an evaluation.
type Verdict int

// The verdicts. Only Allowed allows; the zero Verdict denies.
const (
	ImplicitDeny Verdict = iota
	ExplicitDeny
	Allowed
)

func (v Verdict) String() string {
	switch v {
	case Allowed:
		return "allowed"
	case ExplicitDeny:
		return "explicitly denied"
	case ImplicitDeny:
		return "implicitly denied"
	}
	return "unknown"
}

// Stage names the kind of policy that settled the matter.
type Stage int

// The stages.
const (
	StageIdentity Stage = iota
	StageBoundary
	StageSession
	StageResource
	StageControl
)

func (s Stage) String() string {
	switch s {
	case StageIdentity:
		return "identity-based policy"
	case StageBoundary:
		return "permissions boundary"
	case StageSession:
		return "session policy"
	case StageResource:
		return "resource-based policy"
	case StageControl:
		return "service control policy"
	}
	return "policy"
}

// Decision is an answer with the statement that gave it.
type Decision struct {
	Verdict Verdict
	// Stage is where the deciding statement stands, or where a statement that allows is missing.
	Stage     Stage
	Policy    string // the deciding Source's name; empty when no statement decided
	Statement int    // index in that document, -1 when no statement decided
	Sid       string
}

// Allowed reports whether the request may go on.
func (d Decision) Allowed() bool { return d.Verdict == Allowed }

// Because gives the end of AWS's message for a denial: "because no identity-based policy allows the iam:GetUser
// action", or "with an explicit deny in an identity-based policy".
func (d Decision) Because(action string) string {
	if d.Verdict == ExplicitDeny {
		article := "a "
		if d.Stage == StageIdentity {
			article = "an "
		}
		return "with an explicit deny in " + article + d.Stage.String()
	}
	return "because no " + d.Stage.String() + " allows the " + action + " action"
}

// found is what one stage's documents say.
type found struct {
	source    *Source
	statement int
	grant     grant
}

func (f found) decision(v Verdict, st Stage) Decision {
	d := Decision{Verdict: v, Stage: st, Statement: -1}
	if f.source != nil {
		d.Policy, d.Statement, d.Sid = f.source.Name, f.statement, f.source.Document.Statements[f.statement].Sid
	}
	return d
}

// Evaluate answers r: an explicit deny anywhere wins, then every stage that must allow has to, else the request is
// implicitly denied. A nil Document allows nothing.
func (s *Set) Evaluate(r *Request) Decision {
	control, deny, denied := scan(s.Control, r)
	if denied {
		return deny.decision(ExplicitDeny, StageControl)
	}
	identity, deny, denied := scan(s.Identity, r)
	if denied {
		return deny.decision(ExplicitDeny, StageIdentity)
	}
	boundary, deny, denied := scan(s.Boundary, r)
	if denied {
		return deny.decision(ExplicitDeny, StageBoundary)
	}
	session, deny, denied := scan(s.Session, r)
	if denied {
		return deny.decision(ExplicitDeny, StageSession)
	}
	var resource found
	if s.Resource != nil {
		resource, deny, denied = scanOne(s.Resource, r)
		if denied {
			return deny.decision(ExplicitDeny, StageResource)
		}
	}
	if control.source == nil && len(s.Control) > 0 {
		return found{}.decision(ImplicitDeny, StageControl)
	}
	return s.settle(r, identity, boundary, session, resource)
}

func (s *Set) settle(r *Request, identity, boundary, session, resource found) Decision {
	byResource := resource.source != nil
	if !byResource && (s.ResourceDecides || r.CrossAccount) {
		return found{}.decision(ImplicitDeny, StageResource)
	}
	// A service or an identity provider holds no identity policies.
	if r.Principal.ARN == "" && byResource {
		return resource.decision(Allowed, StageResource)
	}
	direct := resource.direct(r)
	switch {
	case direct && resource.grant == grantSession:
		return resource.decision(Allowed, StageResource)
	case identity.source == nil && !direct && !s.Unlimited:
		return found{}.decision(ImplicitDeny, StageIdentity)
	case boundary.source == nil && len(s.Boundary) > 0:
		return found{}.decision(ImplicitDeny, StageBoundary)
	case session.source == nil && len(s.Session) > 0:
		return found{}.decision(ImplicitDeny, StageSession)
	}
	return byIdentityOr(identity, resource)
}

// direct reports whether a resource policy names the asker itself and not just its account, which suffices inside one
// account.
func (f found) direct(r *Request) bool {
	return f.source != nil && !r.CrossAccount && f.grant >= grantRole
}

// byIdentityOr names the statement behind an allowance: the identity policy's, if there is one.
func byIdentityOr(identity, resource found) Decision {
	if identity.source == nil && resource.source != nil {
		return resource.decision(Allowed, StageResource)
	}
	return identity.decision(Allowed, StageIdentity)
}

// scan looks through one stage for the first deny and the first allow.
func scan(sources []Source, r *Request) (allow, deny found, denied bool) {
	for i := range sources {
		a, d, denied := scanOne(&sources[i], r)
		if denied {
			return found{}, d, true
		}
		if allow.source == nil {
			allow = a
		}
	}
	return allow, found{}, false
}

func scanOne(src *Source, r *Request) (allow, deny found, denied bool) {
	if src.Document == nil {
		return found{}, found{}, false
	}
	for i := range src.Document.Statements {
		st := &src.Document.Statements[i]
		// An allow that can no longer change the answer is not worth evaluating.
		if st.Effect == Allow && allow.grant == grantSession {
			continue
		}
		g := st.applies(r)
		if g == grantNone {
			continue
		}
		if st.Effect == Deny {
			return found{}, found{source: src, statement: i, grant: g}, true
		}
		if g > allow.grant {
			allow = found{source: src, statement: i, grant: g}
		}
	}
	return allow, found{}, false
}

// applies reports whether every element of the statement matches, and how it names the asker.
func (s *Statement) applies(r *Request) grant {
	if !s.matchesAction(r.Action) || !s.matchesResource(r) {
		return grantNone
	}
	g := s.names(&r.Principal)
	if g == grantNone {
		return grantNone
	}
	for i := range s.conditions {
		if !s.conditions[i].met(r.Context) {
			return grantNone
		}
	}
	return g
}

func (s *Statement) matchesAction(action string) bool {
	for i := range s.actions {
		if ok, _ := s.actions[i].match(action, nil, true); ok {
			return !s.notAction
		}
	}
	return s.notAction
}

func (s *Statement) matchesResource(r *Request) bool {
	if !s.hasResource {
		return true
	}
	for i := range s.resources {
		ok, resolved := s.resources[i].match(r.Resource, r.Context, false)
		if ok {
			return !s.notResource
		}
		// Everything-but-X with an X that cannot be known must not allow.
		if !resolved && s.notResource && s.Effect == Allow {
			return false
		}
	}
	return s.notResource
}
