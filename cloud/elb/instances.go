package elb

import (
	"context"
	"errors"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

// RegisterInstancesWithLoadBalancer adds back-end instances; one that is registered stays where it is.
func (s *Service) RegisterInstancesWithLoadBalancer(ctx context.Context,
	in *elbmodel.RegisterInstancesWithLoadBalancerInput) (*elbmodel.RegisterInstancesWithLoadBalancerOutput, error) {
	name := model.Val(in.LoadBalancerName)
	if _, err := s.get(ctx, name); err != nil {
		return nil, err
	}
	ids, err := instanceIDs(in.Instances)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if inst, err := s.backend(ctx, account(ctx), id); err != nil {
			return nil, err
		} else if !live(inst) {
			return nil, elbmodel.ErrInvalidInstance("Instances: the instance %s is %s and cannot be registered", id, inst.State)
		}
	}
	lb, err := s.change(ctx, name, func(lb *LoadBalancer) error {
		for _, id := range ids {
			if !slices.Contains(lb.Backends, id) {
				lb.Backends = append(lb.Backends, id)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elbmodel.RegisterInstancesWithLoadBalancerOutput{Instances: wireInstances(lb.Backends)}, nil
}

// DeregisterInstancesFromLoadBalancer takes back-end instances out; all must be registered, or none is taken out.
func (s *Service) DeregisterInstancesFromLoadBalancer(ctx context.Context,
	in *elbmodel.DeregisterInstancesFromLoadBalancerInput) (
	*elbmodel.DeregisterInstancesFromLoadBalancerOutput, error) {
	ids, err := instanceIDs(in.Instances)
	if err != nil {
		return nil, err
	}
	lb, err := s.change(ctx, model.Val(in.LoadBalancerName), func(lb *LoadBalancer) error {
		for _, id := range ids {
			if !slices.Contains(lb.Backends, id) {
				return elbmodel.ErrInvalidInstance("Instances: %s is not registered with load balancer %s", id, lb.Name)
			}
		}
		lb.Backends = slices.DeleteFunc(lb.Backends, func(id string) bool { return slices.Contains(ids, id) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elbmodel.DeregisterInstancesFromLoadBalancerOutput{Instances: wireInstances(lb.Backends)}, nil
}

func instanceIDs(in []elbmodel.Instance) ([]string, error) {
	if len(in) == 0 {
		return nil, invalidParameter("Instances must hold at least one instance")
	}
	ids := make([]string, 0, len(in))
	for _, inst := range in {
		if id := model.Val(inst.InstanceId); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// backend finds an instance of the account; InvalidInstance when it has none of that id that its users know of.
func (s *Service) backend(ctx context.Context, accountID, id string) (ec2.Instance, error) {
	inst, err := s.cfg.EC2.Instance(ctx, id)
	if errors.Is(err, ec2.ErrNotFound) || (err == nil && (inst.AccountID != accountID || inst.Hidden)) {
		return ec2.Instance{}, elbmodel.ErrInvalidInstance("Instances: could not find EC2 instance %q", id)
	}
	return inst, err
}

// live says whether an instance runs or is about to.
func live(inst ec2.Instance) bool { return inst.State == ec2.Pending || inst.State == ec2.Running }

// The reason codes of an instance's state, and the descriptions that the API's reference lists.
const (
	reasonNone     = "N/A"
	reasonELB      = "ELB"
	reasonInstance = "Instance"

	registering   = "Instance registration is still in progress."
	notRegistered = "Instance is not currently registered with the LoadBalancer."
	unhealthy     = "Instance has failed at least the UnhealthyThreshold number of health checks consecutively."
	pending       = "Instance is in pending state."
	terminated    = "Instance is in terminated state."
)

// DescribeInstanceHealth returns the state of the instances as the load balancer's guests reported it.
func (s *Service) DescribeInstanceHealth(ctx context.Context, in *elbmodel.DescribeInstanceHealthInput) (
	*elbmodel.DescribeInstanceHealthOutput, error) {
	lb, err := s.get(ctx, model.Val(in.LoadBalancerName))
	if err != nil {
		return nil, err
	}
	ids := lb.Backends
	if len(in.Instances) > 0 {
		if ids, err = instanceIDs(in.Instances); err != nil {
			return nil, err
		}
	}
	out := &elbmodel.DescribeInstanceHealthOutput{InstanceStates: []elbmodel.InstanceState{}}
	for _, id := range ids {
		state, err := s.instanceState(ctx, &lb, id)
		if err != nil {
			return nil, err
		}
		out.InstanceStates = append(out.InstanceStates, state)
	}
	return out, nil
}

func (s *Service) instanceState(ctx context.Context, lb *LoadBalancer, id string) (elbmodel.InstanceState, error) {
	inst, err := s.backend(ctx, lb.AccountID, id)
	registered := slices.Contains(lb.Backends, id)
	if hasCode(err, "InvalidInstance") && registered {
		inst, err = ec2.Instance{State: ec2.Terminated}, nil
	}
	if err != nil {
		return elbmodel.InstanceState{}, err
	}
	state, code, description := servo.OutOfService, reasonInstance, ""
	switch reported := s.health.of(lb, id); {
	case !registered:
		description = notRegistered
	case inst.State == ec2.ShuttingDown || inst.State == ec2.Terminated:
		description = terminated
	case reported == servo.InService:
		state, code, description = servo.InService, reasonNone, reasonNone
	case inst.State == ec2.Pending:
		description = pending
	case reported == servo.OutOfService:
		description = unhealthy
	default:
		code, description = reasonELB, registering
	}
	return elbmodel.InstanceState{
		InstanceId: model.Ptr(id), State: model.Ptr(state), ReasonCode: model.Ptr(code),
		Description: model.Ptr(description),
	}, nil
}
