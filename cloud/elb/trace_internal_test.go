package elb

import (
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

func TestFirstGuestFollowsFromTheCreation(t *testing.T) {
	user := authn.WithCaller(t.Context(), authn.Caller{AccountID: "123456789012"})
	tests := map[string]struct {
		before  LoadBalancer
		service bool // the change is the service's own
		follows bool
	}{
		"creation":                    {follows: true},
		"change before the launch":    {before: LoadBalancer{Trace: "made"}},
		"change after the launch":     {before: LoadBalancer{Trace: "made", Launches: 1}, follows: true},
		"deletion before the launch":  {before: LoadBalancer{Trace: "made", Deleting: true}, follows: true},
		"the service's own change":    {before: LoadBalancer{Trace: "made", Launches: 1}, service: true},
		"the service's own first one": {service: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			caller := user
			if tt.service {
				caller = t.Context()
			}
			ctx := journal.Begin(caller)
			lb, want := tt.before, tt.before.Trace
			if tt.follows {
				want = journal.Traceparent(ctx)
			}
			if lb.causedBy(ctx); lb.Trace != want {
				t.Errorf("got %q, want %q", lb.Trace, want)
			}
		})
	}
}
