package model

// Where a request is. Each place is one read of another service's state.
const (
	reqIdle     uint8 = iota
	reqIdentify       // 1 and 2
	reqRevoked        // 3
	reqVerify         // 4 to 7
	reqPolicy         // 8
	reqExists         // 9
	reqPolicyAgain
	reqExistsAgain
	reqRevokedAgain
	reqDone
)

// Request is a delivery.
type Request struct {
	At uint8
	// Session is the machine whose role session calls, Role the incarnation of the role that the session is of.
	Session, Role uint8
	// Identity is the machine whose LBCERT is shown, Serial which of its LBCERTs, Signer the machine whose LBPK signed.
	Identity, Serial, Signer uint8
	Certificate              uint8
	Nonce                    uint8
	// Age counts the ticks since the request was made, Late says that it was old when it came.
	Age  uint8
	Late bool
	// Revision is what was found behind the ARN.
	Revision uint8
	// Allowed holds the revisions that some instant since the beginning allowed.
	Allowed set
}

// result is what a step of a request came to.
type result uint8

const (
	goesOn result = iota
	refused
	answered
)

// stepRequest makes the next step of request i. When it is answered, the violation says whether it should have been.
//
//nolint:gocyclo // one case for each step of the protocol, in its order
func (w *World) stepRequest(s *State, i uint8) (result, Violation) {
	r := &s.Request[i]
	machine := &s.Machine[r.Identity]
	lb := &s.Balancer[s.Machine[r.Session].Balancer]
	pass, last := true, false
	switch r.At {
	case reqIdentify:
		pass = lb.Role != 0 && (lb.Role == r.Role || !w.rule(RuleRole))
	case reqRevoked, reqRevokedAgain:
		pass = (machine.Life == live || !w.rule(RuleRevoked)) && (machine.has(r.Serial) || !w.rule(RuleLatest)) &&
			(!s.IAM.Retired.has(machine.Issuer[r.Serial]) || !w.rule(RuleRetired))
		last = r.At == reqRevokedAgain
	case reqVerify:
		pass = (r.Identity == r.Session || !w.rule(RuleInstance)) && (r.Age == 0 || !w.rule(RuleTime)) &&
			(r.Signer == r.Identity || !w.rule(RuleSignature)) && (!s.Seen.has(r.Nonce) || !w.rule(RuleNonce))
		if pass {
			s.Seen |= of(r.Nonce)
		}
	case reqPolicy, reqPolicyAgain:
		granted := lb.Policies[w.policyName(r.Certificate)] == r.Certificate+1
		pass = (lb.Role == r.Role || !w.rule(RuleRole)) && granted || !w.rule(RulePolicy)
	case reqExists:
		r.Revision = s.Certificate[r.Certificate].Revision
		pass, last = r.Revision != 0, !w.rule(RuleCertain)
	case reqExistsAgain:
		pass = r.Revision == s.Certificate[r.Certificate].Revision
	}
	switch {
	case !pass:
		s.end(i)
		return refused, ""
	case last:
		v := delivered(s, r)
		s.Answered |= of(r.Nonce)
		s.end(i)
		return answered, v
	}
	r.At++
	return goesOn, ""
}

// end ends a request. What a copy of it needs is kept while there may be one.
func (s *State) end(i uint8) {
	r := &s.Request[i]
	r.At, r.Revision, r.Allowed, r.Late = reqDone, 0, 0, false
	if s.Left.Resends > 0 {
		return
	}
	nonce := r.Nonce
	*r = Request{}
	for _, other := range s.Request {
		if other.At != reqIdle && other.Nonce == nonce {
			return
		}
	}
	s.Seen &^= of(nonce)
	s.Answered &^= of(nonce)
}

// tick lets more time pass than a request may live. What the cloud remembers of nonces goes one such time later.
func (s *State) tick() {
	for i := range s.Request {
		r := &s.Request[i]
		if r.At != reqIdle && r.Age < 2 {
			if r.Age++; r.Age == 2 {
				s.Seen &^= of(r.Nonce)
			}
		}
	}
}
