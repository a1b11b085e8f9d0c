// Package events picks the journal's events that tell one story, of a guest, a load balancer or a request, and writes
// them for people.
package events

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Selection is which events are wanted; the zero value wants all. Events are shown to it in their order: what a load
// balancer's VMs are, and what followed from a request, it learns on the way. Who shows them all twice has all of that
// the second time (Twice).
type Selection struct {
	// VM is an instance id.
	VM string
	// LoadBalancer is a name; those of that name in every account are meant.
	LoadBalancer string
	// Request is a request id: the request's events are wanted, and those of what followed from it.
	Request string
	// Trace is the id of a trace: a request and all that followed from it.
	Trace string
	// Kind is the beginning of a kind, such as delivery or api.request.
	Kind string
	// Since leaves out what is older.
	Since time.Time

	vms     map[string]bool   // of the load balancer
	steps   map[string]bool   // of the request
	parents map[string]string // what caused a step
}

// Twice says whether events that come before others of the same story are only known by those.
func (s *Selection) Twice() bool { return s.LoadBalancer != "" || s.Request != "" }

// Wants says whether ev belongs to what is wanted.
func (s *Selection) Wants(ev *journal.Event) bool {
	s.learn(ev)
	switch {
	case ev.Time.Before(s.Since),
		s.Kind != "" && ev.Kind != s.Kind && !strings.HasPrefix(ev.Kind, s.Kind+"."),
		s.Request != "" && !s.ofRequest(ev),
		s.Trace != "" && ev.Trace != s.Trace,
		s.VM != "" && !names(ev, s.isVM),
		s.LoadBalancer != "" && !s.ofLoadBalancer(ev):
		return false
	}
	return true
}

// All says whether nothing is left out.
func (s *Selection) All() bool { return len(s.Filters()) == 0 }

// Filters returns what leaves events out, by the names of the flags that say so.
func (s *Selection) Filters() map[string]string {
	filters := map[string]string{}
	for name, value := range map[string]string{
		"vm": s.VM, "lb": s.LoadBalancer, "request": s.Request, "kind": s.Kind, "trace": s.Trace,
	} {
		if value != "" {
			filters[name] = value
		}
	}
	if !s.Since.IsZero() {
		filters["since"] = s.Since.UTC().Format(time.RFC3339Nano)
	}
	return filters
}

// learn notes the VMs that a load balancer gets, and the steps that a request led to.
func (s *Selection) learn(ev *journal.Event) {
	if s.Request != "" {
		s.learnStep(ev)
	}
	if s.LoadBalancer == "" || !s.isLoadBalancer(ev.Subject) || ev.Attributes["instance"] == "" {
		return
	}
	if s.vms == nil {
		s.vms = map[string]bool{}
	}
	s.vms[ev.Attributes["instance"]] = true
}

func (s *Selection) learnStep(ev *journal.Event) {
	if s.steps == nil {
		s.steps, s.parents = map[string]bool{}, map[string]string{}
	}
	if ev.Span != "" && ev.Attributes[journal.RequestID] == s.Request {
		s.steps[ev.Span] = true
	}
	if ev.Span != "" && ev.Parent != "" {
		s.parents[ev.Span] = ev.Parent
	}
}

// deepest bounds how many steps may lie between a request and what followed from it.
const deepest = 64

// ofRequest says whether an event happened in the request's own step, or in one that followed from it.
func (s *Selection) ofRequest(ev *journal.Event) bool {
	if ev.Attributes[journal.RequestID] == s.Request {
		return true
	}
	step := ev.Span
	for range deepest {
		if step == "" || s.steps[step] {
			break
		}
		step = s.parents[step]
	}
	return s.steps[step]
}

// isVM says whether a text is the instance's id or the key of a record of it, which ends with it.
func (s *Selection) isVM(text string) bool {
	return text == s.VM || strings.HasSuffix(text, "/"+s.VM)
}

// isLoadBalancer says whether a text is the load balancer's name or the key of its record, which ends with it.
func (s *Selection) isLoadBalancer(text string) bool {
	return text == s.LoadBalancer || strings.HasSuffix(text, "/"+s.LoadBalancer)
}

func (s *Selection) ofLoadBalancer(ev *journal.Event) bool {
	return names(ev, func(text string) bool { return s.isLoadBalancer(text) || s.vms[path.Base(text)] })
}

// lists are the attributes that hold several names: what a request made, and the further records of a write.
var lists = []string{"made", "with", "deleted"}

// names says whether an event's subject or one of its attributes is what is looked for.
func names(ev *journal.Event, is func(text string) bool) bool {
	if is(ev.Subject) {
		return true
	}
	for name, value := range ev.Attributes {
		if is(value) || slices.Contains(lists, name) && slices.ContainsFunc(strings.Fields(value), is) ||
			name == "params" && namesParameter(value, is) {
			return true
		}
	}
	return false
}

// namesParameter says the same of a request's parameters, which are recorded as a form.
func namesParameter(params string, is func(text string) bool) bool {
	form, err := url.ParseQuery(params)
	if err != nil {
		return false
	}
	for _, values := range form {
		if slices.ContainsFunc(values, is) {
			return true
		}
	}
	return false
}
