package explain

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// Write tells the story for people.
func (e *Explanation) Write(w io.Writer) error {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-11s %s\n", name, strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 14)))
		}
	}
	fmt.Fprintf(&b, "request %s\n", e.RequestID)
	line("time", e.Time.UTC().Format(time.RFC3339Nano))
	line("action", e.Action)
	line("resource", e.Resource)
	line("caller", e.Caller)
	line("instance", e.Instance)
	line("answered", strings.TrimSpace(e.Status+" "+e.Code))
	if !e.Denied {
		line("found", e.Found)
		if e.Code == "" {
			line("decision", "allowed")
		}
		_, err := io.WriteString(w, b.String())
		return err
	}
	line("denied by", e.Check+": "+e.Rule)
	line("reason", e.Reason)
	line("found", e.Found)
	line("would pass", e.Wanted)
	if e.Policy != nil {
		writePolicy(&b, e.Policy)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writePolicy(b *strings.Builder, p *policy.Explanation) {
	for _, doc := range p.Policies {
		fmt.Fprintf(b, "  policy      %s (%s)\n", doc.Policy, doc.Stage)
		for _, s := range doc.Statements {
			fmt.Fprintf(b, "    statement %d %s: action %s, resource %s, principal %s, applies: %s\n", s.Index,
				strings.TrimSpace(s.Effect+" "+s.Sid), yes(s.Action), yes(s.Resource), yes(s.Principal), yes(s.Applies))
			for _, c := range s.Conditions {
				fmt.Fprintf(b, "      condition %s: met: %s\n", c.String(), yes(c.Met))
			}
		}
	}
	if len(p.Policies) == 0 {
		b.WriteString("  policy      the caller has none\n")
	}
	for _, n := range p.Needed {
		fmt.Fprintf(b, "  needed      %s\n", n)
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
