package ec2

import (
	"context"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Adopt starts an instance of another cloud's records anew under its own id, on the node of its name, with the address
// that it had there. It is for replays. An instance that has ended is only put among the records.
func (s *Service) Adopt(ctx context.Context, inst Instance) error {
	inst.Credential, inst.Identity, inst.Trace = nil, nil, ""
	inst.Version, inst.Generation = 1, 1
	if !inst.State.live() {
		inst.State = Terminated
	} else {
		inst.State, inst.Reason, inst.ConsolePath, inst.Milestones = Pending, StateReason{}, "", nil
		// Its public address may be that of a cloud on this host.
		inst.PublicIP, inst.Exposures = "", nil
		if err := s.giveKeyPair(&inst, &KeyPair{Name: inst.KeyName, PublicKey: inst.PublicKey}); err != nil {
			return fmt.Errorf("adopt instance %s: %w", inst.ID, err)
		}
	}
	revision, err := s.cfg.Store.TxnRevision(ctx, func(tx *store.Tx) error {
		if inst.State == Pending {
			if err := s.cfg.Placement.Reserve(tx, inst.NodeID, inst.need()); err != nil {
				return err
			}
			if err := s.takeAddresses(tx, &inst); err != nil {
				return err
			}
		}
		return s.instances.In(tx).Create(inst.ID, inst)
	})
	if err != nil {
		return fmt.Errorf("adopt instance %s: %w", inst.ID, err)
	}
	s.view.put(inst, revision)
	if inst.State == Pending {
		s.recordLaunch(ctx, &inst)
	}
	return nil
}
