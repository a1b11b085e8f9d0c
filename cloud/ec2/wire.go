package ec2

import (
	"maps"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

const enabled, disabled = "enabled", "disabled"

// zoneOf returns the one availability zone of a region.
func zoneOf(region string) string { return region + "a" }

func privateDNSName(ip, region string) string {
	if ip == "" {
		return ""
	}
	domain := ".ec2.internal"
	if region != "us-east-1" {
		domain = "." + region + ".compute.internal"
	}
	return "ip-" + strings.ReplaceAll(ip, ".", "-") + domain
}

func wireState(s State) *ec2model.InstanceState {
	return &ec2model.InstanceState{Code: model.Ptr(s.Code()), Name: model.Ptr(string(s))}
}

func wireTags(tags map[string]string) []ec2model.Tag {
	out := make([]ec2model.Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, ec2model.Tag{Key: model.Ptr(key), Value: model.Ptr(tags[key])})
	}
	return out
}

// wireInstance is an instance as EC2 describes it. A terminated one has no addresses any more.
func wireInstance(i *Instance, region string) ec2model.Instance {
	out := ec2model.Instance{
		AmiLaunchIndex:     model.Ptr(int64(i.LaunchIndex)),
		Architecture:       model.Ptr(ec2model.ArchitectureTypeX8664),
		CpuOptions:         &ec2model.CpuOptions{CoreCount: model.Ptr(int64(i.VCPUs)), ThreadsPerCore: model.Ptr(int64(1))},
		EbsOptimized:       model.Ptr(false),
		Hypervisor:         model.Ptr("xen"),
		ImageId:            model.Ptr(i.ImageID),
		InstanceId:         model.Ptr(i.ID),
		InstanceType:       model.Ptr(i.InstanceType),
		LaunchTime:         model.Ptr(i.LaunchTime.UTC()),
		MetadataOptions:    wireMetadata(i.Metadata),
		Monitoring:         &ec2model.Monitoring{State: model.Ptr(disabled)},
		Placement:          &ec2model.Placement{AvailabilityZone: model.Ptr(zoneOf(region)), Tenancy: model.Ptr("default")},
		PrivateDnsName:     model.Ptr(privateDNSName(i.PrivateIP, region)),
		PublicDnsName:      model.Ptr(""),
		State:              wireState(i.State),
		Tags:               wireTags(i.Tags),
		VirtualizationType: model.Ptr("hvm"),
	}
	if i.ClientToken != "" {
		out.ClientToken = model.Ptr(i.ClientToken)
	}
	if i.PrivateIP != "" {
		out.PrivateIpAddress = model.Ptr(i.PrivateIP)
	}
	if i.PublicIP != "" {
		out.PublicIpAddress = model.Ptr(i.PublicIP)
	}
	if i.KeyName != "" {
		out.KeyName = model.Ptr(i.KeyName)
	}
	if i.ProfileARN != "" {
		out.IamInstanceProfile = &ec2model.IamInstanceProfile{Arn: model.Ptr(i.ProfileARN), Id: model.Ptr(i.ProfileID)}
	}
	if i.Reason.Code != "" {
		out.StateReason = &ec2model.StateReason{
			Code: model.Ptr(i.Reason.Code), Message: model.Ptr(i.Reason.Code + ": " + i.Reason.Message),
		}
		// EC2 gives the transition's cause and time in this one text.
		transition := i.Reason.Message
		if i.Reason.Code == reasonUser {
			transition = "User initiated"
		}
		if !i.TerminatedAt.IsZero() {
			transition += " (" + i.TerminatedAt.UTC().Format("2006-01-02 15:04:05") + " GMT)"
		}
		out.StateTransitionReason = model.Ptr(transition)
	} else {
		out.StateTransitionReason = model.Ptr("")
	}
	return out
}

func wireMetadata(m MetadataOptions) *ec2model.InstanceMetadataOptionsResponse {
	pick := func(b bool, yes, no string) *string {
		if b {
			return model.Ptr(yes)
		}
		return model.Ptr(no)
	}
	return &ec2model.InstanceMetadataOptionsResponse{
		HttpEndpoint:            pick(m.Disabled, disabled, enabled),
		HttpProtocolIpv6:        model.Ptr(disabled),
		HttpPutResponseHopLimit: model.Ptr(int64(max(1, m.HopLimit))),
		HttpTokens:              pick(m.TokensRequired, "required", "optional"),
		InstanceMetadataTags:    pick(m.Tags, enabled, disabled),
		State:                   model.Ptr("applied"),
	}
}

// reservations groups instances that follow each other and belong together.
func reservations(entries []*entry, region string) []ec2model.Reservation {
	var out []ec2model.Reservation
	for from := 0; from < len(entries); {
		first := &entries[from].inst
		to := from + 1
		for to < len(entries) && entries[to].inst.ReservationID == first.ReservationID {
			to++
		}
		instances := make([]ec2model.Instance, 0, to-from)
		for _, e := range entries[from:to] {
			instances = append(instances, e.toWire(region))
		}
		out = append(out, ec2model.Reservation{
			OwnerId: model.Ptr(first.AccountID), ReservationId: model.Ptr(first.ReservationID), Instances: instances,
		})
		from = to
	}
	return out
}
