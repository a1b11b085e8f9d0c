package model

// What a task does.
const (
	taskNone uint8 = iota
	taskCreate
	taskChange // of listeners, whichever operation asks for it
	taskDelete
	taskReconcile
)

// Where a task is. Each place is one transaction or one call to another service.
const (
	atLock   uint8 = iota
	atBegin        // read or write the record for the first time
	atPut          // put the grants in Todo
	atCommit       // write the listeners
	atSettle       // put right what goes by the same name
	atPrune        // take away grants that nothing calls for
	atForget       // note that they are gone
	atRole         // make the role
	atReady        // note that role and grants are there
	atDrop         // remove the role
	atEnd          // end the LBVMs of the record
	atErase        // remove the record
	atKeep         // note down LBVMs that ended
	atLaunch       // launch what is missing
	atJoin         // note the launched one down
	atStrays       // end what the record does not name
)

// Task is a call or reconcile under way in elb's process.
type Task struct {
	Kind     uint8
	At       uint8
	Balancer uint8
	// Names is what an API call asks the listeners to name, Before what they named when it began.
	Names, Before set
	// Copy is the record as the task has read or written it last.
	Copy Record
	// Todo are grants still to put (by certificate) or to take away (by policy name).
	Todo grants
	// Launched is the machine to note down, plus one.
	Launched uint8
}

// stepTask makes the next step of task i; false when it has to wait.
func (w *World) stepTask(s *State, i uint8) bool {
	t := &s.Task[i]
	lb := &s.Balancer[t.Balancer]
	switch t.At {
	case atLock:
		if w.rule(RuleLock) {
			if lb.Lock != 0 {
				return false
			}
			lb.Lock = i + 1
		}
		t.At = atBegin
	case atBegin:
		w.begin(s, i)
	case atPut, atCommit:
		w.change(s, i)
	case atSettle, atPrune, atForget:
		w.withdraw(s, i)
	case atRole, atReady:
		w.prepare(s, i)
	case atDrop, atEnd, atErase:
		w.remove(s, i)
	default:
		w.keep(s, i)
	}
	return true
}

// finish ends a task and lets go of the lock.
func (s *State) finish(i uint8) {
	lb := &s.Balancer[s.Task[i].Balancer]
	if lb.Lock == i+1 {
		lb.Lock = 0
	}
	s.Task[i] = Task{}
}

// fail ends a task whose next step failed. What an API call had begun is then in doubt.
func (w *World) fail(s *State, i uint8) {
	t := s.Task[i]
	lb := &s.Balancer[t.Balancer]
	lb.Queued = true
	switch t.Kind {
	case taskDelete:
		// A deletion that could not be finished must not say that it succeeded.
		if w.rule(RuleHonest) {
			lb.Doubt |= t.Before
		}
	case taskCreate:
		// The product goes on to take down what it has made; with one fault at most that succeeds.
		if t.At == atRole || t.At == atPut || t.At == atReady {
			s.Task[i].At, s.Task[i].Todo = atDrop, grants{}
			return
		}
	case taskReconcile:
	default:
		lb.Doubt |= t.Names | t.Before
	}
	s.finish(i)
}

// crash ends elb's process. A new one looks at every load balancer.
func (w *World) crash(s *State) {
	for i := range w.Tasks {
		if t := s.Task[i]; t.Kind != taskNone {
			if t.Kind != taskReconcile {
				s.Balancer[t.Balancer].Doubt |= t.Names | t.Before
			}
			s.Task[i] = Task{}
		}
	}
	for b := range w.Balancers {
		s.Balancer[b].Lock, s.Balancer[b].Queued = 0, true
	}
}

// begin reads the record and decides what there is to do.
//
//nolint:gocyclo // one branch for each rule that a world may switch off
func (w *World) begin(s *State, i uint8) {
	t := &s.Task[i]
	lb := &s.Balancer[t.Balancer]
	r := &lb.Record
	switch t.Kind {
	case taskCreate:
		if r.Life != absent {
			s.finish(i)
			return
		}
		lb.Generation++
		*r = Record{Life: present, Names: t.Names, Granted: w.grants(t.Names)}
		t.Copy, t.At = *r, atRole
	case taskChange:
		if r.Life != present {
			s.finish(i)
			return
		}
		t.Before = r.Names
		wanted, held := w.grants(t.Names), w.grants(r.Names)
		for n := range wanted {
			fresh := wanted[n] != r.Granted[n] || w.rule(RuleAgain) && wanted[n] != held[n]
			if wanted[n] != 0 && fresh {
				t.Todo[n] = wanted[n]
				if w.rule(RuleIntent) {
					r.Granted[n] = wanted[n]
				}
			}
		}
		t.Copy, t.At = *r, atPut
	case taskDelete:
		if r.Life == absent {
			s.finish(i)
			return
		}
		t.Before, r.Life = r.Names, deleting
		t.Copy, t.At = *r, atDrop
	case taskReconcile:
		t.Copy = *r
		switch {
		case r.Life == absent:
			t.At = atStrays
		case r.Life == deleting:
			t.At = atDrop
		case !r.Prepared:
			t.At = atRole
		default:
			t.At = atSettle
		}
	}
}

// change puts the grants in Todo, one at a step, and then writes the listeners.
func (w *World) change(s *State, i uint8) {
	t := &s.Task[i]
	lb := &s.Balancer[t.Balancer]
	if t.At == atPut {
		if n, ok := t.Todo.first(); ok {
			if lb.Role != 0 {
				lb.Policies[n] = t.Todo[n]
			}
			t.Todo[n] = 0
			return
		}
		t.At = atCommit
		if t.Kind != taskChange {
			t.At = atReady
		}
		return
	}
	if lb.Record.Life != present {
		w.fail(s, i)
		return
	}
	if !w.rule(RuleIntent) {
		for n, c := range w.grants(t.Names) {
			if c != 0 {
				lb.Record.Granted[n] = c
			}
		}
	}
	lb.Record.Names = t.Names
	t.Copy, t.At = lb.Record, atPrune
}

// withdraw puts right and takes away the grants that the listeners do not call for.
//
//nolint:gocyclo // one branch for each rule that a world may switch off
func (w *World) withdraw(s *State, i uint8) {
	t := &s.Task[i]
	lb := &s.Balancer[t.Balancer]
	wanted := w.grants(t.Copy.Names)
	switch t.At {
	case atSettle:
		t.At = atPrune
		if !w.rule(RuleSettle) {
			return
		}
		for n := range wanted {
			if wanted[n] != 0 && t.Copy.Granted[n] != wanted[n] {
				if lb.Role != 0 {
					lb.Policies[n] = wanted[n]
				}
				lb.Record.Granted[n] = wanted[n]
				t.Copy = lb.Record
			}
		}
	case atPrune:
		if !w.rule(RuleWithdraw) {
			t.At = atForget
			return
		}
		for n := range wanted {
			if t.Copy.Granted[n] != 0 && wanted[n] == 0 && t.Todo[n] == 0 {
				lb.Policies[n], t.Todo[n] = 0, 1
				return
			}
		}
		t.At = atForget
	case atForget:
		for n := range t.Todo {
			if t.Todo[n] != 0 {
				lb.Record.Granted[n] = 0
			}
		}
		t.Todo, t.Copy = grants{}, lb.Record
		if t.Kind == taskReconcile {
			t.At = atKeep
			return
		}
		lb.Queued = true
		s.finish(i)
	}
}

// prepare makes role and grants of a new load balancer. The grants are put by change.
func (w *World) prepare(s *State, i uint8) {
	t := &s.Task[i]
	lb := &s.Balancer[t.Balancer]
	if t.At == atRole {
		if lb.Role == 0 {
			lb.Role, lb.Policies = lb.Generation, grants{}
		}
		t.Todo, t.At = w.grants(t.Copy.Names), atPut
		return
	}
	if lb.Record.Life != present {
		w.fail(s, i)
		return
	}
	lb.Record.Prepared = true
	t.Copy = lb.Record
	if t.Kind == taskReconcile {
		t.At = atSettle
		return
	}
	lb.Queued = true
	s.finish(i)
}

// remove takes down all that was made for a load balancer, the record last.
func (w *World) remove(s *State, i uint8) {
	t := &s.Task[i]
	lb := &s.Balancer[t.Balancer]
	switch t.At {
	case atDrop:
		if w.rule(RuleDropRole) {
			lb.Role, lb.Policies = 0, grants{}
		}
		t.At = atEnd
	case atEnd:
		for m := range w.Machines {
			if t.Copy.Members.has(m) && s.Machine[m].Life != unborn {
				s.Machine[m].Life = ended
			}
		}
		t.At = atErase
	case atErase:
		lb.Record = Record{}
		lb.Doubt, lb.Queued = 0, true
		s.finish(i)
	}
}

// first returns the first grant that is there.
func (g grants) first() (uint8, bool) {
	for n := range g {
		if g[n] != 0 {
			return uint8(n), true
		}
	}
	return 0, false
}
