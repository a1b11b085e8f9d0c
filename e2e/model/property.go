package model

// Violation says which promise a state breaks; empty means none.
type Violation string

// The promises.
const (
	violatesDelivery Violation = "a key was delivered although at no instant a live LBVM's listener named it"
	violatesOnce     Violation = "a request was answered twice"
	violatesAge      Violation = "a request was answered that was old when it came"
	violatesAsker    Violation = "an answer went to somebody who did not ask"
	violatesGrants   Violation = "all is quiet, and a role's grants are not what its listeners call for"
	violatesOutlives Violation = "all is quiet, and a role or LBVM is there without its load balancer"
	violatesCutOff   Violation = "a live LBVM has nothing but an LBCERT of a retired IAMCERT, and nobody forced that"
)

// mayName reports whether the load balancer names the certificate at this instant, where a call under way may have
// had its effect or not, and one that failed likewise until the next reconcile.
func (w *World) mayName(s *State, b, certificate uint8) bool {
	lb := &s.Balancer[b]
	if lb.Record.Life == present && lb.Record.Names.has(certificate) || lb.Doubt.has(certificate) {
		return true
	}
	for i := range w.Tasks {
		t := &s.Task[i]
		if t.Kind != taskNone && t.Kind != taskReconcile && t.Balancer == b && (t.Names | t.Before).has(certificate) {
			return true
		}
	}
	return false
}

// mark notes for every request under way that the current instant allows it, if it does.
func (w *World) mark(s *State) {
	for i := range w.Requests {
		r := &s.Request[i]
		if r.At == reqIdle || r.At == reqDone {
			continue
		}
		m := &s.Machine[r.Session]
		if own := &s.Machine[r.Identity]; !own.has(r.Serial) || s.IAM.Retired.has(own.Issuer[r.Serial]) {
			continue
		}
		revision := s.Certificate[r.Certificate].Revision
		if m.Life == live && m.Generation == s.Balancer[m.Balancer].Generation && revision != 0 &&
			w.mayName(s, m.Balancer, r.Certificate) {
			r.Allowed |= of(revision)
		}
	}
}

// delivered judges an answer at the moment that it is given.
func delivered(s *State, r *Request) Violation {
	switch {
	case r.Signer != r.Session:
		return violatesAsker
	case s.Answered.has(r.Nonce):
		return violatesOnce
	case r.Late:
		return violatesAge
	case !r.Allowed.has(r.Revision):
		return violatesDelivery
	}
	return ""
}

// quiet reports whether no task runs and none is to come.
func (w *World) quiet(s *State) bool {
	for i := range w.Tasks {
		if s.Task[i].Kind != taskNone {
			return false
		}
	}
	for b := range w.Balancers {
		if s.Balancer[b].Queued {
			return false
		}
	}
	return true
}

// cutOff reports whether a live machine can get no key any more, since the IAMCERT of all that it has was retired.
func (w *World) cutOff(s *State) bool {
	for i := range w.Machines {
		if m := &s.Machine[i]; m.Life == live && !s.IAM.Forced && s.IAM.Retired.has(m.Issuer[m.Identity]) &&
			(m.Next == 0 || s.IAM.Retired.has(m.Issuer[m.Next])) {
			return true
		}
	}
	return false
}

// settled judges a state, and more of it when all is quiet.
func (w *World) settled(s *State) Violation {
	if w.cutOff(s) {
		return violatesCutOff
	}
	if !w.quiet(s) {
		return ""
	}
	for b := range w.Balancers {
		lb := &s.Balancer[b]
		if lb.Record.Life == present && (lb.Role != lb.Generation || lb.Policies != w.grants(lb.Record.Names)) {
			return violatesGrants
		}
		if lb.Record.Life != present && lb.Role != 0 {
			return violatesOutlives
		}
	}
	for i := range w.Machines {
		m := &s.Machine[i]
		lb := &s.Balancer[m.Balancer]
		if (m.Life == live || m.Life == revoked) && (lb.Record.Life != present || !lb.Record.Members.has(i)) {
			return violatesOutlives
		}
	}
	return ""
}
