package operator

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// EventChange is the kind of event that tells what an operator had the cloud do. Its subject is the verb, such as
// guests/reboot; params are what it was told to do it to and with, as a form, by is who asked, instance the guest that
// it is about, and status 200 when it was done.
const EventChange = "operator.request"

// Change is something that an operator had the cloud do.
type Change struct {
	Verb       string
	Parameters url.Values
}

// Recorder takes the events that tell of changes.
type Recorder interface {
	RecordChange(ctx context.Context, ev journal.Event)
}

// ChangeOf reads an event of a change. ok is false when it was refused: then nothing changed.
func ChangeOf(ev *journal.Event) (c Change, ok bool, err error) {
	parameters, err := url.ParseQuery(ev.Attributes["params"])
	return Change{Verb: ev.Subject, Parameters: parameters},
		ev.Attributes["status"] == strconv.Itoa(http.StatusOK), err
}

// Do has the cloud do what it did before. The error is a *Refusal when it does not do that to what there is now.
func (c *Client) Do(ctx context.Context, change Change) error {
	var answer any
	path := "/" + change.Verb + "?" + change.Parameters.Encode()
	return c.callWithin(ctx, changeTimeout, http.MethodPost, path, &answer)
}

// changeTimeout bounds a change: some return when a node has done it.
const changeTimeout = time.Minute

// toldOtherwise are verbs that have events of their own, or change nothing that could be done again.
var toldOtherwise = []string{"accounts/create", "accounts/keys", "nodes/remove", "node-token", "shutdown"}

// recorded has the backend record each change that the operator asked for, before the operator has the answer.
func recorded(backend Backend, next http.Handler) http.Handler {
	recorder, ok := backend.(Recorder)
	if !ok {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verb := strings.TrimPrefix(r.URL.Path, "/")
		if r.Method == http.MethodPost && !strings.HasPrefix(verb, "faults/") && !slices.Contains(toldOtherwise, verb) {
			w = &recordingWriter{ResponseWriter: w, recorder: recorder, request: r, verb: verb, begun: time.Now()}
		}
		next.ServeHTTP(w, r)
	})
}

// recordingWriter records a change when its answer begins.
type recordingWriter struct {
	http.ResponseWriter
	recorder Recorder
	request  *http.Request
	verb     string
	begun    time.Time
	told     bool
}

// WriteHeader implements http.ResponseWriter.
func (w *recordingWriter) WriteHeader(status int) {
	w.tell(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *recordingWriter) Write(text []byte) (int, error) {
	w.tell(http.StatusOK)
	return w.ResponseWriter.Write(text)
}

func (w *recordingWriter) tell(status int) {
	if w.told {
		return
	}
	w.told = true
	q := w.request.URL.Query()
	now := time.Now()
	attributes := map[string]string{"params": q.Encode(), "status": strconv.Itoa(status),
		"by": PeerFrom(w.request.Context()), "durationMs": strconv.FormatInt(now.Sub(w.begun).Milliseconds(), 10)}
	if instance := q.Get("instance"); instance != "" {
		attributes["instance"] = instance
	}
	w.recorder.RecordChange(w.request.Context(),
		journal.Event{Time: now, Kind: EventChange, Subject: w.verb, Attributes: attributes})
}
