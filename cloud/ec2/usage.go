package ec2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Usage is what instances of an account took that have ended and are forgotten.
type Usage struct {
	// Instances are the account's own, and LoadBalancerVMs those that services ran for it.
	Instances       int
	LoadBalancerVMs int
	// InstanceTime and LoadBalancerTime are how long these were there, from launch to end, all together.
	InstanceTime     time.Duration
	LoadBalancerTime time.Duration
}

// usageRecord lies under the account.
type usageRecord struct {
	AccountID string
	Usage
}

// Add adds an instance that lasted so long.
func (u *Usage) Add(inst *Instance, lasted time.Duration) {
	if inst.OwnedFor != "" {
		u.LoadBalancerVMs++
		u.LoadBalancerTime += lasted
		return
	}
	u.Instances++
	u.InstanceTime += lasted
}

// Lasted is how long an instance has been there, from its launch to its end or, if it has not ended, to now.
func (i *Instance) Lasted(now time.Time) time.Duration {
	if i.State == Terminated && !i.TerminatedAt.IsZero() {
		now = i.TerminatedAt
	}
	return max(now.Sub(i.LaunchTime), 0)
}

// account adds an instance that is forgotten to what its account took, as part of tx.
func (s *Service) account(tx *store.Tx, inst *Instance) error {
	id, t := inst.Accounted(), s.usage.In(tx)
	rec, err := t.Get(id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	rec.AccountID = id
	rec.Add(inst, inst.Lasted(s.cfg.Clock()))
	return t.Put(id, rec)
}

// Forgotten returns, by account, what the instances took that Instances does not tell of any more: they ended longer
// ago than Config.TerminatedRetention. One that is being forgotten at this moment may be in both.
func (s *Service) Forgotten(ctx context.Context) (map[string]Usage, error) {
	recs, err := s.usage.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list the usage of accounts: %w", err)
	}
	out := make(map[string]Usage, len(recs))
	for _, r := range recs {
		out[r.AccountID] = r.Usage
	}
	return out, nil
}
