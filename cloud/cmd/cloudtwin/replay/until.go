package replay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// ErrUntil means that no event of the recording is the one that was named.
var ErrUntil = errors.New("no such event in the recording")

// FindEvent returns the number of the event that text names: a number, or KIND, KIND:SUBJECT or
// KIND:SUBJECT:NAME=VALUE, of which the first is meant; an empty SUBJECT is any. The error is ErrUntil when there is
// none, and says what is.
func (r *Recording) FindEvent(text string) (uint64, error) {
	if seq, err := strconv.ParseUint(text, 10, 64); err == nil {
		last := r.all[len(r.all)-1].Seq
		if seq == 0 || seq > last {
			return 0, fmt.Errorf("%w: event %d; its events have the numbers 1 to %d", ErrUntil, seq, last)
		}
		return seq, nil
	}
	kind, rest, _ := strings.Cut(text, ":")
	subject, attribute := rest, ""
	// Subjects may hold colons, as ARNs and actions do: only what looks like an attribute is one.
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && strings.Contains(rest[i:], "=") {
		subject, attribute = rest[:i], rest[i+1:]
	}
	name, value, _ := strings.Cut(attribute, "=")
	fits := func(ev *journal.Event) bool {
		return ev.Kind == kind && (subject == "" || ev.Subject == subject) &&
			(attribute == "" || ev.Attributes[name] == value)
	}
	for i := range r.all {
		if fits(&r.all[i]) {
			return r.all[i].Seq, nil
		}
	}
	return 0, fmt.Errorf("%w: %s; 'cloudtwin inspect' and 'cloudtwin events' show what there is, and only requests, "+
		"deliveries, guests' states and milestones, faults and nodes can be named", ErrUntil, text)
}

// Event returns the event of a number, the one before it when that number is of none that counts.
func (r *Recording) Event(seq uint64) (ev journal.Event) {
	for i := range r.all {
		if r.all[i].Seq > seq {
			break
		}
		ev = r.all[i]
	}
	return ev
}
