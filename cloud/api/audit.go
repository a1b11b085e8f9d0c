package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// record is what the journal keeps of a request: who asked what, and what came of it. It is enough to ask the same
// again: the parameters that the model knows, without the values of those that it calls sensitive, and the identifiers
// that the answer made. Never a body.
type record struct {
	start     time.Time
	requestID string
	sourceIP  string
	userAgent string
	asked     string // the parameter Action, whatever it says
	target    *target
	caller    authn.Caller
	// parameters are those that may be told, as a form in the order of their names; parametersCut says that some were too
	// long.
	parameters    string
	parametersCut bool
	userData      string   // its size in bytes, when there is any
	made          []string // identifiers in the answer
	status        int
	fault         fault
}

// action is the permission that the request is about, or what it asked for when there is none of that name.
func (r *record) action() string {
	if r.target != nil {
		return r.target.permission()
	}
	return cut(cmp.Or(r.asked, "none"))
}

// rawParameters keeps those parameters of an operation without a model that say what it is about.
func (r *record) rawParameters(form url.Values) {
	kept := url.Values{}
	for _, name := range []string{"CertificateArn", "InstanceId", "Profile", "Revision", "Timestamp", "WaitSeconds"} {
		if form.Has(name) {
			kept.Set(name, cut(form.Get(name)))
		}
	}
	r.keep(kept, form)
}

// keep notes the parameters that may be told, as a form. When they are too long, the longest are left out. Of user data
// only the size is told: they may hold secrets, and whoever repeats the request needs as many.
func (r *record) keep(parameters, form url.Values) {
	r.parameters = parameters.Encode()
	if len(r.parameters) > maxParameters {
		r.parametersCut = true
		names := slices.SortedFunc(maps.Keys(parameters), func(a, b string) int {
			return cmp.Or(len(parameters.Get(b))-len(parameters.Get(a)), len(b)-len(a), strings.Compare(a, b))
		})
		for ; len(r.parameters) > maxParameters; names = names[1:] {
			delete(parameters, names[0])
			r.parameters = parameters.Encode()
		}
	}
	if parameters.Get("UserData") == model.Secret {
		if data, err := base64.StdEncoding.DecodeString(form.Get("UserData")); err == nil {
			r.userData = strconv.Itoa(len(data))
		}
	}
}

func (r *record) write(ctx context.Context, c Config) {
	now := c.Clock()
	action, paramsCut, cause := r.action(), "", ""
	if r.parametersCut {
		paramsCut = "true"
	}
	if r.fault.cause != nil {
		cause = cut(r.fault.cause.Error())
	}
	// In the order of their names.
	c.Journal.RecordList(ctx, journal.Event{Time: now, Kind: "api.request", Subject: action}, []journal.Attribute{
		{Name: "accessKeyId", Value: r.caller.AccessKeyID}, {Name: "action", Value: action},
		{Name: "caller", Value: r.caller.ARN}, {Name: "cause", Value: cause}, {Name: "code", Value: r.fault.code},
		{Name: "durationMs", Value: milliseconds(now.Sub(r.start))}, {Name: "instance", Value: r.caller.InstanceID},
		{Name: "made", Value: strings.Join(r.made, " ")}, {Name: "message", Value: cut(r.fault.message)},
		{Name: "params", Value: r.parameters}, {Name: "paramsCut", Value: paramsCut},
		{Name: journal.RequestID, Value: r.requestID}, {Name: "sourceIp", Value: r.sourceIP},
		{Name: "status", Value: strconv.Itoa(r.status)}, {Name: "userAgent", Value: cut(r.userAgent)},
		{Name: "userDataBytes", Value: r.userData},
	})
}

// milliseconds writes a duration with three digits after the point.
func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64)
}

// What the journal keeps of a client's text and of a request's parameters, in bytes. A certificate with its chain and a
// policy of the largest size fit.
const (
	maxRecorded   = 200
	maxParameters = 16 << 10
)

// cut bounds a text that a client chose, and drops one that looks like a private key in a place where none belongs.
func cut(s string) string {
	if strings.Contains(s, "PRIVATE KEY") {
		return "[redacted]"
	}
	if len(s) > maxRecorded {
		s = s[:maxRecorded] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
