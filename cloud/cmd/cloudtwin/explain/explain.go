// Package explain tells an operator why a request was answered as it was, from the journal's events of that request:
// which check refused it, what was found there, and what would have passed. The events hold no secret, so neither does
// an explanation.
package explain

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// ErrUnknown means that the journal has nothing on a request.
var ErrUnknown = errors.New("the journal has no such request")

// Explanation is why one request was answered as it was.
type Explanation struct {
	RequestID string    `json:"requestId"`
	Time      time.Time `json:"time"`
	Action    string    `json:"action"`
	Status    string    `json:"status,omitempty"` // HTTP
	Code      string    `json:"code,omitempty"`   // what the caller learned; empty for success
	Caller    string    `json:"caller,omitempty"` // empty when the signature told nobody
	Instance  string    `json:"instance,omitempty"`
	Resource  string    `json:"resource,omitempty"`
	Denied    bool      `json:"denied"`
	// Check is the step that refused: "check 4 of 9" of a delivery, "HTTP signature", "IAM policy".
	Check string `json:"check,omitempty"`
	// Rule is what the step asks for in general.
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason,omitempty"` // typed
	Found  string `json:"found,omitempty"`
	Wanted string `json:"wanted,omitempty"`
	// Policy is the evaluation of the policies when they refused.
	Policy *policy.Explanation `json:"policy,omitempty"`
}

// Of explains the request whose events are given.
func Of(events []journal.Event) (Explanation, error) {
	if len(events) == 0 {
		return Explanation{}, ErrUnknown
	}
	e := Explanation{RequestID: events[0].Attributes[journal.RequestID], Time: events[0].Time}
	// The front door's record comes last and knows the least of why.
	inOrder := slices.Clone(events)
	slices.SortStableFunc(inOrder, func(a, b journal.Event) int { return rank(a.Kind) - rank(b.Kind) })
	for i := range inOrder {
		e.take(&inOrder[i])
	}
	return e, nil
}

const kindRequest = "api.request"

func rank(kind string) int {
	if kind == kindRequest {
		return 0
	}
	return 1
}

func (e *Explanation) take(ev *journal.Event) {
	a := ev.Attributes
	set := func(into *string, names ...string) {
		for _, name := range names {
			if a[name] != "" {
				*into = a[name]
			}
		}
	}
	set(&e.Caller, "caller")
	set(&e.Instance, "instance")
	set(&e.Reason, "reason")
	set(&e.Resource, "arn", "resource")
	set(&e.Found, "detail")
	set(&e.Wanted, "wanted")
	switch ev.Kind {
	case kindRequest:
		e.Action, e.Status, e.Code = a["action"], a["status"], a["code"]
		e.takeFault(a)
	case "delivery.granted":
		e.Denied, e.Check, e.Rule = false, "", ""
	case "delivery.denied":
		e.Denied = true
		e.takeDelivery(a)
	case "policy.denied":
		e.Denied, e.Check = true, "IAM policy"
		e.Rule = "the caller's policies allow the action on the resource"
		e.Reason = a["verdict"]
		e.takePolicy(a["explanation"])
	case "elb.servo_denied":
		e.Denied, e.Check, e.Instance = true, "servo", ev.Subject
		e.Rule = "only the instance itself asks what it is to serve, with its load balancer's role"
		e.Found = a["reason"]
	}
}

// takeDelivery takes the audit's record of a delivery that was denied.
func (e *Explanation) takeDelivery(a map[string]string) {
	if a["check"] == "1" && e.Check != "" {
		return // the front door's own record says more: which step of the signature
	}
	e.Check, e.Rule = "outside the nine checks", outside[e.Reason]
	if n, err := strconv.Atoi(a["check"]); err == nil && n >= 1 && n <= len(deliveryRules) {
		e.Check, e.Rule = "check "+a["check"]+" of "+strconv.Itoa(len(deliveryRules)), deliveryRules[n-1]
	}
	e.takePolicy(a["explanation"])
}

func (e *Explanation) takePolicy(text string) {
	var p policy.Explanation
	if text == "" || json.Unmarshal([]byte(text), &p) != nil {
		return
	}
	e.Policy = &p
	if e.Found == "" {
		e.Found = p.Decision.Verdict.String() + " " + p.Decision.Because(p.Action)
	}
}

// takeFault takes what the front door itself says of a request that it refused before any service saw it.
func (e *Explanation) takeFault(a map[string]string) {
	step, ok := signatureSteps[a["code"]]
	if ok {
		e.Denied, e.Check, e.Reason = true, "HTTP signature (check 1 of a delivery)", a["code"]
		e.Rule, e.Wanted = step.rule, step.wanted
	} else if step, ok := formSteps[a["code"]]; ok {
		e.Denied, e.Check, e.Reason = true, "form of the request (before check 1 of a delivery)", a["code"]
		e.Rule, e.Wanted = step.rule, step.wanted
	} else if a["code"] != "" {
		e.Reason = a["code"]
	}
	if a["code"] != "" {
		e.Found = a["message"]
	}
}
