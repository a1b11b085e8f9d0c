package elb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
)

// ownerTag is on every LBVM and holds its load balancer's key.
const ownerTag = "cloudtwin:load-balancer"

// Bounds of Config.LBCertLife.
const (
	MinLBCertLife = 30 * time.Second // renewed when a tenth of it is left: three seconds for a guest to read a medium
	MaxLBCertLife = keydelivery.MaxDays * 24 * time.Hour
)

func (c Config) checkLBCertLife() error {
	if l := c.LBCertLife; l != 0 && (l < MinLBCertLife || l > MaxLBCertLife) {
		return fmt.Errorf("elb: LBCertLife is %s, must be %s to %s", l, MinLBCertLife, MaxLBCertLife)
	}
	return nil
}

// credentialDays is what the keyword says of LBCERT's validity, in whole days; LBCertLife says the rest.
func (c Config) credentialDays() int {
	const day = 24 * time.Hour
	return int((c.LBCertLife + day - 1) / day)
}

// payload is the user data of an LBVM of ours, for whoever looks at the instance; the guest asks elb for all that it
// needs.
type payload struct {
	LoadBalancer string `json:"loadBalancer"`
	Account      string `json:"account"`
}

// keepLBVMs notes down LBVMs that ended, ends those that are too many and launches those that are missing.
func (s *Service) keepLBVMs(ctx context.Context, lb *LoadBalancer) error {
	var ended []string
	for _, vm := range lb.LBVMs {
		inst, err := s.cfg.EC2.Instance(ctx, vm.InstanceID)
		switch {
		case errors.Is(err, ec2.ErrNotFound), err == nil && !live(inst):
			ended = append(ended, vm.InstanceID)
			s.guests.lived(lb.key(), vm, s.cfg)
		case err != nil:
			return fmt.Errorf("look at LBVM %s: %w", vm.InstanceID, err)
		}
	}
	if len(ended) > 0 {
		if err := s.rewrite(ctx, lb, func(lb *LoadBalancer) error {
			lb.LBVMs = slices.DeleteFunc(lb.LBVMs, func(vm LBVM) bool { return slices.Contains(ended, vm.InstanceID) })
			return nil
		}); err != nil {
			return err
		}
		for _, id := range ended {
			s.health.ended(id)
			s.journal(ctx, "elb.lbvm_ended", lb.key(), map[string]string{"instance": id})
		}
	}
	if len(lb.LBVMs) > s.cfg.Replicas {
		if err := s.rewrite(ctx, lb, func(lb *LoadBalancer) error {
			lb.LBVMs = lb.LBVMs[:min(len(lb.LBVMs), s.cfg.Replicas)]
			return nil
		}); err != nil {
			return err
		}
	}
	if len(lb.LBVMs) >= s.cfg.Replicas {
		return nil
	}
	if wait := s.guests.wait(lb.key(), s.cfg.Clock()); wait > 0 {
		s.queue.addAfter(lb.key(), wait)
		return nil
	}
	for len(lb.LBVMs) < s.cfg.Replicas {
		if err := s.launch(ctx, lb); err != nil {
			return err
		}
	}
	return nil
}

// payload returns the LBVM's user data without the keyword's line. An original guest finds the cloud by it.
func (s *Service) payload(lb *LoadBalancer) ([]byte, error) {
	if s.cfg.OriginalGuestAddress != "" {
		return servo.UserData(s.cfg.OriginalGuestAddress, lb.AccountID)
	}
	data, err := json.Marshal(payload{LoadBalancer: lb.Name, Account: lb.AccountID})
	if err != nil {
		return nil, fmt.Errorf("write user data: %w", err)
	}
	return data, nil
}

// launch starts one LBVM. The client token makes a launch that was not noted down, because the process ended in
// between, answer with the same instance.
func (s *Service) launch(ctx context.Context, lb *LoadBalancer) error {
	data, err := s.payload(lb)
	if err != nil {
		return err
	}
	var exposed []ec2.Exposure
	if len(lb.LBVMs) == 0 {
		exposed = exposures(lb, s.cfg.UnprivilegedPorts)
	}
	owner, err := s.ownerOf(ctx, lb.AccountID)
	if err != nil {
		return fmt.Errorf("launch LBVM: %w", err)
	}
	if err := s.actAs(ctx, owner, actionRun, "*", lb.key()); err != nil {
		return fmt.Errorf("launch LBVM: %w", err)
	}
	inst, err := s.cfg.EC2.Launch(ctx, ec2.Launch{
		AccountID: owner, System: true, OwnedFor: lb.AccountID, Hidden: owner == lb.AccountID,
		ProfileAccountID: s.profileAccount(owner),
		ImageName:        s.cfg.Image, InstanceType: s.cfg.InstanceType,
		UserData:            keydelivery.WithKeyword(s.cfg.credentialDays(), data),
		LBCertLife:          s.cfg.LBCertLife,
		InstanceProfileName: lb.roleName(),
		Tags:                map[string]string{"Name": lb.roleName(), ownerTag: lb.key()},
		ClientToken:         "elb-" + lb.ID + "-" + strconv.Itoa(lb.Launches),
		Exposures:           exposed,
	})
	spent := hasCode(err, "IdempotentParameterMismatch")
	if err != nil && !spent {
		return fmt.Errorf("launch LBVM: %w", err)
	}
	number := lb.Launches
	if err := s.rewrite(ctx, lb, func(lb *LoadBalancer) error {
		if lb.Launches > number {
			return nil // another process got the same instance by the same token, and has noted it down
		}
		lb.Launches++
		if !spent {
			lb.LBVMs = append(lb.LBVMs, LBVM{InstanceID: inst.ID, Launched: s.cfg.Clock().UTC()})
		}
		return nil
	}); err != nil || spent {
		return err
	}
	s.journal(ctx, "elb.lbvm_launched", lb.key(), map[string]string{"instance": inst.ID, "node": inst.NodeID})
	return nil
}

// expose gives the load balancer's address to its oldest LBVM and to no other.
func (s *Service) expose(ctx context.Context, lb *LoadBalancer) error {
	for i, vm := range lb.LBVMs {
		var wanted []ec2.Exposure
		if i == 0 {
			wanted = exposures(lb, s.cfg.UnprivilegedPorts)
		}
		inst, err := s.cfg.EC2.Instance(ctx, vm.InstanceID)
		if err == nil && sameExposures(inst.Exposures, wanted) {
			continue
		}
		if err == nil {
			err = s.cfg.EC2.SetExposures(ctx, vm.InstanceID, wanted)
		}
		// One that ended in between is noted down when its end is told.
		if err != nil && !errors.Is(err, ec2.ErrNotFound) {
			return fmt.Errorf("expose LBVM %s: %w", vm.InstanceID, err)
		}
	}
	return nil
}

// endStrays terminates LBVMs that carry the load balancer's tag and are not in its record.
func (s *Service) endStrays(ctx context.Context, key string, known []LBVM) error {
	for _, id := range s.guests.of(key) {
		if slices.ContainsFunc(known, func(vm LBVM) bool { return vm.InstanceID == id }) {
			continue
		}
		if err := s.terminate(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) terminate(ctx context.Context, id string) error {
	inst, err := s.cfg.EC2.Instance(ctx, id)
	if err == nil && inst.AccountID != s.cfg.SystemAccountID && !s.ours(&inst) {
		return fmt.Errorf("terminate LBVM %s: it is no load balancer's", id)
	}
	if err == nil {
		err = s.actAs(ctx, inst.AccountID, actionTerminate, id, inst.Tags[ownerTag])
	}
	if err == nil {
		err = s.cfg.EC2.Terminate(ctx, inst.AccountID, id)
	}
	if err != nil && !errors.Is(err, ec2.ErrNotFound) {
		return fmt.Errorf("terminate LBVM %s: %w", id, err)
	}
	return nil
}
