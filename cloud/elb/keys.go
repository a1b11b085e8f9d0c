package elb

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

var _ iam.ResourceKeys = (*Service)(nil)

// vendor begins the names of this service's actions and condition keys.
const vendor = "elasticloadbalancing:"

// Conditions names the condition keys that an operation's own parameters answer, for the front door's authorisation
// (Service Authorization Reference, Elastic Load Balancing).
func (s *Service) Conditions(_ context.Context, _ string, _ authn.Caller, input any) (map[string][]string, error) {
	switch in := input.(type) {
	case *elbmodel.CreateLoadBalancerInput:
		keys := tagKeys(in.Tags)
		keys[vendor+"Scheme"] = []string{internetFacing}
		if scheme := model.Val(in.Scheme); scheme != "" {
			keys[vendor+"Scheme"] = []string{scheme}
		}
		if len(in.Subnets) > 0 {
			keys[vendor+"Subnet"] = in.Subnets
		}
		if len(in.SecurityGroups) > 0 {
			keys[vendor+"SecurityGroup"] = in.SecurityGroups
		}
		return listenerKeys(keys, in.Listeners), nil
	case *elbmodel.CreateLoadBalancerListenersInput:
		return listenerKeys(make(map[string][]string), in.Listeners), nil
	case *elbmodel.AddTagsInput:
		return tagKeys(in.Tags), nil
	case *elbmodel.RemoveTagsInput:
		keys := make(map[string][]string)
		for _, t := range in.Tags {
			keys["aws:TagKeys"] = append(keys["aws:TagKeys"], model.Val(t.Key))
		}
		return keys, nil
	}
	return nil, nil
}

func tagKeys(tags []elbmodel.Tag) map[string][]string {
	keys := make(map[string][]string)
	for _, t := range tags {
		keys["aws:RequestTag/"+model.Val(t.Key)] = []string{model.Val(t.Value)}
		keys["aws:TagKeys"] = append(keys["aws:TagKeys"], model.Val(t.Key))
	}
	return keys
}

func listenerKeys(keys map[string][]string, listeners []elbmodel.Listener) map[string][]string {
	const name = vendor + "ListenerProtocol"
	for i := range listeners {
		if p := strings.ToUpper(model.Val(listeners[i].Protocol)); p != "" && !slices.Contains(keys[name], p) {
			keys[name] = append(keys[name], p)
		}
	}
	return keys
}

// CountsFor implements iam.ResourceKeys: a request is about load balancers alone.
func (s *Service) CountsFor(_, _, _ string) bool { return true }

// ResourceKey implements iam.ResourceKeys: the tags of load balancers, whose keys condition keys name without regard to
// case. One that cannot be read has none: the condition decides as for keys that are not there.
func (s *Service) ResourceKey(ctx context.Context, arn, key string) (values []string, ok bool) {
	name, isTag := strings.CutPrefix(key, "aws:resourcetag/")
	if !isTag {
		if name, isTag = strings.CutPrefix(key, vendor+"resourcetag/"); !isTag {
			return nil, false
		}
	}
	parts := strings.SplitN(arn, ":", 6) // arn:aws:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/NAME
	lbName, isLB := strings.CutPrefix(parts[len(parts)-1], "loadbalancer/")
	if len(parts) != 6 || !isLB || ARN(s.cfg.Region, parts[4], lbName) != arn {
		return nil, false
	}
	lb, err := s.records.Get(ctx, recordKey(parts[4], lbName))
	if err != nil || lb.Name != lbName || lb.Deleting {
		return nil, false
	}
	for _, k := range slices.Sorted(maps.Keys(lb.Tags)) {
		if strings.EqualFold(k, name) {
			values = append(values, lb.Tags[k])
		}
	}
	return values, len(values) > 0
}

// authorizeTags asks whether the caller may give tags to a load balancer that it is about to make: that is a permission
// of its own, which policies tell from later changes by the key elasticloadbalancing:CreateAction.
func (s *Service) authorizeTags(ctx context.Context, in *elbmodel.CreateLoadBalancerInput) error {
	if len(in.Tags) == 0 {
		return nil
	}
	keys := tagKeys(in.Tags)
	keys[vendor+"CreateAction"] = []string{"CreateLoadBalancer"}
	arn := ARN(s.cfg.Region, account(ctx), model.Val(in.LoadBalancerName))
	return s.cfg.IAM.Authorize(ctx, authn.CallerFrom(ctx), vendor+"AddTags", []string{arn}, keys)
}
