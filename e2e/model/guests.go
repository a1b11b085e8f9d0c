package model

// keep is the part of a reconcile that looks after the LBVMs.
func (w *World) keep(s *State, i uint8) {
	t := &s.Task[i]
	lb := &s.Balancer[t.Balancer]
	switch t.At {
	case atKeep:
		for m := range w.Machines {
			if s.Machine[m].Life == ended {
				lb.Record.Members &^= of(m)
			}
		}
		t.Copy, t.At = lb.Record, atStrays
		if t.Copy.Members == 0 {
			t.At = atLaunch
		}
	case atLaunch:
		w.launch(s, i)
	case atJoin:
		if lb.Record.Life == present {
			lb.Record.Members |= of(t.Launched - 1)
		}
		t.Copy, t.At = lb.Record, atStrays
	case atStrays:
		for m := range w.Machines {
			machine := &s.Machine[m]
			stray := machine.Balancer == t.Balancer && !t.Copy.Members.has(m)
			if stray && (machine.Life == live || machine.Life == revoked) && w.rule(RuleStrays) {
				machine.Life = ended
			}
		}
		lb.Doubt = 0
		s.finish(i)
	}
}

// launch starts an LBVM. Its client token makes a launch that was not noted down answer with the same machine.
func (w *World) launch(s *State, i uint8) {
	t := &s.Task[i]
	lb := &s.Balancer[t.Balancer]
	t.At = atStrays
	if lb.Role == 0 {
		return // no instance profile: the launch fails, and the loop tries again when something changes
	}
	free := w.Machines
	for m := range w.Machines {
		machine := &s.Machine[m]
		if machine.Life == live && machine.Balancer == t.Balancer && machine.Generation == lb.Generation {
			t.Launched, t.At = m+1, atJoin
			return
		}
		if machine.Life == unborn && free == w.Machines {
			free = m
		}
	}
	if free == w.Machines {
		return // the world is full
	}
	s.Machine[free] = Machine{Life: live, Balancer: t.Balancer, Generation: lb.Generation, Identity: 1}
	s.Machine[free].Issuer[1] = s.IAM.Signs
	t.Launched, t.At = free+1, atJoin
}

// mint gives a machine a session of its role, by way of its node.
func (w *World) mint(s *State, m uint8) bool {
	machine := &s.Machine[m]
	if machine.Life != live && machine.Life != revoked {
		return false
	}
	role := s.Balancer[machine.Balancer].Role
	if role == 0 || machine.Sessions.has(role) || w.rule(RuleProfile) && role != machine.Generation {
		return false
	}
	machine.Sessions |= of(role)
	return true
}
