package policy

import (
	"fmt"
	"strings"
)

// Explanation is a Decision with the part that every statement had in it. It holds the request's condition values
// and is meant for the operator and, with leave, the caller's administrator; never for the caller that was denied.
type Explanation struct {
	Decision Decision      `json:"decision"`
	Action   string        `json:"action"`
	Resource string        `json:"resource"`
	Policies []PolicyTrace `json:"policies,omitempty"`
	// Needed says what would turn a denial into an allowance; empty when the request was allowed.
	Needed []string `json:"needed,omitempty"`
}

// PolicyTrace is one document's part.
type PolicyTrace struct {
	Stage      string           `json:"stage"`
	Policy     string           `json:"policy"`
	Statements []StatementTrace `json:"statements"`
}

// StatementTrace is one statement's part: which of its elements matched the request.
type StatementTrace struct {
	Index      int              `json:"index"`
	Sid        string           `json:"sid,omitempty"`
	Effect     string           `json:"effect"`
	Action     bool             `json:"action"`
	Resource   bool             `json:"resource"`
	Principal  bool             `json:"principal"`
	Conditions []ConditionTrace `json:"conditions,omitempty"`
	Applies    bool             `json:"applies"`
}

// ConditionTrace is one condition's part: what it wants, what the request has.
type ConditionTrace struct {
	Operator string   `json:"operator"`
	Key      string   `json:"key"`
	Want     []string `json:"want"`
	Have     []string `json:"have,omitempty"`
	Present  bool     `json:"present"`
	Met      bool     `json:"met"`
}

// Explain answers r as Evaluate does and tells why.
func (s *Set) Explain(r *Request) Explanation {
	e := Explanation{Decision: s.Evaluate(r), Action: r.Action, Resource: r.Resource}
	s.each(func(st Stage, src *Source) { e.Policies = append(e.Policies, src.trace(st, r)) })
	if !e.Decision.Allowed() {
		e.Needed = e.needed()
	}
	return e
}

// each visits all policies, stage by stage.
func (s *Set) each(visit func(Stage, *Source)) {
	all := func(st Stage, sources []Source) {
		for i := range sources {
			visit(st, &sources[i])
		}
	}
	all(StageControl, s.Control)
	all(StageIdentity, s.Identity)
	all(StageBoundary, s.Boundary)
	all(StageSession, s.Session)
	if s.Resource != nil {
		visit(StageResource, s.Resource)
	}
}

func (src *Source) trace(st Stage, r *Request) PolicyTrace {
	t := PolicyTrace{Stage: st.String(), Policy: src.Name}
	if src.Document == nil {
		return t
	}
	for i := range src.Document.Statements {
		s := &src.Document.Statements[i]
		x := StatementTrace{
			Index: i, Sid: s.Sid, Effect: s.Effect.String(),
			Action:    s.matchesAction(r.Action),
			Resource:  s.matchesResource(r),
			Principal: s.names(&r.Principal) != grantNone,
		}
		for j := range s.conditions {
			x.Conditions = append(x.Conditions, s.conditions[j].trace(r.Context))
		}
		x.Applies = s.applies(r) != grantNone
		t.Statements = append(t.Statements, x)
	}
	return t
}

// needed lists what would have passed: first the statements that nearly allowed, then the plain remedy.
func (e *Explanation) needed() []string {
	d := e.Decision
	if d.Verdict == ExplicitDeny {
		return []string{fmt.Sprintf("remove or narrow the Deny of %s in %s", label(d.Statement, d.Sid), d.Policy)}
	}
	var out []string
	for _, p := range e.Policies {
		if p.Stage != d.Stage.String() {
			continue
		}
		for _, s := range p.Statements {
			if s.Effect == Allow.String() && s.Action && !s.Applies {
				out = append(out, p.Policy+", "+label(s.Index, s.Sid)+": "+s.missing(e.Resource))
			}
		}
	}
	return append(out, fmt.Sprintf("a statement in the %s with Effect Allow, Action %s, Resource %s",
		d.Stage, e.Action, e.Resource))
}

func (s *StatementTrace) missing(resource string) string {
	var why []string
	if !s.Resource {
		why = append(why, "does not cover "+resource)
	}
	if !s.Principal {
		why = append(why, "does not name the principal")
	}
	for _, c := range s.Conditions {
		if !c.Met {
			why = append(why, c.String())
		}
	}
	return strings.Join(why, "; ")
}

func label(index int, sid string) string {
	if sid != "" {
		return fmt.Sprintf("statement %d (%s)", index, sid)
	}
	return fmt.Sprintf("statement %d", index)
}

// String tells the story in a few lines.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s: %s", e.Action, e.Resource, e.Decision.Verdict)
	if e.Decision.Statement >= 0 {
		fmt.Fprintf(&b, " by %s of %s (%s)", label(e.Decision.Statement, e.Decision.Sid), e.Decision.Policy,
			e.Decision.Stage)
	} else if !e.Decision.Allowed() {
		b.WriteString(" " + e.Decision.Because(e.Action))
	}
	for _, n := range e.Needed {
		b.WriteString("\n  needed: " + n)
	}
	return b.String()
}
