package replay

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// names gives the identifiers that a cloud made up names that are the same in every cloud to which the same was done.
type names struct {
	of       map[string]string // by identifier
	launched map[string]int    // VMs so far, by load balancer
}

func newNames() *names { return &names{of: map[string]string{}, launched: map[string]int{}} }

// learnCall names what the answer to a call made; calls are counted from 1.
func (n *names) learnCall(call int, made []string) {
	for i, id := range made {
		if n.of[id] == "" {
			n.of[id] = fmt.Sprintf("%s %d of call %d", kindOf(id), i+1, call)
		}
	}
}

// learnEvent names the VMs that a load balancer gets, which no call tells.
func (n *names) learnEvent(ev *journal.Event) {
	id := ev.Attributes["instance"]
	if ev.Kind != "elb.lbvm_launched" || id == "" || n.of[id] != "" {
		return
	}
	n.learnVM(ev.Subject, id)
}

// learnVM names the next VM of a load balancer.
func (n *names) learnVM(balancer, id string) {
	n.launched[balancer]++
	n.of[id] = fmt.Sprintf("%s%d of load balancer %s", vmOf, n.launched[balancer], balancer)
}

// vmOf begins the names of load balancers' VMs.
const vmOf = "VM "

func kindOf(id string) string {
	switch {
	case strings.HasPrefix(id, "i-"):
		return "instance"
	case strings.HasPrefix(id, "AKIA"), strings.HasPrefix(id, "ASIA"):
		return "access key"
	case strings.HasPrefix(id, "127."):
		return "address"
	}
	return "id"
}

// The forms of identifiers: of resources, and of principals, keys and certificates.
const (
	resources = `(?:i|r|vol|eni|eipalloc|eipassoc|iip-assoc|sg|subnet|vpc|ami|snap)-[0-9a-f]{8,17}`
	uniques   = `A[A-Z]{3}[A-Z0-9]{12,}`
)

var (
	identifier = regexp.MustCompile(`\b(?:` + resources + `|` + uniques + `)\b`)
	// What differs from one run to the next without a meaning: moments, addresses, digests, lengths of time.
	fleeting = []struct {
		what *regexp.Regexp
		with string
	}{
		{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?`), "TIME"},
		{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "ID"},
		{regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b`), "ADDRESS"},
		{regexp.MustCompile(`\b(?:0x)?[0-9a-f]*[0-9][0-9a-f]{7,}\b`), "DIGEST"},
		{regexp.MustCompile(`\b(?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?(?:ns|µs|ms|s)\b`), "DURATION"},
		{regexp.MustCompile(`\[\s*\d+\.\d+\]`), "[CLOCK]"}, // the kernel's
	}
)

// text gives a text the names that identifiers have in every cloud, and takes out what means nothing.
func (n *names) text(text string) string {
	if text == "" {
		return ""
	}
	text = identifier.ReplaceAllStringFunc(text, func(id string) string {
		if name := n.of[id]; name != "" {
			return name
		}
		return "ID"
	})
	for _, f := range fleeting {
		text = f.what.ReplaceAllString(text, f.with)
	}
	return text
}
