package replay

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// line is what an event says, in words that are the same in every run.
type line struct {
	track, text string
	// once marks what is repeated as time goes by, such as polls and reports: how often says nothing, and only a refusal
	// (bad) says something.
	once, bad bool
	seq       uint64
	at        time.Time
	about     string // the guest as its own cloud calls it
}

// untold are milestones that do not tell two runs apart: a copy of a template does not tell what the template went
// through, and how much was dropped or when power went off is a matter of time.
var untold = []string{"booted", "modules", "network", "ready-for-medium", "rehearsed", "frames-dropped", "power-off"}

// lineOf says what ev tells; false when it tells nothing to compare. The subject of an event whose guest has no name
// yet may get one later: known is false then.
func (n *names) lineOf(ev *journal.Event) (l line, tells, known bool) {
	guest := guestOf(ev)
	l = line{seq: ev.Seq, at: ev.Time, about: guest}
	name := n.of[guest]
	var track string
	switch ev.Kind {
	case "instance.state":
		track, l.text = "state", n.stateText(ev)
	case "guest.milestone":
		track, l.text = n.milestone(ev)
		// A forked copy of any image is woken with a medium; only for a load balancer's VM it is one with an identity.
		if strings.HasPrefix(l.text, "medium-") && name != "" && !strings.HasPrefix(name, vmOf) {
			return line{}, false, true
		}
	case "delivery.granted", "delivery.denied":
		track, l.text = "deliveries of "+n.text(ev.Attributes["arn"]), joined(ev.Kind, ev.Attributes["reason"])
	case "metadata.request":
		track, l.once = "metadata", true
		l.bad = isRefusal(ev.Attributes["status"]) && !isAbsence(ev)
		l.text = n.text(joined(ev.Attributes["method"], ev.Attributes["path"], ev.Attributes["status"]))
	case "api.request":
		if guest != "" {
			track, l.once, l.bad = ev.Subject, true, isRefusal(ev.Attributes["status"])
			l.text = joined(ev.Attributes["status"], ev.Attributes["code"])
		}
	case "node.removed", "invariant.broken", "fault.refused":
		l.track, l.text = joined(ev.Kind, n.text(ev.Subject)), n.text(joined(ev.Kind, ev.Attributes["reason"]))
		return l, true, true
	}
	if l.text == "" {
		return line{}, false, true
	}
	l.track = name + ": " + track
	return l, true, name != ""
}

// guestOf is the instance that an event is about, empty when it is about none.
func guestOf(ev *journal.Event) string {
	if strings.HasPrefix(ev.Subject, "i-") {
		return ev.Subject
	}
	return ev.Attributes["instance"]
}

// stateText leaves out what a reason quotes of a console: its words are milestones too, and the clock is in it.
func (n *names) stateText(ev *journal.Event) string {
	reason, _, _ := strings.Cut(ev.Attributes["reason"], "; last lines of its console:")
	return joined(ev.Attributes["state"], n.text(reason))
}

func (n *names) milestone(ev *journal.Event) (track, text string) {
	a := ev.Attributes
	if slices.Contains(untold, a["stage"]) {
		return "", ""
	}
	switch {
	case a["source"] == "node":
		track = "medium"
		if a["stage"] == "machine-started" {
			track = "machine"
		}
	case a["listener"] != "":
		track = "listener " + a["listener"]
	default:
		track = "stages"
	}
	return track, n.text(joined(a["stage"], a["protocol"], a["port"], a["arn"], a["role"], a["reason"]))
}

// isRefusal says whether an HTTP status is one.
func isRefusal(status string) bool {
	return strings.HasPrefix(status, "4") || strings.HasPrefix(status, "5")
}

// isAbsence says whether a guest asked its metadata for what it may or may not have, such as user data or a public key,
// and had none. One that has no role is another matter.
func isAbsence(ev *journal.Event) bool {
	return ev.Attributes["status"] == "404" && !strings.Contains(ev.Attributes["path"], "/iam/")
}

func joined(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// tracks are lines in order, apart by what may overtake each other: two guests, a guest's two listeners, the delivery
// of a key and a question for metadata.
type tracks map[string][]line

func (t tracks) add(l line) {
	lines := t[l.track]
	switch {
	case l.once && slices.ContainsFunc(lines, func(o line) bool { return o.text == l.text }):
	case len(lines) > 0 && lines[len(lines)-1].text == l.text:
	default:
		t[l.track] = append(lines, l)
	}
}

// trace is what can be compared of events. It may be given more at any time.
type trace struct {
	names   *names
	tracks  tracks
	waiting []journal.Event      // about guests that have no name yet
	named   int                  // names that there were when they were tried last
	kinds   map[string]bool      // of the events that tell something
	ended   map[string]time.Time // when guests ended, by their ids
	last    time.Time
	events  int
}

func newTrace() *trace {
	return &trace{names: newNames(), tracks: tracks{}, kinds: map[string]bool{}, ended: map[string]time.Time{}}
}

func (t *trace) add(ev *journal.Event) {
	t.events++
	t.last = ev.Time
	t.names.learnEvent(ev)
	t.retry()
	if !t.take(ev) {
		t.waiting = append(t.waiting, *ev)
	}
}

// take says whether the event could be told; others wait for a name.
func (t *trace) take(ev *journal.Event) bool {
	l, tells, known := t.names.lineOf(ev)
	if !tells {
		return true
	}
	if !known || t.waitsAlready(l.about) {
		return false
	}
	t.kinds[ev.Kind] = true
	if s := ev.Attributes["state"]; ev.Kind == "instance.state" && (s == "terminated" || s == "failed") {
		t.ended[l.about] = ev.Time
	}
	t.tracks.add(l)
	return true
}

// waitsAlready says whether an earlier event of the guest still waits, which must be told first.
func (t *trace) waitsAlready(guest string) bool {
	return guest != "" && slices.ContainsFunc(t.waiting, func(ev journal.Event) bool { return guestOf(&ev) == guest })
}

// retry tells what waited for names that are known now, in order.
func (t *trace) retry() {
	if len(t.waiting) == 0 || len(t.names.of) == t.named {
		return
	}
	t.named = len(t.names.of)
	waiting := t.waiting
	t.waiting = nil
	for i := range waiting {
		if !t.take(&waiting[i]) {
			t.waiting = append(t.waiting, waiting[i])
		}
	}
}

// finish tells the rest, of guests that nothing named: they are numbered as they came.
func (t *trace) finish() {
	nameless := 0
	for i := range t.waiting {
		if guest := guestOf(&t.waiting[i]); t.names.of[guest] == "" {
			nameless++
			t.names.of[guest] = "other guest " + strconv.Itoa(nameless)
		}
	}
	t.retry()
}
