package elb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func (s *Service) reconcileLoop() {
	for {
		key, ok := s.queue.next()
		if !ok {
			return
		}
		err := s.reconcile(s.ctx, key)
		s.queue.done(key)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			pause := s.guests.failed(key, s.cfg)
			s.journal(s.ctx, "elb.reconcile_failed", key, map[string]string{
				"reason": err.Error(), "retryIn": pause.String(),
			})
			s.queue.addAfter(key, pause)
		default:
			s.guests.succeeded(key)
		}
	}
}

// reconcile makes what there is of a load balancer be what its record says. It may be called at any time, and
// again after it failed at any step.
func (s *Service) reconcile(ctx context.Context, key string) error {
	defer s.locks.lock(key)()
	lb, err := s.records.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		s.guests.forget(key)
		return s.endStrays(ctx, key, nil)
	}
	if err != nil {
		return err
	}
	ctx = journal.Begin(journal.Join(ctx, lb.Trace))
	if lb.Deleting {
		return s.remove(ctx, &lb)
	}
	if !lb.Prepared {
		if err := s.prepare(ctx, &lb); err != nil {
			return err
		}
	}
	if err := s.settleGrants(ctx, &lb); err != nil {
		return err
	}
	if err := s.pruneGrants(ctx, &lb); err != nil {
		return err
	}
	if err := s.dropEndedBackends(ctx, &lb); err != nil {
		return err
	}
	if err := s.keepLBVMs(ctx, &lb); err != nil {
		return err
	}
	if err := s.endStrays(ctx, key, lb.LBVMs); err != nil {
		return err
	}
	return s.expose(ctx, &lb)
}

// dropEndedBackends deregisters instances that were terminated, as AWS does.
func (s *Service) dropEndedBackends(ctx context.Context, lb *LoadBalancer) error {
	var ended []string
	for _, id := range lb.Backends {
		inst, err := s.cfg.EC2.Instance(ctx, id)
		if errors.Is(err, ec2.ErrNotFound) || (err == nil && inst.State == ec2.Terminated) {
			ended = append(ended, id)
		} else if err != nil {
			return fmt.Errorf("look at back-end instance %s: %w", id, err)
		}
	}
	if len(ended) == 0 {
		return nil
	}
	return s.rewrite(ctx, lb, func(lb *LoadBalancer) error {
		lb.Backends = slices.DeleteFunc(lb.Backends, func(id string) bool { return slices.Contains(ended, id) })
		return nil
	})
}

// rewrite changes the record and the copy in hand.
func (s *Service) rewrite(ctx context.Context, lb *LoadBalancer, change func(*LoadBalancer) error) error {
	updated, err := s.update(ctx, lb.key(), lb.Name, change)
	if err != nil {
		return err
	}
	*lb = updated
	return nil
}

// follow feeds the view and the queue until Close: records, instances, certificates.
func (s *Service) follow() error {
	initial, changes, err := s.records.Watch(s.ctx, "")
	if err != nil {
		return fmt.Errorf("watch load balancers: %w", err)
	}
	instances, err := s.cfg.EC2.WatchInstances(s.ctx)
	if err != nil {
		return fmt.Errorf("watch instances: %w", err)
	}
	certificates, err := s.cfg.IAM.WatchServerCertificates(s.ctx)
	if err != nil {
		return fmt.Errorf("watch server certificates: %w", err)
	}
	s.takeAll(initial)
	s.done.Go(func() { s.followRecords(changes) })
	s.done.Go(func() {
		forEach(s, instances, s.cfg.EC2.WatchInstances, s.noteInstance, func() {})
	})
	s.done.Go(func() {
		forEach(s, certificates, s.cfg.IAM.WatchServerCertificates, func(arn string) {
			for _, key := range s.view.naming(arn) {
				s.view.wake(key)
			}
		}, s.view.wakeAll)
	})
	return nil
}

func (s *Service) takeAll(records []LoadBalancer) {
	for _, key := range s.view.reset(records) {
		s.queue.add(key)
	}
}

func (s *Service) followRecords(changes <-chan store.Change[LoadBalancer]) {
	for {
		for c := range changes {
			s.view.set(c.Key, c.Value)
			if c.Value != nil {
				s.health.forget(c.Value)
			}
		}
		// The watch fell behind or lost its server. Begin it anew.
		for {
			if !s.pause(s.cfg.RetryMin) {
				return
			}
			initial, next, err := s.records.Watch(s.ctx, "")
			if err == nil {
				s.takeAll(initial)
				changes = next
				break
			}
		}
	}
}

// forEach calls use for all that a watch sends. When the watch ends before the service does, changes may have been
// lost: it begins the watch anew and calls renewed.
func forEach[T any](s *Service, in <-chan T, again func(context.Context) (<-chan T, error), use func(T),
	renewed func()) {
	for {
		for value := range in {
			use(value)
		}
		for {
			if !s.pause(s.cfg.RetryMin) {
				return
			}
			next, err := again(s.ctx)
			if err == nil {
				in = next
				renewed()
				break
			}
			s.journal(s.ctx, "elb.watch_failed", "", map[string]string{"reason": err.Error()})
		}
	}
}

// pause waits; false when the service has ended.
func (s *Service) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return s.ctx.Err() == nil
	case <-s.ctx.Done():
		return false
	}
}

func (s *Service) journal(ctx context.Context, kind, key string, attributes map[string]string) {
	s.cfg.Journal.Record(ctx, journal.Event{Time: s.cfg.Clock(), Kind: kind, Subject: key, Attributes: attributes})
}
