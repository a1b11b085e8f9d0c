package elb

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

// maxPage is the largest page, and the size of a page when none is asked for.
const maxPage = 400

// DescribeLoadBalancers lists the account's load balancers by name, all or those that are named.
func (s *Service) DescribeLoadBalancers(ctx context.Context, in *elbmodel.DescribeLoadBalancersInput) (
	*elbmodel.DescribeLoadBalancersOutput, error) {
	out := &elbmodel.DescribeLoadBalancersOutput{LoadBalancerDescriptions: []elbmodel.LoadBalancerDescription{}}
	if len(in.LoadBalancerNames) > 0 {
		for _, name := range in.LoadBalancerNames {
			lb, err := s.get(ctx, name)
			if err != nil {
				return nil, err
			}
			out.LoadBalancerDescriptions = append(out.LoadBalancerDescriptions, wireLoadBalancer(&lb))
		}
		return out, nil
	}
	after, err := parseMarker(model.Val(in.Marker))
	if err != nil {
		return nil, err
	}
	size := maxPage
	if in.PageSize != nil {
		size = int(*in.PageSize)
	}
	if size < 1 || size > maxPage {
		return nil, invalidParameter("PageSize must be from 1 to %d", maxPage)
	}
	list, err := s.records.List(ctx, account(ctx)+"/")
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Deleting || strings.ToLower(list[i].Name) <= after {
			continue
		}
		if len(out.LoadBalancerDescriptions) == size {
			last := out.LoadBalancerDescriptions[size-1].LoadBalancerName
			out.NextMarker = model.Ptr(makeMarker(*last))
			break
		}
		out.LoadBalancerDescriptions = append(out.LoadBalancerDescriptions, wireLoadBalancer(&list[i]))
	}
	return out, nil
}

// A marker is the name after which the next page begins, in base64 so that nobody takes it for more.
func makeMarker(name string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.ToLower(name)))
}

func parseMarker(marker string) (after string, err error) {
	name, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil || (len(name) > 0 && !namePattern.Match(name)) {
		return "", invalidParameter("Marker is not one that DescribeLoadBalancers returned")
	}
	return string(name), nil
}

func wireLoadBalancer(lb *LoadBalancer) elbmodel.LoadBalancerDescription {
	d := elbmodel.LoadBalancerDescription{
		LoadBalancerName: model.Ptr(lb.Name), DNSName: model.Ptr(lb.Address),
		CanonicalHostedZoneName: model.Ptr(lb.Address), CreatedTime: model.Ptr(lb.Created),
		Scheme: model.Ptr(lb.Scheme), AvailabilityZones: lb.AvailabilityZones, Subnets: lb.Subnets,
		SecurityGroups: lb.SecurityGroups, HealthCheck: wireHealthCheck(lb.HealthCheck),
		Instances: wireInstances(lb.Backends), Policies: &elbmodel.Policies{},
		ListenerDescriptions: []elbmodel.ListenerDescription{},
	}
	for _, l := range lb.Listeners {
		listener := &elbmodel.Listener{
			Protocol: model.Ptr(l.Protocol), LoadBalancerPort: model.Ptr(int64(l.Port)),
			InstanceProtocol: model.Ptr(l.InstanceProtocol), InstancePort: model.Ptr(int64(l.InstancePort)),
		}
		if l.CertificateARN != "" {
			listener.SSLCertificateId = model.Ptr(l.CertificateARN)
		}
		d.ListenerDescriptions = append(d.ListenerDescriptions,
			elbmodel.ListenerDescription{Listener: listener, PolicyNames: []string{}})
	}
	return d
}

func wireInstances(ids []string) []elbmodel.Instance {
	list := make([]elbmodel.Instance, 0, len(ids))
	for _, id := range ids {
		list = append(list, elbmodel.Instance{InstanceId: model.Ptr(id)})
	}
	return list
}

// Summary is a load balancer as an operator sees it.
type Summary struct {
	AccountID string
	Name      string
	DNSName   string
	LBVMs     []string // instance ids, oldest first
	Listeners []ListenerSummary
}

// ListenerSummary is a listener and where the host reaches it.
type ListenerSummary struct {
	Listener
	HostAddress string // 127.x.y.z:port
}

// Summaries returns every account's load balancers in the order of account and name.
func (s *Service) Summaries() []Summary {
	records := s.view.all()
	slices.SortFunc(records, func(a, b *LoadBalancer) int { return cmp.Compare(a.key(), b.key()) })
	list := make([]Summary, 0, len(records))
	for _, lb := range records {
		one := Summary{AccountID: lb.AccountID, Name: lb.Name, DNSName: lb.Address}
		for _, vm := range lb.LBVMs {
			one.LBVMs = append(one.LBVMs, vm.InstanceID)
		}
		for i, e := range exposures(lb, s.cfg.UnprivilegedPorts) {
			one.Listeners = append(one.Listeners, ListenerSummary{Listener: lb.Listeners[i], HostAddress: e.HostAddress})
		}
		list = append(list, one)
	}
	return list
}

// LoadBalancersOf lists the ARNs of an account's load balancers: what uses the account's service-linked role.
func (s *Service) LoadBalancersOf(ctx context.Context, accountID string) ([]string, error) {
	list, err := s.records.List(ctx, accountID+"/")
	if err != nil {
		return nil, err
	}
	arns := make([]string, 0, len(list))
	for i := range list {
		arns = append(arns, ARN(s.cfg.Region, accountID, list[i].Name))
	}
	return arns, nil
}
