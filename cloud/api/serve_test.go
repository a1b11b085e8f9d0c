package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

var anyID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

func form(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}

func TestAnswersAndErrors(t *testing.T) {
	const iamV, ec2V, elbV = "2010-05-08", "2016-11-15", "2012-06-01"
	iamError := func(kind, code, message string) string {
		return `<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>` + kind +
			`</Type><Code>` +
			code + `</Code><Message>` + message + `</Message></Error><RequestId>ID</RequestId></ErrorResponse>`
	}
	ec2Error := func(code, message string) string {
		return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>" + code +
			"</Code><Message>" +
			message + "</Message></Error></Errors><RequestID>ID</RequestID></Response>"
	}
	noService := strings.NewReplacer("https://iam.amazonaws.com/doc/2010-05-08/", anyNamespace)
	ours := "An internal error has occurred. The request id leads to its cause in the cloud&#39;s log."
	tests := []struct {
		name   string
		path   string
		form   url.Values
		scope  string
		change func(*http.Request)
		status int
		want   string
	}{
		{
			name: "operation without output", form: form("Action", "DeleteUser", "Version", iamV, "UserName", "a"),
			status: 200,
			want: `<DeleteUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ResponseMetadata>` +
				`<RequestId>ID</RequestId></ResponseMetadata></DeleteUserResponse>`,
		},
		{
			name: "empty list", form: form("Action", "ListUsers", "Version", iamV), status: 200,
			want: `<ListUsersResponse ` +
				`xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ListUsersResult><Users></Users>` +
				`</ListUsersResult><ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata></ListUsersResponse>`,
		},
		{
			name: "EC2 answers in the version asked for", scope: "ec2", status: 200,
			form: form("Action", "DescribeInstances", "Version", "2015-10-01"),
			want: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse " +
				`xmlns="http://ec2.amazonaws.com/doc/2015-10-01/"><requestId>ID</requestId>` +
				`<reservationSet></reservationSet>` +
				`</DescribeInstancesResponse>`,
		},
		{
			name: "raw operation", path: "/services/Euare/", status: 200,
			form: form("Action", "DownloadServerCertificate", "Version", iamV, "CertificateArn", "arn:x"),
			want: "<raw>arn:aws:iam::123456789012:root</raw>",
		},
		{
			name: "raw operation's error", form: form("Action", "DownloadServerCertificate", "Version", iamV),
			status: 404,
			want:   iamError("Sender", "NoSuchEntity", "no such certificate"),
		},
		{
			name: "no action", form: form("Version", iamV), status: 400,
			want: noService.Replace(iamError("Sender", "MissingAction",
				"The request must contain the parameter Action")),
		},
		{
			name: "unknown action", form: form("Action", "Frob<nicate", "Version", iamV), status: 400,
			want: noService.Replace(iamError("Sender", "InvalidAction",
				"Could not find operation Frob&lt;nicate for version 2010-05-08")),
		},
		{
			name: "action of another version", form: form("Action", "ListUsers", "Version", elbV), status: 400,
			want: noService.Replace(iamError("Sender", "InvalidAction",
				"Could not find operation ListUsers for version 2012-06-01")),
		},
		{
			name: "version that is none", form: form("Action", "DescribeInstances", "Version", `x"><y`), status: 400,
			want: noService.Replace(iamError("Sender", "InvalidParameterValue",
				"The parameter Version must have the form YYYY-MM-DD, got &#39;x&#34;&gt;&lt;y&#39;")),
		},
		{
			name: "operation that this cloud has not", form: form("Action", "CreateGroup", "Version", iamV,
				"GroupName", "g"),
			status: 400,
			want: iamError("Sender", "InvalidAction",
				"The operation CreateGroup of iam is not implemented by this cloud"),
		},
		{
			name: "missing parameter", form: form("Action", "CreateUser", "Version", iamV), status: 400,
			want: iamError("Sender", "ValidationError", "1 validation error detected: Value null at "+
				"&#39;userName&#39; failed "+
				"to satisfy constraint: Member must not be null"),
		},
		{
			name: "EC2 missing parameter", scope: "ec2", status: 400,
			form: form("Action", "RunInstances", "Version", ec2V, "ImageId", "ami-1", "MinCount", "1"),
			want: ec2Error("MissingParameter", "The request must contain the parameter MaxCount"),
		},
		{
			name: "EC2 malformed parameter", scope: "ec2", status: 400,
			form: form("Action", "RunInstances", "Version", ec2V, "ImageId", "ami-1", "MinCount", "one", "MaxCount",
				"1"),
			want: ec2Error("InvalidParameterValue", "The parameter MinCount is invalid: &#34;one&#34; is not an "+
				"integer"),
		},
		{
			name: "our fault", form: form("Action", "GetUser", "Version", iamV), status: 500,
			want: iamError("Receiver", "InternalFailure", ours),
		},
		{
			name: "panic", form: form("Action", "GetRole", "Version", iamV, "RoleName", "r"), status: 500,
			want: iamError("Receiver", "InternalFailure", ours),
		},
		{
			name: "path that is none", path: "/services/a/b", form: form("Action", "ListUsers", "Version", iamV),
			status: 404,
			want: noService.Replace(iamError("Sender", "NotFound",
				"There is nothing at this path; use / or /services/NAME/")),
		},
		{
			name: "body that is no form", form: form("Action", "ListUsers", "Version", iamV), status: 415,
			change: func(r *http.Request) { r.Header.Set("Content-Type", "application/json") },
			want: noService.Replace(iamError("Sender", "UnsupportedMediaType",
				"The content type must be application/x-www-form-urlencoded, got &#39;application/json&#39;")),
		},
		{
			name: "parameter in query and body", form: form("Action", "ListUsers", "Version", iamV),
			path:   "/?Version=2012-06-01",
			status: 400,
			want: noService.Replace(iamError("Sender", "MalformedQueryString",
				"The parameter Version is given 2 times")),
		},
		{
			name: "same name, by version", form: form("Action", "DescribeTags", "Version", ec2V), scope: "odd",
			status: 200,
			want: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeTagsResponse " +
				`xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>ID</requestId>` +
				`<tagSet><item><resourceId>from-ec2` +
				`</resourceId></item></tagSet></DescribeTagsResponse>`,
		},
		{
			name: "same name, by version, scope of no service", scope: "127", status: 200,
			form: form("Action", "DescribeTags", "Version", elbV, "LoadBalancerNames.member.1", "web"),
			want: `<DescribeTagsResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2012-06-01/">` +
				`<DescribeTagsResult><TagDescriptions><member><LoadBalancerName>from-elb</LoadBalancerName>` +
				`<Tags></Tags>` +
				`</member></TagDescriptions></DescribeTagsResult><ResponseMetadata><RequestId>ID</RequestId>` +
				`</ResponseMetadata></DescribeTagsResponse>`,
		},
	}
	tw := newTwin(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			scope := tt.scope
			if scope == "" {
				scope = "iam"
			}
			status, body := send(t, signed(t, tw.url+tt.path, tt.form, scope, tt.change))
			if d := cmp.Diff(tt.want, anyID.ReplaceAllString(body, "ID")); d != "" || status != tt.status {
				t.Errorf("status is %d, want %d; body differs (-want +got):\n%s", status, tt.status, d)
			}
		})
	}
	if log := tw.logged.String(); !strings.Contains(log, "secret detail of our fault") ||
		!strings.Contains(log, "secret detail of our panic") || strings.Contains(log, testSecret) {
		t.Errorf("log is %s", log)
	}
}

func TestNoSignature(t *testing.T) {
	tw := newTwin(t)
	tests := []struct {
		name   string
		method string
		path   string
		body   string
		status int
		code   string
	}{
		{"not signed", "GET", "/?Action=ListUsers&Version=2010-05-08", "", 403, "<Code>MissingAuthenticationToken<"},
		{"nothing asked", "GET", "/", "", 400, "<Code>MissingAction<"},
		{"malformed query", "GET", "/?Action=%zz", "", 400, "<Code>MalformedQueryString<"},
		{"malformed body", "POST", "/", "Action=%zz", 400, "<Code>MalformedQueryString<"},
		{"other method", "PUT", "/", "", 405, "<Code>MethodNotAllowed<"},
		{"body too large", "POST", "/", strings.Repeat("a", DefaultMaxBody+1), 413, "<Code>RequestEntityTooLarge<"},
		{"two slashes", "GET", "//?Action=ListUsers", "", 403, "<Code>MissingAuthenticationToken<"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), tt.method, "http://h"+tt.path, strings.NewReader(tt.body))
			w := httptest.NewRecorder()
			tw.handler.ServeHTTP(w, r)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.code) {
				t.Errorf("answer is %d %s, want %d %s", w.Code, w.Body, tt.status, tt.code)
			}
		})
	}
	w := httptest.NewRecorder()
	tw.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/healthz", nil))
	if w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("health is %d %q", w.Code, w.Body)
	}
}

func TestIdentityErrors(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		iam    string
		ec2    string
		status [2]int
	}{
		{
			"unknown key", authn.Errorf(authn.CodeUnknownKey, "no"), "InvalidClientTokenId", "AuthFailure",
			[2]int{403, 401},
		},
		{
			"ended session", authn.Errorf(authn.CodeExpiredToken, "no"), "ExpiredToken", "RequestExpired",
			[2]int{403, 400},
		},
		{"our fault", errors.New("the store is on fire"), "InternalFailure", "InternalError", [2]int{500, 500}},
		{
			"no store", fmt.Errorf("read iam-keys/on fire: %w", store.ErrUnreachable), "ServiceUnavailable",
			"ServiceUnavailable", [2]int{503, 503},
		},
		{"time is up", context.DeadlineExceeded, "InternalFailure", "InternalError", [2]int{500, 500}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tw := newTwin(t, func(c *Config) { c.Identity = failing{tt.err} })
			for i, action := range []string{"ListUsers", "DescribeInstances"} {
				status, body := send(t, signed(t, tw.url, form("Action", action), "iam", nil))
				want := "<Code>" + []string{tt.iam, tt.ec2}[i] + "<"
				if status != tt.status[i] || !strings.Contains(body, want) || strings.Contains(body, "on fire") {
					t.Errorf("%s: answer is %d %s, want %d %s", action, status, body, tt.status[i], want)
				}
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Identify(context.Context, string, string) (string, authn.Caller, error) {
	return "", authn.Caller{}, f.err
}

func TestRecord(t *testing.T) {
	now := time.Now()
	tw := newTwin(t, func(c *Config) { c.Clock = func() time.Time { return now } })
	key := "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n-----END PRIVATE KEY-----"
	send(t, signed(t, tw.url, form("Action", "UploadServerCertificate", "Version", "2010-05-08", "CertificateBody",
		"cert"+strings.Repeat("x", 500), "CertificateChain", key, "PrivateKey", key, "ServerCertificateName", "www"),
		"iam", nil))
	events := tw.events(t)
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	got := events[0].Attributes
	if got["requestId"] == "" || got["userAgent"] == "" {
		t.Errorf("attributes are %v", got)
	}
	delete(got, "requestId")
	delete(got, "userAgent")
	want := map[string]string{
		"action": "iam:UploadServerCertificate", "status": "200", "durationMs": "0.000", "sourceIp": "127.0.0.1",
		"caller": "arn:aws:iam::123456789012:root", "accessKeyId": testKey,
		"params": form("CertificateBody", "cert"+strings.Repeat("x", 500), "CertificateChain", model.Secret, "PrivateKey",
			model.Secret, "ServerCertificateName", "www").Encode(),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if events[0].Kind != "api.request" || strings.Contains(tw.lines.String(), "c2VjcmV0") {
		t.Errorf("event is %s", tw.lines.String())
	}
}

func TestRecordOfFaults(t *testing.T) {
	tw := newTwin(t)
	send(t, signed(t, tw.url, form("Action", "GetUser", "Version", "2010-05-08"), "iam", nil))
	send(t, signed(t, tw.url, form("Action", "Nonsense"), "iam", nil))
	events := tw.events(t)
	if len(events) != 2 {
		t.Fatalf("%d events, want 2", len(events))
	}
	if a := events[0].Attributes; a["code"] != "InternalFailure" || a["cause"] != "secret detail of our fault" {
		t.Errorf("first event is %v", a)
	}
	if a := events[1].Attributes; a["code"] != "InvalidAction" || a["action"] != "Nonsense" || a["status"] != "400" {
		t.Errorf("second event is %v", a)
	}
}

// TestHandlerEndsInTime: a request whose time is up is one to try again. Whoever asked is told no more than that.
func TestHandlerEndsInTime(t *testing.T) {
	tw := newTwin(t, func(c *Config) {
		c.RequestTimeout = time.Millisecond
		c.Trouble = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return fmt.Errorf("read iam-users/on fire: %w", ctx.Err())
		}
	})
	for _, action := range []string{"ListUsers", "DescribeInstances"} {
		status, body := send(t, signed(t, tw.url, form("Action", action), "iam", nil))
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "<Code>ServiceUnavailable<") ||
			strings.Contains(body, "on fire") {
			t.Errorf("%s: answer is %d %s", action, status, body)
		}
	}
	if !strings.Contains(tw.logged.String(), "on fire") {
		t.Error("the log does not tell what the request waited for")
	}
}

// TestOverdue tells the end of a request's time from all else that ends.
func TestOverdue(t *testing.T) {
	ended, cancel := context.WithDeadlineCause(t.Context(), time.Unix(0, 0), errOverdue)
	defer cancel()
	running, stop := context.WithTimeoutCause(t.Context(), time.Hour, errOverdue)
	defer stop()
	left, leave := context.WithTimeoutCause(t.Context(), time.Hour, errOverdue)
	leave() // as the client's own context does
	late := fmt.Errorf("get: %w", context.DeadlineExceeded)
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		err    error
		status int
	}{
		{"time is up", ended, late, http.StatusServiceUnavailable},
		{"within a 5xx of a handler's", ended, &model.Error{Status: 500, Code: "X", Cause: late}, 503},
		{"another answer, made too late", ended, model.Errorf("NoSuchEntity", http.StatusNotFound, "none"), 404},
		{"our fault, told too late", ended, errors.New("on fire"), http.StatusInternalServerError},
		{"the time of a part", running, late, http.StatusInternalServerError},
		{"the client has gone", left, fmt.Errorf("get: %w", left.Err()), statusClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if f := newFault(overdue(tt.ctx, tt.err), nil); f.status != tt.status {
				t.Errorf("fault is %+v, want %d", f, tt.status)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	err := Config{
		MaxBody: -1, RequestTimeout: -1, Services: []Binding{
			{},
			{
				Service: iammodel.Service(), Operations: iammodel.Operations(),
				SelfAuthorized: map[string]bool{"Nope": true},
				Raw:            map[string]RawHandler{"CreateUser": nil, "Twice": nil},
			},
			{
				Service: iammodel.Service(), Handlers: iammodel.Handlers(&iamFake{}),
				Raw: map[string]RawHandler{"Twice": nil},
			},
		},
	}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"no identity source", "no authorizer", "largest body is -1", "request timeout is -1ns", "service 0 has no name",
		"self-authorized Nope", "raw operation CreateUser exists already", "raw operation Twice exists already in iam",
		"handler ListUsers is no operation",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}
