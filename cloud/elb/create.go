package elb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// The schemes of a load balancer.
const (
	internetFacing = "internet-facing"
	internal       = "internal"
)

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$`)
	subnetPattern = regexp.MustCompile(`^subnet-[0-9a-f]{8}([0-9a-f]{9})?$`)
)

// CreateLoadBalancer writes the load balancer's record, makes its role and grants, and answers with its address.
// The LBVM is launched after the answer.
func (s *Service) CreateLoadBalancer(ctx context.Context, in *elbmodel.CreateLoadBalancerInput) (
	*elbmodel.CreateLoadBalancerOutput, error) {
	lb, err := s.parseCreate(in, account(ctx))
	if err != nil {
		return nil, err
	}
	if err := s.checkCertificates(ctx, lb.Listeners); err != nil {
		return nil, err
	}
	if err := s.authorizeTags(ctx, in); err != nil {
		return nil, err
	}
	defer s.locks.lock(lb.key())()
	if err := s.create(ctx, &lb); err != nil {
		s.lookAgain(lb.key(), err)
		return nil, err
	}
	// From here on the record is there, and a client that hangs up must not leave half of its load balancer.
	ctx = context.WithoutCancel(ctx)
	if err := s.prepare(ctx, &lb); err != nil {
		defer s.queue.add(lb.key()) // what could not be removed
		return nil, errors.Join(fmt.Errorf("prepare load balancer %s: %w", lb.key(), err), s.remove(ctx, &lb))
	}
	s.journal(ctx, "elb.created", lb.key(), map[string]string{"address": lb.Address, "role": lb.roleName()})
	s.queue.add(lb.key())
	return &elbmodel.CreateLoadBalancerOutput{DNSName: model.Ptr(lb.Address)}, nil
}

func (s *Service) parseCreate(in *elbmodel.CreateLoadBalancerInput, accountID string) (LoadBalancer, error) {
	lb := LoadBalancer{
		AccountID: accountID, Name: model.Val(in.LoadBalancerName), Created: s.cfg.Clock().UTC().Truncate(time.Millisecond),
		Scheme: model.Val(in.Scheme), SecurityGroups: in.SecurityGroups,
		Attributes: Attributes{IdleTimeout: 60, DrainingTimeout: 300, Desync: "defensive"},
	}
	if !namePattern.MatchString(lb.Name) {
		return lb, invalidParameter("LoadBalancer name %q is not valid: it must be 1 to 32 letters, digits and hyphens "+
			"and neither begin nor end with a hyphen", lb.Name)
	}
	switch lb.Scheme {
	case "":
		lb.Scheme = internetFacing
	case internetFacing, internal:
	default:
		return lb, elbmodel.ErrInvalidScheme("Scheme %q is not valid: it must be internet-facing or internal", lb.Scheme)
	}
	var err error
	if lb.AvailabilityZones, lb.Subnets, err = s.parsePlaces(in.AvailabilityZones, in.Subnets); err != nil {
		return lb, err
	}
	if lb.Listeners, err = parseListeners(in.Listeners, accountID, nil); err != nil {
		return lb, err
	}
	if lb.Tags, err = mergeTags(nil, in.Tags); err != nil {
		return lb, err
	}
	lb.HealthCheck = defaultHealthCheck(int(model.Val(in.Listeners[0].InstancePort)))
	lb.Granted = lb.grants()
	if lb.ID, err = newID(); err != nil {
		return lb, err
	}
	return lb, nil
}

// parsePlaces takes zones or subnets, of which a request has one. There is one zone here, and every subnet is in it.
func (s *Service) parsePlaces(zones, subnets []string) ([]string, []string, error) {
	only := s.cfg.Region + "a"
	switch {
	case len(zones) > 0 && len(subnets) > 0:
		return nil, nil, elbmodel.ErrInvalidConfigurationRequest("Only one of AvailabilityZones and Subnets may be specified")
	case len(zones) == 0 && len(subnets) == 0:
		return nil, nil, invalidParameter("Either AvailabilityZones or Subnets must be specified")
	}
	for _, zone := range zones {
		if zone != only {
			return nil, nil, invalidParameter("AvailabilityZones: %s is not a zone of this region, which has %s", zone, only)
		}
	}
	for _, subnet := range subnets {
		if !subnetPattern.MatchString(subnet) {
			return nil, nil, elbmodel.ErrSubnetNotFound("Subnets: the subnet %q does not exist", subnet)
		}
	}
	return []string{only}, slices.Compact(slices.Clone(subnets)), nil
}

// create writes the record and takes an address for it.
func (s *Service) create(ctx context.Context, lb *LoadBalancer) error {
	const attempts = 16
	for range attempts {
		address, err := proposeAddress(s.cfg.Addresses)
		if err != nil {
			return err
		}
		lb.Address = address.String()
		err = s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
			if err := s.addresses.In(tx).Create(lb.Address, addressRecord{Key: lb.key()}); err != nil {
				return err
			}
			old, err := s.records.In(tx).Get(lb.key())
			if err == nil {
				return &takenError{old: old}
			}
			if !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err := s.holdCertificates(tx, lb, nil); err != nil {
				return err
			}
			lb.causedBy(ctx)
			return s.records.In(tx).Create(lb.key(), *lb)
		})
		var taken *takenError
		switch {
		case errors.As(err, &taken) && taken.old.Deleting:
			// The old one's deletion was interrupted; finish it and try again.
			if err := s.remove(ctx, &taken.old); err != nil {
				return err
			}
		case errors.As(err, &taken):
			return elbmodel.ErrDuplicateLoadBalancerName("Load Balancer named %s already exists", taken.old.Name)
		case errors.Is(err, store.ErrExists):
		default:
			return err
		}
	}
	return model.Errorf("DependencyThrottle", http.StatusServiceUnavailable, "%w in %s", errAddressesUsed, s.cfg.Addresses)
}

// takenError carries the load balancer that has the name.
type takenError struct{ old LoadBalancer }

func (e *takenError) Error() string { return "load balancer name is taken" }

// DeleteLoadBalancer removes a load balancer with all that was made for it. As on AWS, one that is not there is no
// error. When something of it could not be removed yet, its LBVM may still get keys: the answer is then an error,
// whether it is the first call or a later one, and the removal goes on.
func (s *Service) DeleteLoadBalancer(ctx context.Context, in *elbmodel.DeleteLoadBalancerInput) (
	*elbmodel.DeleteLoadBalancerOutput, error) {
	name := model.Val(in.LoadBalancerName)
	key := recordKey(account(ctx), name)
	defer s.locks.lock(key)()
	ctx = context.WithoutCancel(ctx)
	lb, err := s.records.Update(ctx, key, func(lb *LoadBalancer) error {
		if lb.Name != name {
			return notFound(name)
		}
		lb.Deleting = true
		lb.causedBy(ctx)
		return nil
	})
	if isNotFound(err) || errors.Is(err, store.ErrNotFound) {
		return &elbmodel.DeleteLoadBalancerOutput{}, nil
	}
	if err != nil {
		s.lookAgain(key, err)
		return nil, err
	}
	if err := s.remove(ctx, &lb); err != nil {
		// The record says that it is to go: the reconcile loop sees to it.
		s.journal(ctx, "elb.reconcile_failed", key, map[string]string{"reason": err.Error()})
		s.queue.add(key)
		return nil, fmt.Errorf("delete load balancer %s: %w", key, err)
	}
	return &elbmodel.DeleteLoadBalancerOutput{}, nil
}

// remove takes down all that was made for a load balancer, the record last. It may be called again after it failed.
func (s *Service) remove(ctx context.Context, lb *LoadBalancer) error {
	if err := s.dropRole(ctx, lb); err != nil {
		return err
	}
	for _, vm := range lb.LBVMs {
		if err := s.terminate(ctx, vm.InstanceID); err != nil {
			return err
		}
	}
	err := s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
		if err := s.addresses.In(tx).Delete(lb.Address); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		err := s.records.In(tx).Delete(lb.key())
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	s.journal(ctx, "elb.deleted", lb.key(), nil)
	// A guest that was launched and not noted down yet is found by the loop.
	s.queue.add(lb.key())
	return nil
}

// update changes a load balancer's record; LoadBalancerNotFound when the caller's account has none of that name.
func (s *Service) update(ctx context.Context, key, name string, change func(*LoadBalancer) error) (
	LoadBalancer, error) {
	lb, err := s.records.Update(ctx, key, func(lb *LoadBalancer) error {
		if lb.Name != name || lb.Deleting {
			return notFound(name)
		}
		if err := change(lb); err != nil {
			return err
		}
		lb.causedBy(ctx)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return lb, notFound(name)
	}
	return lb, err
}

// change is update for what touches neither listeners nor grants, and has the rest follow.
func (s *Service) change(ctx context.Context, name string, change func(*LoadBalancer) error) (LoadBalancer, error) {
	key := recordKey(account(ctx), name)
	defer s.locks.lock(key)()
	lb, err := s.update(ctx, key, name, change)
	if err == nil {
		s.queue.add(key)
	}
	s.lookAgain(key, err)
	return lb, err
}

// lookAgain has a load balancer looked at after a change of its record failed: the store may have kept the change all
// the same, as it may when its leader changes. A request that was refused changed nothing.
func (s *Service) lookAgain(key string, err error) {
	if _, refused := errors.AsType[*model.Error](err); err != nil && !refused {
		s.queue.addAfter(key, s.cfg.RetryMin)
	}
}

// get reads the caller's load balancer of that name.
func (s *Service) get(ctx context.Context, name string) (LoadBalancer, error) {
	lb, err := s.records.Get(ctx, recordKey(account(ctx), name))
	if errors.Is(err, store.ErrNotFound) || (err == nil && (lb.Name != name || lb.Deleting)) {
		return lb, notFound(name)
	}
	return lb, err
}

func notFound(name string) *model.Error {
	return elbmodel.ErrLoadBalancerNotFound("There is no ACTIVE Load Balancer named '%s'", name)
}

func isNotFound(err error) bool {
	var answer *model.Error
	return errors.As(err, &answer) && answer.Code == notFound("").Code
}

// hasCode reports whether err is an answer whose code begins so.
func hasCode(err error, prefix string) bool {
	var answer *model.Error
	return errors.As(err, &answer) && strings.HasPrefix(answer.Code, prefix)
}
