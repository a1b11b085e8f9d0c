package operator_test

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// changed is a backend that records.
type changed struct {
	lbvms
	events []journal.Event
}

func (b *changed) RecordChange(_ context.Context, ev journal.Event) { b.events = append(b.events, ev) }
func (b *changed) NewNodeToken(context.Context) (string, error)     { return "a secret", nil }
func (b *changed) Status(context.Context) (operator.Status, error)  { return operator.Status{}, nil }

// TestChangesAreRecorded has an operator do what works, what is refused and what changes nothing, and does the first
// again as its record tells.
func TestChangesAreRecorded(t *testing.T) {
	ctx, b := t.Context(), &changed{}
	client := serve(t, b)

	if _, err := client.RevokeLBVM(ctx, "i-1", "a & b"); err != nil {
		t.Fatal(err)
	}
	if len(b.events) != 1 {
		t.Fatalf("%d records when the answer is there, want one", len(b.events))
	}
	first := b.events[0]
	change, ok, err := operator.ChangeOf(&first)
	want := operator.Change{Verb: "lbvms/revoke", Parameters: url.Values{"instance": {"i-1"}, "reason": {"a & b"}}}
	if diff := cmp.Diff(want, change); !ok || err != nil || diff != "" {
		t.Errorf("done: %t, %v (-want +got):\n%s", ok, err, diff)
	}
	if first.Attributes["instance"] != "i-1" || first.Attributes["by"] == "" {
		t.Errorf("its attributes are %v", first.Attributes)
	}

	b.revoked = ""
	if err := client.Do(ctx, change); err != nil || b.revoked != "i-1" || b.reason != "a & b" {
		t.Errorf("done again: %v, revoked %q because %q", err, b.revoked, b.reason)
	}
	change.Parameters.Set("instance", "i-3")
	if err := client.Do(ctx, change); !errors.As(err, new(*operator.Refusal)) {
		t.Errorf("what is refused came to %v", err)
	}
	if _, err := client.NewNodeToken(ctx); err != nil {
		t.Error(err)
	}
	if _, err := client.Status(ctx); err != nil {
		t.Error(err)
	}
	if len(b.events) != 3 {
		t.Fatalf("%d records, want of three changes", len(b.events))
	}
	if _, ok, err := operator.ChangeOf(&b.events[2]); ok || err != nil {
		t.Errorf("what was refused counts as done: %t, %v", ok, err)
	}
}
