package explain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/explain"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func event(kind string, pairs ...string) journal.Event {
	ev := journal.Event{Time: at, Kind: kind, Subject: "i-1", Attributes: map[string]string{"requestId": "r-1"}}
	for i := 0; i < len(pairs); i += 2 {
		ev.Attributes[pairs[i]] = pairs[i+1]
	}
	return ev
}

func TestText(t *testing.T) {
	tests := []struct {
		name   string
		events []journal.Event
		want   string
	}{
		{
			name: "delivery denied",
			events: []journal.Event{
				event("delivery.denied", "caller", "arn:role", "instance", "i-1", "arn", "arn:cert", "check", "4", "reason",
					"lbcert-of-other-instance", "detail", `LBCERT is of "i-2"`, "wanted", "a session of i-2"),
				event("api.request", "action", "iam:DownloadServerCertificate", "status", "403", "code", "NotAuthorized",
					"message", "The caller is not authorized."),
			},
			want: `request r-1
  time        2026-03-04T05:06:07Z
  action      iam:DownloadServerCertificate
  resource    arn:cert
  caller      arn:role
  instance    i-1
  answered    403 NotAuthorized
  denied by   check 4 of 9: LBCERT's CN is the instance whose role session calls
  reason      lbcert-of-other-instance
  found       LBCERT is of "i-2"
  would pass  a session of i-2
`,
		},
		{
			name: "signature",
			events: []journal.Event{event("api.request", "action", "iam:ListUsers", "status", "403", "code", "ExpiredToken",
				"message", "The session has ended.")},
			want: `request r-1
  time        2026-03-04T05:06:07Z
  action      iam:ListUsers
  answered    403 ExpiredToken
  denied by   HTTP signature (check 1 of a delivery): the session has not ended
  reason      ExpiredToken
  found       The session has ended.
  would pass  new credentials of the role, from the metadata service
`,
		},
		{
			name: "signature of a delivery, in the audit and in the front door's record",
			events: []journal.Event{
				event("delivery.denied", "arn", "arn:cert", "check", "1", "reason", "ExpiredToken", "detail", "It has ended."),
				event("api.request", "action", "iam:DownloadServerCertificate", "status", "403", "code", "ExpiredToken",
					"message", "The session has ended."),
			},
			want: `request r-1
  time        2026-03-04T05:06:07Z
  action      iam:DownloadServerCertificate
  resource    arn:cert
  answered    403 ExpiredToken
  denied by   HTTP signature (check 1 of a delivery): the session has not ended
  reason      ExpiredToken
  found       It has ended.
  would pass  new credentials of the role, from the metadata service
`,
		},
		{
			name: "signature of a delivery, when only the audit is left",
			events: []journal.Event{event("delivery.denied", "arn", "arn:cert", "check", "1", "reason", "ExpiredToken",
				"detail", "It has ended.")},
			want: `request r-1
  time        2026-03-04T05:06:07Z
  resource    arn:cert
  denied by   check 1 of 9: the HTTP signature is that of a known access key
  reason      ExpiredToken
  found       It has ended.
`,
		},
		{
			name: "too large",
			events: []journal.Event{event("api.request", "action", "none", "status", "413", "code", "RequestEntityTooLarge",
				"message", "The request is larger than 1048576 bytes")},
			want: `request r-1
  time        2026-03-04T05:06:07Z
  action      none
  answered    413 RequestEntityTooLarge
  denied by   form of the request (before check 1 of a delivery): the request is no larger than any of these APIs is
  reason      RequestEntityTooLarge
  found       The request is larger than 1048576 bytes
  would pass  a body of at most 1 MB
`,
		},
		{
			name: "policy",
			events: []journal.Event{
				event("policy.denied", "action", "iam:GetUser", "resource", "arn:user", "verdict", "implicit deny", "explanation",
					`{"decision":{},"action":"iam:GetUser","resource":"arn:user","policies":[{"stage":"identity-based policy",`+
						`"policy":"inline","statements":[{"index":0,"effect":"Allow","action":true}]}],"needed":["a statement"]}`),
				event("api.request", "action", "iam:GetUser", "status", "403", "code", "AccessDenied", "caller", "arn:alice"),
			},
			want: `request r-1
  time        2026-03-04T05:06:07Z
  action      iam:GetUser
  resource    arn:user
  caller      arn:alice
  answered    403 AccessDenied
  denied by   IAM policy: the caller's policies allow the action on the resource
  reason      implicit deny
  policy      inline (identity-based policy)
    statement 0 Allow: action yes, resource no, principal no, applies: no
  needed      a statement
`,
		},
		{
			name: "servo",
			events: []journal.Event{event("elb.servo_denied", "caller", "arn:role", "reason", "not itself", "wanted", "itself"),
				event("api.request", "action", "elasticloadbalancing:PutServoStates", "status", "403", "code", "AccessDenied")},
			want: `request r-1
  time        2026-03-04T05:06:07Z
  action      elasticloadbalancing:PutServoStates
  caller      arn:role
  instance    i-1
  answered    403 AccessDenied
  denied by   servo: only the instance itself asks what it is to serve, with its load balancer's role
  reason      not itself
  found       not itself
  would pass  itself
`,
		},
		{
			name:   "allowed",
			events: []journal.Event{event("api.request", "action", "iam:ListUsers", "status", "200", "caller", "arn:root")},
			want: `request r-1
  time        2026-03-04T05:06:07Z
  action      iam:ListUsers
  caller      arn:root
  answered    200
  decision    allowed
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := explain.Of(tt.events)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if err := e.Write(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, dropFound(tt.name, got.String())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := explain.Of(nil); !errors.Is(err, explain.ErrUnknown) {
		t.Errorf("no events: %v, want ErrUnknown", err)
	}
}

// dropFound leaves out the policy engine's own words, which its tests cover.
func dropFound(name, text string) string {
	if name != "policy" {
		return text
	}
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "  found") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
