package api

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// record is what the journal keeps of a request: who asked what, and what came of it. Of the parameters it keeps the
// ones that the model knows and does not call sensitive, cut short; never a body.
type record struct {
	start      time.Time
	requestID  string
	sourceIP   string
	userAgent  string
	asked      string // the parameter Action, whatever it says
	target     *target
	caller     authn.Caller
	parameters map[string]string
	status     int
	fault      fault
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
	r.parameters = map[string]string{}
	for _, name := range []string{"CertificateArn", "InstanceId", "Profile", "Revision", "Timestamp", "WaitSeconds"} {
		if form.Has(name) {
			r.parameters[name] = cut(form.Get(name))
		}
	}
}

func (r *record) write(ctx context.Context, c Config) {
	now := c.Clock()
	attributes := map[string]string{
		"action":     r.action(),
		"status":     strconv.Itoa(r.status),
		"requestId":  r.requestID,
		"durationMs": strconv.FormatFloat(float64(now.Sub(r.start).Microseconds())/1000, 'f', 3, 64),
		"sourceIp":   r.sourceIP,
	}
	optional := map[string]string{
		"caller": r.caller.ARN, "accessKeyId": r.caller.AccessKeyID, "instance": r.caller.InstanceID,
		"code": r.fault.code, "message": cut(r.fault.message), "userAgent": cut(r.userAgent),
	}
	for i, name := range slices.Sorted(maps.Keys(r.parameters)) {
		if i == maxParameters {
			optional["parametersOmitted"] = strconv.Itoa(len(r.parameters) - i)
			break
		}
		optional["parameter."+name] = cut(r.parameters[name])
	}
	if r.fault.cause != nil {
		optional["cause"] = cut(r.fault.cause.Error())
	}
	for name, value := range optional {
		if value != "" {
			attributes[name] = value
		}
	}
	c.Journal.Record(ctx, journal.Event{Time: now, Kind: "api.request", Subject: r.action(), Attributes: attributes})
}

// What the journal keeps of a client's text, in bytes, and of a request's parameters.
const (
	maxRecorded   = 200
	maxParameters = 40
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
