package elb

import (
	"context"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
)

// noteTimeout is the longest that a guest's question waits for its launch to be noted down.
const noteTimeout = 5 * time.Second

// awaitNoted waits until the record of the load balancer that the caller was launched for names it: a guest may be up
// and ask before the loop that launched it has written that down. It decides nothing; who may ask is checked after it.
func (s *Service) awaitNoted(ctx context.Context, instanceID string) {
	if _, noted := s.view.servedBy(instanceID); noted || authn.CallerFrom(ctx).InstanceID != instanceID {
		return
	}
	limit := time.NewTimer(noteTimeout)
	defer limit.Stop()
	for {
		inst, err := s.cfg.EC2.Instance(ctx, instanceID)
		if err != nil || !live(inst) || !s.ours(&inst) {
			return
		}
		changed := s.view.next(inst.Tags[ownerTag])
		// Asked after the channel was taken: what the view hears of from here on closes it.
		if _, noted := s.view.servedBy(instanceID); noted {
			return
		}
		if lb, err := s.records.Get(ctx, inst.Tags[ownerTag]); err != nil || lb.Deleting {
			s.view.wake(inst.Tags[ownerTag]) // nobody else would
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			return
		case <-s.ctx.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}
