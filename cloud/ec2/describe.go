package ec2

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

var instanceIDPattern = regexp.MustCompile(`^i-[0-9a-f]{8}([0-9a-f]{9})?$`)

func instanceFilters() []string {
	return []string{
		"instance-id", "instance-state-name", "instance-state-code", "tag:", "tag-key", "image-id", "private-ip-address",
		"private-dns-name", "reservation-id", "instance-type", "owner-id", "availability-zone", "client-token",
		"iam-instance-profile.arn", "iam-instance-profile.id", "architecture", "launch-index", "state-reason-code",
		"key-name", "ip-address",
	}
}

func instanceAttributes(i *Instance, region string) attributes {
	return func(name string) []string {
		switch name {
		case "instance-id":
			return []string{i.ID}
		case "instance-state-name":
			return []string{string(i.State)}
		case "instance-state-code":
			return []string{strconv.FormatInt(i.State.Code(), 10)}
		case "image-id":
			return []string{i.ImageID}
		case "private-ip-address":
			return []string{i.PrivateIP}
		case "private-dns-name":
			return []string{privateDNSName(i.PrivateIP, region)}
		case "reservation-id":
			return []string{i.ReservationID}
		case "instance-type":
			return []string{i.InstanceType}
		case "owner-id":
			return []string{i.AccountID}
		case "availability-zone":
			return []string{zoneOf(region)}
		}
		return rareAttributes(i, name)
	}
}

func rareAttributes(i *Instance, name string) []string {
	switch name {
	case "client-token":
		return []string{i.ClientToken}
	case "iam-instance-profile.arn":
		return []string{i.ProfileARN}
	case "iam-instance-profile.id":
		return []string{i.ProfileID}
	case "architecture":
		return []string{ec2model.ArchitectureTypeX8664}
	case "launch-index":
		return []string{strconv.Itoa(i.LaunchIndex)}
	case "key-name":
		return present(i.KeyName)
	case "ip-address":
		return present(i.PublicIP)
	case "state-reason-code":
		return []string{i.Reason.Code}
	}
	return tagAttributes(i.Tags, name)
}

// present is the one value of an attribute that not every instance has.
func present(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

// visible returns the instances of the caller's account that are the caller's to know. The slice is the caller's.
func (s *Service) visible(caller authn.Caller) []*entry {
	return slices.DeleteFunc(s.view.account(caller.AccountID), func(e *entry) bool { return e.inst.hiddenFrom(caller) })
}

// selectInstances returns the account's instances with those ids (all with none), with EC2's errors for ids that
// are malformed or not the account's.
func (s *Service) selectInstances(caller authn.Caller, ids []string) ([]*entry, error) {
	if len(ids) == 0 {
		return s.visible(caller), nil
	}
	if len(ids) > 1000 {
		return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"The parameter InstanceId names %d instances, the limit is 1000", len(ids))
	}
	var out []*entry
	seen := map[string]bool{}
	for _, id := range ids {
		if !instanceIDPattern.MatchString(id) {
			return nil, model.Errorf("InvalidInstanceID.Malformed", http.StatusBadRequest,
				"Invalid id: %q (expecting \"i-...\")", id)
		}
		e, ok := s.view.get(id)
		if !ok || e.inst.AccountID != caller.AccountID || e.inst.hiddenFrom(caller) {
			return nil, model.Errorf("InvalidInstanceID.NotFound", http.StatusBadRequest,
				"The instance ID '%s' does not exist", id)
		}
		if !seen[id] {
			seen[id] = true
			out = append(out, e)
		}
	}
	return out, nil
}

// described returns the page of instances that a request asks for, by their ids or as many as it wants.
func (s *Service) described(caller authn.Caller, ids []string, maxResults *int64, token *string,
	keep func(*entry) bool) ([]*entry, *string, error) {
	if len(ids) == 0 {
		return s.instancePage(caller, maxResults, token, keep)
	}
	if err := exclusive(ids, maxResults); err != nil {
		return nil, nil, err
	}
	list, err := s.selectInstances(caller, ids)
	if err != nil {
		return nil, nil, err
	}
	list = slices.DeleteFunc(list, func(e *entry) bool { return !keep(e) })
	return page(list, maxResults, leastPage, token, entryKey, entryAfter)
}

func (s *Service) matches(e *entry, fs filters) bool {
	return len(fs) == 0 || fs.match(instanceAttributes(&e.inst, s.cfg.Region))
}

func exclusive(ids []string, maxResults *int64) error {
	if len(ids) > 0 && maxResults != nil {
		return model.Errorf("InvalidParameterCombination", http.StatusBadRequest,
			"The parameter instancesSet cannot be used with the parameter maxResults")
	}
	return nil
}

// DescribeInstances answers from memory, and no record is read: its cost is in proportion to the page, and to what the
// filters leave out before it is full.
func (s *Service) DescribeInstances(ctx context.Context,
	in *ec2model.DescribeInstancesInput) (*ec2model.DescribeInstancesOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	fs, err := parseFilters(in.Filters, instanceFilters()...)
	if err != nil {
		return nil, err
	}
	list, next, err := s.described(caller, in.InstanceIds, in.MaxResults, in.NextToken,
		func(e *entry) bool { return s.matches(e, fs) })
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	return &ec2model.DescribeInstancesOutput{Reservations: reservations(list, s.cfg.Region), NextToken: next}, nil
}

// DescribeInstanceStatus tells of running instances, and of all with IncludeAllInstances. A node that is down
// shows as an impaired system.
func (s *Service) DescribeInstanceStatus(ctx context.Context,
	in *ec2model.DescribeInstanceStatusInput) (*ec2model.DescribeInstanceStatusOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	fs, err := parseFilters(in.Filters, "instance-state-name", "instance-state-code", "availability-zone")
	if err != nil {
		return nil, err
	}
	list, next, err := s.described(caller, in.InstanceIds, in.MaxResults, in.NextToken, func(e *entry) bool {
		return s.matches(e, fs) && (e.inst.State == Running || model.Val(in.IncludeAllInstances))
	})
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	down := map[string]bool{}
	for _, n := range s.cfg.Placement.Nodes() {
		down[n.Node.ID] = n.Node.Down
	}
	out := &ec2model.DescribeInstanceStatusOutput{NextToken: next}
	for _, e := range list {
		out.InstanceStatuses = append(out.InstanceStatuses, wireStatus(&e.inst, s.cfg.Region, down[e.inst.NodeID]))
	}
	return out, nil
}

func wireStatus(i *Instance, region string, nodeDown bool) ec2model.InstanceStatus {
	system, guest := "not-applicable", "not-applicable"
	switch {
	case i.State != Running:
	case nodeDown:
		system, guest = "impaired", "insufficient-data"
	case len(i.Milestones) == 0:
		system, guest = "ok", "initializing"
	default:
		system, guest = "ok", "ok"
	}
	summary := func(status string) *ec2model.InstanceStatusSummary {
		return &ec2model.InstanceStatusSummary{Status: model.Ptr(status)}
	}
	return ec2model.InstanceStatus{
		AvailabilityZone: model.Ptr(zoneOf(region)), InstanceId: model.Ptr(i.ID), InstanceState: wireState(i.State),
		InstanceStatus: summary(guest), SystemStatus: summary(system),
	}
}
