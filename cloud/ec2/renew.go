package ec2

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// The journal's events of identities; the subject is the instance.
const (
	eventRenewal       = "ec2.identity_renewal"        // a new LBCERT is on its way: serial, why
	eventRenewed       = "ec2.identity_renewed"        // the guest has it: serial, replaced
	eventRenewalFailed = "ec2.identity_renewal_failed" // the guest does not have it: reason, retryAt
	eventExpired       = "ec2.identity_expired"        // nothing renewed it in time; the instance ends
	eventRevoked       = "ec2.identity_revoked"        // the operator withdrew it: by, reason
)

// Why something is to be done about an instance's LBCERT.
const (
	whyExpiring   = "it ends soon"
	whyStale      = "another IAMCERT signs now"
	whyWanted     = "the operator asked for it"
	whyRetry      = "the guest did not take the last one"
	whyUnrecorded = "it is not on record"
	whyExpired    = "it has ended"
)

const (
	// renewers is how many LBCERTs are renewed at the same time.
	renewers = 4
	// lookAgain is the longest that the loop sleeps: the clock may have been set meanwhile.
	lookAgain = time.Minute
)

// renewals knows when each instance's LBCERT needs something next. Only the loop uses it, but for wake.
type renewals struct {
	queue dueQueue
	byID  map[string]*dueItem
	wake  chan struct{}
}

func (r *renewals) init() {
	r.byID = map[string]*dueItem{}
	r.wake = make(chan struct{}, 1)
}

// set notes when an instance is due; the zero time: never.
func (r *renewals) set(id string, at time.Time) {
	item := r.byID[id]
	switch {
	case at.IsZero() && item == nil:
	case at.IsZero():
		heap.Remove(&r.queue, item.index)
		delete(r.byID, id)
	case item == nil:
		item = &dueItem{id: id, at: at}
		r.byID[id] = item
		heap.Push(&r.queue, item)
	default:
		item.at = at
		heap.Fix(&r.queue, item.index)
	}
}

// due takes out the instances that are due.
func (r *renewals) due(now time.Time) (ids []*dueItem) {
	for len(r.queue) > 0 && !r.queue[0].at.After(now) {
		item := heap.Pop(&r.queue).(*dueItem) //nolint:forcetypeassert // the queue holds nothing else
		delete(r.byID, item.id)
		ids = append(ids, item)
	}
	return ids
}

// RenewStale has every LBCERT looked at again: those that another IAMCERT signed than the one that signs now are
// renewed. Whoever changes the IAMCERT that signs calls it. It returns at once.
func (s *Service) RenewStale() {
	select {
	case s.renewals.wake <- struct{}{}:
	default:
	}
}

// renewLoop renews LBCERTs in time, and ends the instances whose LBCERT nothing renewed, until Close.
func (s *Service) renewLoop() {
	sub, stop := s.view.subscribe("")
	defer stop()
	s.noteAll()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-sub.wake:
			for _, id := range sub.take() {
				s.note(id)
			}
		case <-s.renewals.wake:
			s.noteAll()
		case <-timer.C:
		}
		s.renewDue(s.ctx)
		pause := lookAgain
		if q := s.renewals.queue; len(q) > 0 {
			pause = min(pause, max(q[0].at.Sub(s.cfg.Clock()), 0))
		}
		timer.Reset(pause)
	}
}

func (s *Service) noteAll() {
	for _, e := range s.view.everything() {
		s.note(e.inst.ID)
	}
}

// note looks when an instance is due.
func (s *Service) note(id string) {
	var at time.Time
	if e, ok := s.view.get(id); ok {
		at, _ = s.dueAt(&e.inst)
	}
	s.renewals.set(id, at)
}

// dueAt says when something is to be done about an instance's LBCERT, and why; the zero time: nothing ever.
func (s *Service) dueAt(inst *Instance) (at time.Time, why string) {
	if !inst.State.live() || !inst.hasIdentity() {
		return time.Time{}, ""
	}
	id := inst.Identity
	switch {
	case id == nil:
		return inst.LaunchTime, whyUnrecorded
	case !id.RetryAt.IsZero():
		at, why = id.RetryAt, whyRetry
	case id.Next != nil:
		at, why = id.Next.renewAt(), whyExpiring
	case id.Current == nil:
		return inst.LaunchTime, whyUnrecorded
	default:
		at, why = s.currentDue(inst)
	}
	// The guest ends by itself then; this is for one that cannot, or does not know the rule.
	if id.Current != nil {
		if end := id.Current.NotAfter.Add(expiryGrace); !at.Before(end) || !s.cfg.Clock().Before(end) {
			return end, whyExpired
		}
	}
	return at, why
}

// currentDue is dueAt for an instance with no renewal under way.
func (s *Service) currentDue(inst *Instance) (at time.Time, why string) {
	id := inst.Identity
	// While the first medium is in the drive another one would take its place, perhaps under the guest's hands. An
	// original guest's stays for ever.
	settled := inst.Credential == nil || id.Profile == keydelivery.Profile1
	switch {
	case settled && id.Wanted:
		return id.Current.Issued, whyWanted
	case settled && s.stale(id):
		return id.Current.Issued, whyStale
	}
	return id.Current.renewAt(), whyExpiring
}

// stale says whether another IAMCERT than the one that signs now signed the current LBCERT.
func (s *Service) stale(id *Identity) bool {
	iamCert, err := s.cfg.IAM.IAMCertificateOf(id.Profile)
	return err == nil && issuerOf(iamCert) != id.Current.Issuer
}

// renewDue does what is due.
func (s *Service) renewDue(ctx context.Context) {
	due := s.renewals.due(s.cfg.Clock())
	if len(due) == 0 {
		return
	}
	group := errgroup.Group{}
	group.SetLimit(renewers)
	again := make([]time.Time, len(due))
	for n, item := range due {
		group.Go(func() error {
			again[n] = s.renewOne(ctx, item)
			return nil
		})
	}
	_ = group.Wait() // they return none
	for n, item := range due {
		if s.note(item.id); !again[n].IsZero() {
			s.renewals.set(item.id, again[n])
			if kept := s.renewals.byID[item.id]; kept != nil {
				kept.failures = item.failures
			}
		}
	}
}

// renewOne does what is due for one instance. It returns when to try again, or the zero time when it is done: then
// what comes next is in the record.
func (s *Service) renewOne(ctx context.Context, item *dueItem) (again time.Time) {
	e, ok := s.view.get(item.id)
	if !ok {
		return time.Time{}
	}
	now := s.cfg.Clock()
	at, why := s.dueAt(&e.inst)
	var err error
	switch {
	case at.IsZero() || at.After(now):
		return time.Time{}
	case why == whyExpired:
		err = s.expire(ctx, item.id)
	default:
		err = s.renew(ctx, &e.inst, why)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, store.ErrNotFound) {
		return time.Time{}
	}
	id := e.inst.knownIdentity(s.images)
	item.failures++
	again = now.Add(id.backoff(item.failures))
	s.record(ctx, eventRenewalFailed, item.id, map[string]string{"why": why, "reason": err.Error(),
		"retryAt": stamp(again)})
	return again
}

// renew makes a new LBPK and LBCERT for a running instance and has its node write them on a new medium.
func (s *Service) renew(ctx context.Context, old *Instance, why string) error {
	now := s.cfg.Clock()
	id := old.knownIdentity(s.images)
	node, err := s.cfg.Placement.Certificate(ctx, old.NodeID)
	if err != nil {
		return fmt.Errorf("renew LBCERT of %s: %w", old.ID, err)
	}
	sealed, cert, err := s.newCredential(ctx, id.Profile, recipient{old.NodeID, node}, old.ID, s.lifeFor(old, id.Life))
	if err != nil {
		return fmt.Errorf("renew LBCERT of %s: %w", old.ID, err)
	}
	// An LBCERT ends with its IAMCERT.
	if current := id.Current; why == whyExpiring && current != nil && !cert.NotAfter.After(current.NotAfter) {
		return fmt.Errorf("renew LBCERT of %s: the new one would end at %s with its IAMCERT, no later than the one before; "+
			"rotate IAMCERT first", old.ID, stamp(cert.NotAfter))
	}
	renewed := false
	inst, err := s.update(ctx, old.ID, func(_ *store.Tx, inst *Instance) error {
		renewed = false
		// Another replica may have been faster, or the instance may have ended.
		if at, why := s.dueAt(inst); at.IsZero() || at.After(now) || why == whyExpired {
			return errUnchanged
		}
		id := inst.identity(s.images)
		id.Next, id.RetryAt, id.Wanted = cert, time.Time{}, false
		inst.Credential = sealed
		inst.Generation++
		renewed = true
		return nil
	})
	if err != nil || !renewed {
		return err
	}
	attributes := map[string]string{"why": why, "serial": cert.Serial, "notAfter": stamp(cert.NotAfter),
		"node": inst.NodeID}
	if current := inst.Identity.Current; current != nil {
		attributes["replaces"] = current.Serial
	}
	s.record(ctx, eventRenewal, inst.ID, attributes)
	return nil
}

// expire ends an instance whose LBCERT has ended and that did not end by itself.
func (s *Service) expire(ctx context.Context, instanceID string) error {
	now, expired := s.cfg.Clock(), false
	inst, err := s.update(ctx, instanceID, func(_ *store.Tx, inst *Instance) error {
		at, why := s.dueAt(inst)
		if expired = why == whyExpired && !at.After(now); !expired {
			return errUnchanged
		}
		inst.shutDown(StateReason{Code: reasonServer, Message: "identity expired, and the guest did not end by itself"})
		return nil
	})
	if err == nil && expired {
		s.recordExpiry(ctx, &inst)
		s.recordState(ctx, inst)
	}
	return err
}

func (s *Service) recordExpiry(ctx context.Context, inst *Instance) {
	current := inst.Identity.Current
	s.record(ctx, eventExpired, inst.ID, map[string]string{"serial": current.Serial,
		"notAfter": stamp(current.NotAfter), "node": inst.NodeID})
}

// dueItem is an instance in the queue.
type dueItem struct {
	id       string
	at       time.Time
	failures int // of this process, in a row
	index    int
}

// dueQueue is a heap of instances by when they are due.
type dueQueue []*dueItem

func (q dueQueue) Len() int { return len(q) }

func (q dueQueue) Less(a, b int) bool {
	return cmp.Or(q[a].at.Compare(q[b].at), cmp.Compare(q[a].id, q[b].id)) < 0
}

func (q dueQueue) Swap(a, b int) {
	q[a], q[b] = q[b], q[a]
	q[a].index, q[b].index = a, b
}

func (q *dueQueue) Push(x any) {
	item := x.(*dueItem) //nolint:forcetypeassert // see due
	item.index = len(*q)
	*q = append(*q, item)
}

func (q *dueQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}
