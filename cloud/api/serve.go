package api

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"

	"github.com/google/uuid"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// The headers of an answer, as net/http spells them: it spells others anew for each request. Clients look in the first
// for the id that their error messages show.
const (
	requestIDHeader = "X-Amzn-Requestid"
	contentType     = "Content-Type"
	cacheControl    = "Cache-Control"
	contentOptions  = "X-Content-Type-Options"
)

// newRequestID makes an id of a request: a random UUID (RFC 9562, version 4). It is no secret and has only to differ.
func newRequestID() string {
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // see above
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // see above
	const version, variant = 4 << 4, 2 << 6
	id[6], id[8] = id[6]&0x0f|version, id[8]&0x3f|variant
	return id.String()
}

// door serves requests.
type door struct {
	config   Config
	routes   routes
	verifier authn.Verifier
}

// answer is what a request came to.
type answer struct {
	status      int
	contentType string
	body        []byte
}

// ServeHTTP answers one request and records it.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" && r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	rec := &record{start: d.config.Clock(), requestID: newRequestID(), sourceIP: sourceIP(r),
		userAgent: r.UserAgent()}
	ctx, cancel := context.WithTimeoutCause(journal.Begin(journal.JoinRequest(r.Context(), r.Header)),
		d.config.RequestTimeout, errOverdue)
	defer cancel()
	a, err := d.guarded(ctx, w, r, rec)
	if err != nil {
		err = overdue(ctx, err)
		f := newFault(err, rec.target)
		rec.fault = f
		if f.status >= http.StatusInternalServerError {
			d.config.Logger.ErrorContext(ctx, "request", "action", rec.action(), "requestId", rec.requestID,
				"error", f.cause)
		}
		a = answer{status: f.status, contentType: "text/xml;charset=UTF-8", body: f.body(rec.target, rec.requestID)}
	}
	rec.status = a.status
	// Recorded first: whoever has the answer finds the record.
	rec.write(ctx, d.config)
	h := w.Header()
	values := []string{rec.requestID, a.contentType, "no-store", "nosniff"} // some answers hold secrets
	for i, name := range [...]string{requestIDHeader, contentType, cacheControl, contentOptions} {
		h[name] = values[i : i+1 : i+1]
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client may have gone
}

// guarded turns a panic of a handler into an error with its stack.
func (d *door) guarded(ctx context.Context, w http.ResponseWriter, r *http.Request, rec *record) (a answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handle %s: panic: %v\n%s", rec.action(), p, debug.Stack())
		}
	}()
	return d.handle(ctx, w, r, rec)
}

// handle is the way of a request. rec learns what becomes known on it.
func (d *door) handle(ctx context.Context, w http.ResponseWriter, r *http.Request, rec *record) (answer, error) {
	if err := checkRequest(w, r); err != nil {
		return answer{}, err
	}
	form, body, err := readForm(w, r, d.config.MaxBody)
	rec.asked = form.Get("Action")
	if err != nil {
		return answer{}, err
	}
	rec.target, err = d.routes.find(rec.asked, form.Get("Version"), func() string { return authn.ScopeService(r) })
	if err != nil {
		return answer{}, err
	}
	var caller authn.Caller
	if !rec.target.binding.Unsigned[rec.target.action] {
		if caller, err = d.verifier.Verify(ctx, r, body, d.config.Identity.Identify); err != nil {
			return answer{}, d.refused(ctx, r, form, rec, err)
		}
	}
	caller.RequestID, caller.SourceIP, caller.UserAgent = rec.requestID, rec.sourceIP, rec.userAgent
	caller.Transport = authn.TransportPlain
	if r.TLS != nil {
		caller.Transport = authn.TransportTLS
	}
	rec.caller = caller
	ctx = authn.WithCaller(ctx, caller)
	if d.config.Trouble != nil {
		if err := d.config.Trouble(ctx, rec.target.action); err != nil {
			return answer{}, err
		}
	}
	if rec.target.raw != nil {
		rec.rawParameters(form)
		contentType, body, err := rec.target.raw(ctx, form)
		return answer{status: http.StatusOK, contentType: contentType, body: body}, err
	}
	return d.call(ctx, form, rec)
}

// call runs an operation of a model.
func (d *door) call(ctx context.Context, form url.Values, rec *record) (answer, error) {
	t := rec.target
	rec.keep(t.handler.Recordable(form), form)
	input, err := t.handler.Decode(form)
	if err != nil {
		return answer{}, err
	}
	if err := d.authorize(ctx, input, rec); err != nil {
		return answer{}, err
	}
	output, err := t.handler.Call(ctx, input)
	if err != nil {
		return answer{}, err
	}
	text, err := t.handler.Encode(output, form.Get("Version"), rec.requestID)
	if err != nil {
		return answer{}, err
	}
	if !madeNothing(t.action) {
		rec.made = Made(text)
	}
	return answer{status: http.StatusOK, contentType: "text/xml;charset=UTF-8", body: text}, nil
}

func (d *door) authorize(ctx context.Context, input any, rec *record) error {
	t := rec.target
	if t.binding.SelfAuthorized[t.action] {
		return nil
	}
	var resources []string
	if t.binding.Resources != nil {
		var err error
		if resources, err = t.binding.Resources(ctx, t.action, rec.caller, input); err != nil {
			return err
		}
	}
	if resources == nil {
		resources = []string{"*"}
	}
	var keys map[string][]string
	if t.binding.Conditions != nil {
		var err error
		if keys, err = t.binding.Conditions(ctx, t.action, rec.caller, input); err != nil {
			return err
		}
	}
	return d.config.Authorizer.Authorize(ctx, rec.caller, t.permission(), resources, keys)
}
