package model

// has reports whether an LBCERT is one that the machine has or is being given: the cloud accepts both until it hears
// that the new medium was read, and the older one no longer from then on.
func (m *Machine) has(serial uint8) bool {
	return serial == m.Identity || m.Next != 0 && serial == m.Next
}

// latest is the last LBCERT that was made for the machine.
func (m *Machine) latest() uint8 { return max(m.Identity, m.Next) }

// identitiesChange renews LBCERTs, by the operator's order or because IAMCERT was rotated, and rotates and retires
// IAMCERTs.
func (w *World) identitiesChange(s State, e *explorer) {
	for i := range w.Machines {
		m := &s.Machine[i]
		if n := s; m.Life == live && m.Next == 0 && m.Identity < maxIdentities && s.Left.Renewals > 0 {
			n.Left.Renewals--
			n.Machine[i].Next = m.Identity + 1
			n.Machine[i].Issuer[m.Identity+1] = s.IAM.Signs
			e.reach(n, Action{Kind: actRenew, A: i})
		}
		if n := s; m.Next != 0 {
			n.Machine[i].Identity, n.Machine[i].Next = m.Next, 0
			e.reach(n, Action{Kind: actRead, A: i})
		}
	}
	if n := s; s.Left.Rotates > 0 {
		n.Left.Rotates--
		n.IAM.Signs++
		e.reach(n, Action{Kind: actRotate})
	}
	before := of(s.IAM.Signs) - 1
	if s.IAM.Retired == before {
		return
	}
	if n := s; !w.inUse(&s, before) || !w.rule(RuleOverlap) {
		n.IAM.Retired = before
		e.reach(n, Action{Kind: actRetire})
	}
	n := s
	n.IAM.Retired, n.IAM.Forced = before, true
	e.reach(n, Action{Kind: actRetire, A: 1})
}

// inUse reports whether a live machine has, or is being given, an LBCERT of one of the IAMCERTs.
func (w *World) inUse(s *State, issuers set) bool {
	for i := range w.Machines {
		m := &s.Machine[i]
		if m.Life == live && (issuers.has(m.Issuer[m.Identity]) || m.Next != 0 && issuers.has(m.Issuer[m.Next])) {
			return true
		}
	}
	return false
}
