package model

// successors tells the explorer every state that one step leads to.
func (w *World) successors(s State, e *explorer) {
	w.tasksGoOn(s, e)
	w.tasksBegin(s, e)
	w.machinesChange(s, e)
	w.certificatesChange(s, e)
	w.identitiesChange(s, e)
	w.requestsGoOn(s, e)
	w.requestsBegin(s, e)
}

func (w *World) tasksGoOn(s State, e *explorer) {
	busy := false
	for i := range w.Tasks {
		if s.Task[i].Kind == taskNone {
			continue
		}
		busy = true
		if n := s; w.stepTask(&n, i) {
			e.reach(n, Action{Kind: actTask, A: i})
		}
		if n := s; n.Left.Faults > 0 && n.Task[i].At > atLock {
			n.Left.Faults--
			w.fail(&n, i)
			e.reach(n, Action{Kind: actFail, A: i})
		}
	}
	if n := s; busy && n.Left.Faults > 0 {
		n.Left.Faults--
		w.crash(&n)
		e.reach(n, Action{Kind: actCrash})
	}
}

// freeTask returns a task that is not in use.
func (w *World) freeTask(s *State) (uint8, bool) {
	for i := range w.Tasks {
		if s.Task[i].Kind == taskNone {
			return i, true
		}
	}
	return 0, false
}

func (w *World) tasksBegin(s State, e *explorer) {
	i, ok := w.freeTask(&s)
	if !ok {
		return
	}
	for b := range w.Balancers {
		if n := s; n.Balancer[b].Queued && !w.reconciling(&n, b) {
			n.Balancer[b].Queued = false
			n.Task[i] = Task{Kind: taskReconcile, Balancer: b}
			e.reach(n, Action{Kind: actReconcile, A: b, B: i})
		}
		if s.Left.Calls > 0 {
			w.callsBegin(s, b, i, e)
		}
	}
}

// reconciling reports whether a load balancer is being reconciled: the queue gives a key to one worker at a time.
func (w *World) reconciling(s *State, b uint8) bool {
	for i := range w.Tasks {
		if s.Task[i].Kind == taskReconcile && s.Task[i].Balancer == b {
			return true
		}
	}
	return false
}

// callsBegin begins every call that the world as it is lets a user make. A certificate that is to be named must be
// there when the call begins.
func (w *World) callsBegin(s State, b, i uint8, e *explorer) {
	s.Left.Calls--
	begin := func(kind uint8, names set) {
		n := s
		n.Task[i] = Task{Kind: kind, Balancer: b, Names: names}
		e.reach(n, Action{Kind: actCall, A: kind, B: b, C: uint8(names), D: i})
	}
	record := s.Balancer[b].Record
	for names := set(0); names < of(w.Certificates); names++ {
		there := true
		for c := range w.Certificates {
			if names.has(c) && !record.Names.has(c) && s.Certificate[c].Revision == 0 {
				there = false
			}
		}
		switch {
		case !there:
		case record.Life == absent && names != 0:
			begin(taskCreate, names)
		case record.Life == present && names != record.Names:
			begin(taskChange, names)
		}
	}
	if record.Life != absent {
		begin(taskDelete, 0)
	}
}

func (w *World) machinesChange(s State, e *explorer) {
	for m := range w.Machines {
		life := s.Machine[m].Life
		if n := s; (life == live || life == revoked) && n.Left.Ends > 0 {
			n.Left.Ends--
			n.Machine[m].Life = ended
			n.Balancer[n.Machine[m].Balancer].Queued = true
			e.reach(n, Action{Kind: actEnd, A: m})
		}
		if n := s; life == live && n.Left.Ends > 0 {
			n.Left.Ends--
			n.Machine[m].Life = revoked
			e.reach(n, Action{Kind: actRevoke, A: m})
		}
		if n := s; w.mint(&n, m) {
			e.reach(n, Action{Kind: actMint, A: m})
		}
	}
}

// certificatesChange deletes what no listener names and uploads what is not there.
func (w *World) certificatesChange(s State, e *explorer) {
	if s.Left.Uploads == 0 {
		return
	}
	for c := range w.Certificates {
		n := s
		n.Left.Uploads--
		if n.Certificate[c].Revision != 0 {
			used := false
			for b := range w.Balancers {
				r := n.Balancer[b].Record
				used = used || r.Life == present && r.Names.has(c)
			}
			switch {
			case w.OneName: // moved to the other path, whoever names it
				n.Certificate[c].Revision = 0
				n.Certificate[1-c].Made++
				n.Certificate[1-c].Revision = n.Certificate[1-c].Made
				e.reach(n, Action{Kind: actUpload, A: 1 - c})
			case !used:
				n.Certificate[c].Revision = 0
				e.reach(n, Action{Kind: actRemove, A: c})
			}
			continue
		}
		if !w.OneName {
			n.Certificate[c].Made++
			n.Certificate[c].Revision = n.Certificate[c].Made
			e.reach(n, Action{Kind: actUpload, A: c})
		}
	}
}

func (w *World) requestsGoOn(s State, e *explorer) {
	for i := range w.Requests {
		if at := s.Request[i].At; at == reqIdle || at == reqDone {
			continue
		}
		n := s
		how, v := w.stepRequest(&n, i)
		e.request(n, Action{Kind: actRequest, A: i}, how, v)
	}
	if n := s; n.Left.Ticks > 0 {
		n.Left.Ticks--
		n.tick()
		e.reach(n, Action{Kind: actTick})
	}
}

// requestsBegin sends new requests, honest ones and those that mix sessions, LBCERTs and LBPKs, and copies of old
// ones.
func (w *World) requestsBegin(s State, e *explorer) {
	for i := range w.Requests {
		if at := s.Request[i].At; at != reqIdle && at != reqDone {
			continue
		}
		if s.Left.Requests > 0 {
			w.ask(s, i, e)
		}
		for j := range w.Requests {
			if n := s; n.Left.Resends > 0 && n.Request[j].At != reqIdle {
				n.Left.Resends--
				n.Request[i] = n.Request[j]
				r := &n.Request[i]
				r.At, r.Revision, r.Allowed, r.Late = reqIdentify, 0, 0, r.Age > 0
				e.reach(n, Action{Kind: actResend, A: j, B: i})
			}
		}
		return // one free place is as good as another
	}
}

func (w *World) ask(s State, i uint8, e *explorer) {
	s.Left.Requests--
	nonce := s.NextNonce
	s.NextNonce++
	for session := range w.Machines {
		for role := uint8(1); role < 8; role++ {
			if !s.Machine[session].Sessions.has(role) {
				continue
			}
			for mix := range w.Machines * w.Machines {
				identity, signer := mix/w.Machines, mix%w.Machines
				if s.Machine[identity].Life == unborn || s.Machine[signer].Life == unborn {
					continue
				}
				for serial := uint8(1); serial <= s.Machine[identity].latest(); serial++ {
					for c := range w.Certificates {
						n := s
						n.Request[i] = Request{At: reqIdentify, Session: session, Role: role, Identity: identity, Serial: serial,
							Signer: signer, Certificate: c, Nonce: nonce}
						e.reach(n, Action{Kind: actAsk, A: session, B: identity | signer<<2 | serial<<4, C: c, D: i})
					}
				}
			}
		}
	}
}
