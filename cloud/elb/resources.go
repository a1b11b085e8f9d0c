package elb

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

// Resources names the load balancers that an operation touches, for authorisation before its handler runs. Nil
// stands for everything: the operations that list have no resource of their own.
func (s *Service) Resources(_ context.Context, _ string, caller authn.Caller, input any) ([]string, error) {
	var arns []string
	for _, name := range loadBalancerNames(input) {
		arns = append(arns, ARN(s.cfg.Region, caller.AccountID, name))
	}
	return arns, nil
}

// loadBalancerNames returns the names in an operation's input.
func loadBalancerNames(input any) []string {
	switch in := input.(type) {
	case *elbmodel.CreateLoadBalancerInput:
		return one(in.LoadBalancerName)
	case *elbmodel.DeleteLoadBalancerInput:
		return one(in.LoadBalancerName)
	case *elbmodel.CreateLoadBalancerListenersInput:
		return one(in.LoadBalancerName)
	case *elbmodel.DeleteLoadBalancerListenersInput:
		return one(in.LoadBalancerName)
	case *elbmodel.SetLoadBalancerListenerSSLCertificateInput:
		return one(in.LoadBalancerName)
	case *elbmodel.RegisterInstancesWithLoadBalancerInput:
		return one(in.LoadBalancerName)
	case *elbmodel.DeregisterInstancesFromLoadBalancerInput:
		return one(in.LoadBalancerName)
	case *elbmodel.ConfigureHealthCheckInput:
		return one(in.LoadBalancerName)
	case *elbmodel.ModifyLoadBalancerAttributesInput:
		return one(in.LoadBalancerName)
	case *elbmodel.AddTagsInput:
		return in.LoadBalancerNames
	case *elbmodel.RemoveTagsInput:
		return in.LoadBalancerNames
	default: // what describes: AWS knows no resource for these
		return nil
	}
}

func one(name *string) []string { return []string{model.Val(name)} }
