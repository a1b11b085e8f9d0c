package elb

import (
	"context"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

// Bounds of the attributes, in seconds.
const (
	minIdle, maxIdle         = 1, 3600
	minDraining, maxDraining = 1, 3600
)

// desyncKey is the one additional attribute there is, and desyncModes are its values.
const desyncKey = "elb.http.desyncmitigationmode"

func desyncModes() []string { return []string{"monitor", "defensive", "strictest"} }

// DescribeLoadBalancerAttributes returns the attributes of a load balancer.
func (s *Service) DescribeLoadBalancerAttributes(ctx context.Context,
	in *elbmodel.DescribeLoadBalancerAttributesInput) (*elbmodel.DescribeLoadBalancerAttributesOutput, error) {
	lb, err := s.get(ctx, model.Val(in.LoadBalancerName))
	if err != nil {
		return nil, err
	}
	return &elbmodel.DescribeLoadBalancerAttributesOutput{LoadBalancerAttributes: wireAttributes(lb.Attributes)}, nil
}

// ModifyLoadBalancerAttributes changes the attributes that are given and answers with all.
func (s *Service) ModifyLoadBalancerAttributes(ctx context.Context,
	in *elbmodel.ModifyLoadBalancerAttributesInput) (*elbmodel.ModifyLoadBalancerAttributesOutput, error) {
	lb, err := s.change(ctx, model.Val(in.LoadBalancerName), func(lb *LoadBalancer) error {
		return lb.Attributes.apply(in.LoadBalancerAttributes)
	})
	if err != nil {
		return nil, err
	}
	return &elbmodel.ModifyLoadBalancerAttributesOutput{
		LoadBalancerName: model.Ptr(lb.Name), LoadBalancerAttributes: wireAttributes(lb.Attributes),
	}, nil
}

func (a *Attributes) apply(in *elbmodel.LoadBalancerAttributes) error {
	if in == nil {
		return invalidParameter("LoadBalancerAttributes is required")
	}
	if in.AccessLog != nil && model.Val(in.AccessLog.Enabled) {
		return elbmodel.ErrInvalidConfigurationRequest("LoadBalancerAttributes.AccessLog cannot be enabled here")
	}
	if in.CrossZoneLoadBalancing != nil {
		a.CrossZone = model.Val(in.CrossZoneLoadBalancing.Enabled)
	}
	if in.ConnectionSettings != nil {
		idle := model.Val(in.ConnectionSettings.IdleTimeout)
		if idle < minIdle || idle > maxIdle {
			return invalidParameter("LoadBalancerAttributes.ConnectionSettings.IdleTimeout must be from %d to %d",
				minIdle, maxIdle)
		}
		a.IdleTimeout = int(idle)
	}
	if err := a.applyDraining(in.ConnectionDraining); err != nil {
		return err
	}
	for _, more := range in.AdditionalAttributes {
		if key := model.Val(more.Key); key != desyncKey {
			return elbmodel.ErrLoadBalancerAttributeNotFound("LoadBalancerAttributes.AdditionalAttributes: %q is not known",
				key)
		}
		if !slices.Contains(desyncModes(), model.Val(more.Value)) {
			return invalidParameter("LoadBalancerAttributes.AdditionalAttributes: %s must be one of %v", desyncKey,
				desyncModes())
		}
		a.Desync = model.Val(more.Value)
	}
	return nil
}

func (a *Attributes) applyDraining(in *elbmodel.ConnectionDraining) error {
	if in == nil {
		return nil
	}
	a.Draining = model.Val(in.Enabled)
	if in.Timeout == nil {
		return nil
	}
	if *in.Timeout < minDraining || *in.Timeout > maxDraining {
		return invalidParameter("LoadBalancerAttributes.ConnectionDraining.Timeout must be from %d to %d",
			minDraining, maxDraining)
	}
	a.DrainingTimeout = int(*in.Timeout)
	return nil
}

func wireAttributes(a Attributes) *elbmodel.LoadBalancerAttributes {
	return &elbmodel.LoadBalancerAttributes{
		AccessLog:              &elbmodel.AccessLog{Enabled: model.Ptr(false)},
		ConnectionDraining:     wireDraining(a),
		ConnectionSettings:     &elbmodel.ConnectionSettings{IdleTimeout: model.Ptr(int64(a.IdleTimeout))},
		CrossZoneLoadBalancing: &elbmodel.CrossZoneLoadBalancing{Enabled: model.Ptr(a.CrossZone)},
		AdditionalAttributes: []elbmodel.AdditionalAttribute{
			{Key: model.Ptr(desyncKey), Value: model.Ptr(a.Desync)},
		},
	}
}

func wireDraining(a Attributes) *elbmodel.ConnectionDraining {
	return &elbmodel.ConnectionDraining{
		Enabled: model.Ptr(a.Draining), Timeout: model.Ptr(int64(a.DrainingTimeout)),
	}
}
