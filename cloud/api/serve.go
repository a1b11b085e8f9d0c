package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"

	"github.com/google/uuid"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
)

// requestIDHeader is where clients look for the id that their error messages show.
const requestIDHeader = "x-amzn-RequestId"

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
	rec := &record{start: d.config.Clock(), requestID: uuid.NewString(), sourceIP: sourceIP(r),
		userAgent: r.UserAgent()}
	ctx, cancel := context.WithTimeout(r.Context(), d.config.RequestTimeout)
	defer cancel()
	a, err := d.guarded(ctx, w, r, rec)
	if err != nil {
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
	h.Set(requestIDHeader, rec.requestID)
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", "no-store") // some answers hold secrets
	h.Set("X-Content-Type-Options", "nosniff")
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
	rec.target, err = d.routes.find(rec.asked, form.Get("Version"), authn.ScopeService(r))
	if err != nil {
		return answer{}, err
	}
	caller, err := d.verifier.Verify(ctx, r, body, d.config.Identity.Identify)
	if err != nil {
		return answer{}, err
	}
	caller.RequestID, caller.SourceIP = rec.requestID, rec.sourceIP
	rec.caller = caller
	ctx = authn.WithCaller(ctx, caller)
	if rec.target.raw != nil {
		rec.rawParameters(form)
		contentType, body, err := rec.target.raw(ctx, form)
		return answer{status: http.StatusOK, contentType: contentType, body: body}, err
	}
	return d.call(ctx, r, form, rec)
}

// call runs an operation of a model.
func (d *door) call(ctx context.Context, r *http.Request, form url.Values, rec *record) (answer, error) {
	t := rec.target
	input, err := t.handler.Decode(form)
	if err != nil {
		return answer{}, err
	}
	rec.parameters = t.handler.Parameters(input)
	if err := d.authorize(ctx, r, input, rec); err != nil {
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
	return answer{status: http.StatusOK, contentType: "text/xml;charset=UTF-8", body: text}, nil
}

func (d *door) authorize(ctx context.Context, r *http.Request, input any, rec *record) error {
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
	keys := conditions(r, rec.caller, rec.start, d.config.Region)
	return d.config.Authorizer.Authorize(ctx, rec.caller, t.permission(), resources, keys)
}
