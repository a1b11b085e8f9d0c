package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// The journal's event of a reboot; the subject is the instance: reboots (so far), and of an LBVM the serial of the new
// LBCERT and of the one that it replaced.
const eventReboot = "ec2.instance_reboot"

// RebootInstances has the nodes of instances reboot them, and answers when that is noted down: an instance goes on
// being running, with its addresses, user data and metadata. If one of the ids is wrong, none is rebooted. An instance
// that has ended, or is about to, is passed over, as on EC2.
func (s *Service) RebootInstances(ctx context.Context,
	in *ec2model.RebootInstancesInput) (*ec2model.RebootInstancesOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.selectInstances(caller, in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.inst.State == Pending {
			return nil, model.Errorf("IncorrectInstanceState", http.StatusBadRequest,
				"The instance '%s' is not in a state from which it can be rebooted: it is pending", e.inst.ID)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	for _, e := range list {
		if err := s.reboot(ctx, &e.inst); err != nil {
			return nil, err
		}
	}
	return &ec2model.RebootInstancesOutput{}, nil
}

// Reboot has an instance of whatever account rebooted. The errors are ErrNotFound and ErrNotRunning.
func (s *Service) Reboot(ctx context.Context, instanceID string) error {
	e, ok := s.view.get(instanceID)
	switch {
	case !ok:
		return fmt.Errorf("reboot %s: %w", instanceID, ErrNotFound)
	case e.inst.State != Running:
		return fmt.Errorf("reboot %s: %w: the instance is %s", instanceID, ErrNotRunning, e.inst.State)
	}
	return s.reboot(ctx, &e.inst)
}

// reboot has the node of an instance reboot it. A reboot leaves nothing in the guest's memory, and an LBVM's LBPK is
// nowhere else: it gets a new one, and the LBCERT of the old one is refused from then on.
func (s *Service) reboot(ctx context.Context, old *Instance) error {
	if old.State != Running {
		return nil
	}
	var sealed *keydelivery.Credential
	var cert *LBCert
	if old.hasIdentity() {
		id := old.knownIdentity(s.images)
		node, err := s.cfg.Placement.Certificate(ctx, old.NodeID)
		if err == nil {
			sealed, cert, err = s.newCredential(ctx, id.Profile, recipient{old.NodeID, node}, old.ID,
				s.lifeFor(old, id.Life))
		}
		if err != nil {
			return fmt.Errorf("reboot %s: make its new LBCERT: %w", old.ID, err)
		}
	}
	attributes := map[string]string{}
	inst, err := s.update(ctx, old.ID, func(_ *store.Tx, inst *Instance) error {
		clear(attributes)
		if inst.State != Running {
			return errUnchanged
		}
		inst.Reboots++
		inst.Generation++
		attributes["reboots"], attributes["node"] = strconv.FormatUint(inst.Reboots, 10), inst.NodeID
		if cert != nil {
			id := inst.identity(s.images)
			if id.Current != nil {
				attributes["replaced"] = id.Current.Serial
			}
			attributes["serial"] = cert.Serial
			id.replace(cert)
			inst.Credential = sealed
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) { // purged a moment ago
		return nil
	}
	if err == nil && len(attributes) > 0 {
		s.record(ctx, eventReboot, inst.ID, attributes)
	}
	return err
}

// replace makes cert the only LBCERT that is good, whatever was under way.
func (id *Identity) replace(cert *LBCert) {
	id.Current, id.Next = cert, nil
	id.Failures, id.RetryAt, id.Wanted = 0, time.Time{}, false
}
