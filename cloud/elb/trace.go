package elb

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// causedBy notes down the request that changes the load balancer, so that what follows from it goes on in its trace.
// The service's own changes follow from what is noted already. A load balancer's first guest follows from its
// creation, also when it was changed before that guest was launched.
func (lb *LoadBalancer) causedBy(ctx context.Context) {
	beingMade := lb.Trace != "" && lb.Launches == 0 && !lb.Deleting
	if account(ctx) != "" && !beingMade {
		lb.Trace = journal.Traceparent(ctx)
	}
}
