package ec2

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// TerminateInstances ends instances; asking again changes nothing. If one of the ids is wrong, none is touched.
func (s *Service) TerminateInstances(ctx context.Context,
	in *ec2model.TerminateInstancesInput) (*ec2model.TerminateInstancesOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.selectInstances(caller, in.InstanceIds)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2model.TerminateInstancesOutput{}
	for _, e := range list {
		before, after, err := s.shutDown(ctx, e.inst.ID)
		if err != nil {
			return nil, err
		}
		out.TerminatingInstances = append(out.TerminatingInstances, ec2model.InstanceStateChange{
			InstanceId: model.Ptr(e.inst.ID), PreviousState: wireState(before), CurrentState: wireState(after),
		})
	}
	return out, nil
}

// shutDown begins the end of an instance: its node is told, and says when the guest is gone.
func (s *Service) shutDown(ctx context.Context, id string) (before, after State, err error) {
	changed := false
	inst, err := s.update(ctx, id, func(_ *store.Tx, inst *Instance) error {
		before, changed = inst.State, inst.State.live()
		if !changed {
			return errUnchanged
		}
		inst.shutDown(StateReason{Code: reasonUser, Message: "User initiated shutdown"})
		inst.Trace = cmp.Or(journal.Traceparent(ctx), inst.Trace)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) { // purged a moment ago
		return Terminated, Terminated, nil
	}
	if err == nil && changed {
		s.recordState(ctx, inst)
	}
	return before, inst.State, err
}

// shutDown has the node end the guest.
func (i *Instance) shutDown(reason StateReason) {
	i.State, i.Reason, i.Credential = ShuttingDown, reason, nil
}

// finish makes inst terminated as part of tx and gives back what it held. A reason that is there already stays.
func (s *Service) finish(tx *store.Tx, inst *Instance, reason StateReason) error {
	if inst.State == Terminated {
		return errUnchanged
	}
	if err := s.cfg.Placement.Release(tx, inst.NodeID, inst.need()); err != nil {
		return err
	}
	for _, address := range inst.addresses() {
		if err := s.addresses.In(tx).Delete(address); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	if inst.Reason.Code == "" {
		inst.Reason = reason
	}
	inst.State = Terminated
	inst.TerminatedAt = s.cfg.Clock()
	inst.PrivateIP, inst.PublicIP, inst.MAC = "", "", ""
	inst.Credential, inst.UserData, inst.Exposures = nil, nil, nil
	return nil
}

// end finishes one instance by id.
func (s *Service) end(ctx context.Context, id string, reason StateReason) error {
	changed := false
	inst, err := s.update(ctx, id, func(tx *store.Tx, inst *Instance) error {
		changed = inst.State != Terminated
		return s.finish(tx, inst, reason)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil && changed {
		s.recordState(ctx, inst)
	}
	return err
}

// forget removes a terminated instance's record and its client token. What it took stays, in its account's usage.
func (s *Service) forget(ctx context.Context, inst Instance) error {
	return s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
		if inst.ClientToken != "" {
			err := s.tokens.In(tx).Delete(tokenKey(inst.AccountID, inst.ClientToken))
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		err := s.instances.In(tx).Delete(inst.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		return s.account(tx, &inst)
	})
}

func (s *Service) sweepLoop() {
	s.endOrphans(s.ctx)
	tick := time.NewTicker(min(time.Minute, max(s.cfg.TerminatedRetention/4, 10*time.Millisecond)))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Sweep(s.ctx)
			s.endOrphans(s.ctx)
		case <-s.ctx.Done():
			return
		}
	}
}

// revokedRetention is how long a revoked instance is remembered at least: as long as role credentials of it may live.
const revokedRetention = 12 * time.Hour

// Sweep forgets the instances that were terminated longer than Config.TerminatedRetention ago, and those whose identity
// was revoked half a day ago. The service calls it by itself from time to time.
func (s *Service) Sweep(ctx context.Context) {
	now := s.cfg.Clock()
	for _, e := range s.view.everything() {
		keep := s.cfg.TerminatedRetention
		if e.inst.revoked() {
			keep = max(keep, revokedRetention)
		}
		if e.inst.State == Terminated && now.Sub(e.inst.TerminatedAt) >= keep {
			if err := s.forget(ctx, e.inst); err != nil {
				return
			}
		}
	}
}
