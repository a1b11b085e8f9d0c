package model

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// Action is one step of the world: what, and of which of its parts.
type Action struct {
	Kind       actionKind
	A, B, C, D uint8
}

type actionKind uint8

const (
	actTask      actionKind = iota // A: task
	actFail                        // A: task
	actCrash                       //
	actReconcile                   // A: load balancer, B: task
	actCall                        // A: kind of task, B: load balancer, C: names, D: task
	actEnd                         // A: machine
	actRevoke                      // A: machine
	actMint                        // A: machine
	actRemove                      // A: certificate
	actUpload                      // A: certificate
	actAsk                         // A: session's machine, B: identity's and signer's, C: certificate, D: request
	actResend                      // A: request, B: into
	actRequest                     // A: request
	actTick
	actRotate //
	actRenew  // A: machine
	actRead   // A: machine
	actRetire // A: 1 when it is forced
)

// String says what happens.
//
//nolint:gocyclo // one case for each kind of step
func (a Action) String() string {
	switch a.Kind {
	case actTask:
		return fmt.Sprintf("elb task %d goes on", a.A)
	case actFail:
		return fmt.Sprintf("the next step of elb task %d fails", a.A)
	case actCrash:
		return "elb crashes and starts anew"
	case actReconcile:
		return fmt.Sprintf("reconcile of balancer %d begins as task %d", a.A, a.B)
	case actCall:
		return fmt.Sprintf("a call begins as task %d: %s balancer %d, names %02b", a.D,
			[...]string{"", "create", "change", "delete"}[a.A], a.B, a.C)
	case actEnd:
		return fmt.Sprintf("machine %d is terminated", a.A)
	case actRevoke:
		return fmt.Sprintf("the LBCERT of machine %d is revoked", a.A)
	case actMint:
		return fmt.Sprintf("machine %d gets a session of its role", a.A)
	case actRemove:
		return fmt.Sprintf("certificate %d is deleted", a.A)
	case actUpload:
		return fmt.Sprintf("certificate %d is uploaded", a.A)
	case actAsk:
		return fmt.Sprintf("request %d begins: session of machine %d, LBCERT of %d, LBPK of %d, certificate %d",
			a.D, a.A, a.B&3, a.B>>2&3, a.C) + fmt.Sprintf(", by LBCERT %d of it", a.B>>4)
	case actResend:
		return fmt.Sprintf("request %d is sent again as request %d", a.A, a.B)
	case actRequest:
		return fmt.Sprintf("request %d goes on", a.A)
	case actTick:
		return "more time passes than a request may live"
	case actRotate:
		return "IAMCERT is rotated"
	case actRenew:
		return fmt.Sprintf("machine %d gets a medium with a new LBCERT", a.A)
	case actRead:
		return fmt.Sprintf("machine %d has read its medium", a.A)
	case actRetire:
		return fmt.Sprintf("the IAMCERTs before are retired, forced: %t", a.A == 1)
	}
	return "?"
}

// Report is what an exploration found.
type Report struct {
	// States is the number of different states, Steps that of transitions between them.
	States, Steps int
	// Answered and Refused count the steps that ended a request.
	Answered, Refused int
	// Quiet counts states in which nothing was under way.
	Quiet int
	// Broken is the first promise that was found broken, Trace the shortest way there.
	Broken Violation
	Trace  []Action
}

// Story is the trace in words, a line each.
func (r *Report) Story() string {
	var b strings.Builder
	for i, a := range r.Trace {
		fmt.Fprintf(&b, "%3d  %s\n", i+1, a)
	}
	return b.String()
}

// node is how a state was first reached.
type node struct {
	parent int32
	action Action
}

// explorer goes through all states, nearest first. Of states that it has left it keeps a 64-bit hash: with ten
// million states the odds that two are taken for one are below one in 100,000.
type explorer struct {
	world  *World
	seed   maphash.Seed
	seen   map[uint64]struct{}
	nodes  []node
	wave   []State // the states to go on from
	first  int32   // the node of the first of them
	next   []State
	at     int32 // the node that successors come from
	report Report
}

// Explore tries every order of steps and stops at the first broken promise.
func (w *World) Explore() Report {
	e := &explorer{world: w, seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}}
	e.at = -1
	e.reach(w.initial(), Action{})
	for len(e.next) > 0 && e.report.Broken == "" {
		e.wave, e.next = e.next, nil
		e.first = int32(len(e.nodes) - len(e.wave))
		for i := range e.wave {
			e.at = e.first + int32(i)
			w.successors(e.wave[i], e)
			if e.report.Broken != "" {
				break
			}
		}
	}
	return e.report
}

// reach takes in a state and judges it.
func (e *explorer) reach(s State, a Action) {
	e.world.mark(&s)
	if e.at >= 0 {
		e.report.Steps++
	}
	h := maphash.Comparable(e.seed, s)
	if _, known := e.seen[h]; known {
		return
	}
	e.seen[h] = struct{}{}
	e.nodes = append(e.nodes, node{e.at, a})
	e.next = append(e.next, s)
	e.report.States++
	if e.world.quiet(&s) {
		e.report.Quiet++
	}
	if v := e.world.settled(&s); v != "" {
		e.broken(v, int32(len(e.nodes)-1))
	}
}

// request takes in the state after a request's step.
func (e *explorer) request(s State, a Action, how result, v Violation) {
	switch how {
	case answered:
		e.report.Answered++
	case refused:
		e.report.Refused++
	case goesOn:
	}
	if v != "" && e.report.Broken == "" {
		e.broken(v, e.at)
		e.report.Trace = append(e.report.Trace, a)
		return
	}
	e.reach(s, a)
}

func (e *explorer) broken(v Violation, at int32) {
	if e.report.Broken != "" {
		return
	}
	e.report.Broken = v
	for ; at > 0; at = e.nodes[at].parent {
		e.report.Trace = append([]Action{e.nodes[at].action}, e.report.Trace...)
	}
}
