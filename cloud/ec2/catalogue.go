package ec2

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func sortBy[T any, K cmp.Ordered](list []T, key func(T) K) {
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}

// imageOwner is the account number of the cloud's own images, as the first system account.
const imageOwner = "000000000001"

// DescribeImages lists the images that the caller can use. There are few, so NextToken is never needed.
func (s *Service) DescribeImages(ctx context.Context,
	in *ec2model.DescribeImagesInput) (*ec2model.DescribeImagesOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	fs, err := parseFilters(in.Filters, "image-id", "name", "state", "is-public", "owner-id", "owner-alias",
		"architecture",
		"description", "image-type", "root-device-type", "virtualization-type", "hypervisor", "tag:", "tag-key")
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, id := range in.ImageIds {
		if _, err := s.images.find(caller, id); err != nil {
			return nil, err
		}
		wanted[id] = true
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2model.DescribeImagesOutput{}
	for _, image := range s.images.ordered {
		id := ImageID(image.Name)
		if !image.visibleTo(caller) || len(wanted) > 0 && !wanted[id] || !ownedBy(in.Owners, caller.AccountID) ||
			!fs.match(image.attributes) {
			continue
		}
		out.Images = append(out.Images, image.wire())
	}
	return out, nil
}

// ownedBy says whether the filter by owner lets the cloud's own images through.
func ownedBy(owners []string, account string) bool {
	if len(owners) == 0 {
		return true
	}
	return slices.Contains(owners, "amazon") || slices.Contains(owners, imageOwner) ||
		account == imageOwner && slices.Contains(owners, "self")
}

func (i ImageInfo) attributes(name string) []string {
	switch name {
	case "image-id":
		return []string{ImageID(i.Name)}
	case "name":
		return []string{i.Name}
	case "state":
		return []string{"available"}
	case "is-public":
		if i.Public {
			return []string{"true"}
		}
		return []string{"false"}
	case "owner-id":
		return []string{imageOwner}
	case "owner-alias":
		return []string{"amazon"}
	case "architecture":
		return []string{ec2model.ArchitectureTypeX8664}
	case "description":
		return []string{i.Description}
	case "image-type":
		return []string{"machine"}
	case "root-device-type":
		return []string{"instance-store"}
	case "virtualization-type":
		return []string{"hvm"}
	case "hypervisor":
		return []string{"xen"}
	}
	return nil
}

func (i ImageInfo) wire() ec2model.Image {
	return ec2model.Image{
		Architecture:       model.Ptr(ec2model.ArchitectureTypeX8664),
		CreationDate:       model.Ptr(i.Created.UTC().Format(time.RFC3339)),
		Description:        model.Ptr(i.Description),
		Hypervisor:         model.Ptr("xen"),
		ImageId:            model.Ptr(ImageID(i.Name)),
		ImageLocation:      model.Ptr("cloudtwin/" + i.Name),
		ImageOwnerAlias:    model.Ptr("amazon"),
		ImageType:          model.Ptr("machine"),
		Name:               model.Ptr(i.Name),
		OwnerId:            model.Ptr(imageOwner),
		PlatformDetails:    model.Ptr("Linux/UNIX"),
		Public:             model.Ptr(i.Public),
		RootDeviceType:     model.Ptr(rootDeviceType),
		State:              model.Ptr("available"),
		VirtualizationType: model.Ptr("hvm"),
	}
}

// DescribeInstanceTypes lists the sizes that there are.
func (s *Service) DescribeInstanceTypes(_ context.Context,
	in *ec2model.DescribeInstanceTypesInput) (*ec2model.DescribeInstanceTypesOutput, error) {
	fs, err := parseFilters(in.Filters, "instance-type", "current-generation", "processor-info.supported-architecture")
	if err != nil {
		return nil, err
	}
	for _, name := range in.InstanceTypes {
		if _, ok := findInstanceType(name); !ok || name == "" {
			return nil, model.Errorf("InvalidInstanceType", http.StatusBadRequest,
				"The following supplied instance types do not exist: [%.64s]", name)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2model.DescribeInstanceTypesOutput{}
	for _, t := range InstanceTypes() {
		attrs := map[string]string{
			"instance-type": t.Name, "current-generation": "true", "processor-info.supported-architecture": "x86_64",
		}
		if len(in.InstanceTypes) > 0 && !slices.Contains(in.InstanceTypes, t.Name) ||
			!fs.match(func(name string) []string { return []string{attrs[name]} }) {
			continue
		}
		out.InstanceTypes = append(out.InstanceTypes, ec2model.InstanceTypeInfo{
			BareMetal: model.Ptr(false), BurstablePerformanceSupported: model.Ptr(true), CurrentGeneration: model.Ptr(true),
			HibernationSupported: model.Ptr(false), InstanceStorageSupported: model.Ptr(false),
			InstanceType: model.Ptr(t.Name),
			MemoryInfo:   &ec2model.MemoryInfo{SizeInMiB: model.Ptr(int64(t.MemoryMB))},
			ProcessorInfo: &ec2model.ProcessorInfo{
				SupportedArchitectures: []string{ec2model.ArchitectureTypeX8664},
			},
			SupportedVirtualizationTypes: []string{"hvm"},
			VCpuInfo: &ec2model.VCpuInfo{
				DefaultCores: model.Ptr(int64(t.VCPUs)), DefaultThreadsPerCore: model.Ptr(int64(1)),
				DefaultVCpus: model.Ptr(int64(t.VCPUs)),
			},
		})
	}
	return out, nil
}

// DescribeAvailabilityZones lists the region's one zone.
func (s *Service) DescribeAvailabilityZones(_ context.Context,
	in *ec2model.DescribeAvailabilityZonesInput) (*ec2model.DescribeAvailabilityZonesOutput, error) {
	zone, zoneID := zoneOf(s.cfg.Region), nodelink.ZoneID
	fs, err := parseFilters(in.Filters, "zone-name", "zone-id", "region-name", "state", "zone-type", "opt-in-status",
		"group-name")
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Concat(in.ZoneNames, in.ZoneIds) {
		if name != zone && name != zoneID {
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest, "Invalid availability zone: [%.64s]", name)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	attrs := map[string]string{
		"zone-name": zone, "zone-id": zoneID, "region-name": s.cfg.Region, "state": "available",
		"zone-type": "availability-zone", "opt-in-status": "opt-in-not-required", "group-name": s.cfg.Region,
	}
	if !fs.match(func(name string) []string { return []string{attrs[name]} }) {
		return &ec2model.DescribeAvailabilityZonesOutput{}, nil
	}
	return &ec2model.DescribeAvailabilityZonesOutput{AvailabilityZones: []ec2model.AvailabilityZone{{
		GroupName: model.Ptr(s.cfg.Region), NetworkBorderGroup: model.Ptr(s.cfg.Region),
		OptInStatus: model.Ptr("opt-in-not-required"), RegionName: model.Ptr(s.cfg.Region), State: model.Ptr("available"),
		ZoneId: model.Ptr(zoneID), ZoneName: model.Ptr(zone), ZoneType: model.Ptr("availability-zone"),
	}}}, nil
}

// DescribeRegions lists the one region.
func (s *Service) DescribeRegions(_ context.Context,
	in *ec2model.DescribeRegionsInput) (*ec2model.DescribeRegionsOutput, error) {
	fs, err := parseFilters(in.Filters, "region-name", "endpoint", "opt-in-status")
	if err != nil {
		return nil, err
	}
	for _, name := range in.RegionNames {
		if name != s.cfg.Region {
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"Invalid region '%.64s' (parameter RegionName)",
				name)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	attrs := map[string]string{
		"region-name": s.cfg.Region, "endpoint": "ec2." + s.cfg.Region + ".amazonaws.com",
		"opt-in-status": "opt-in-not-required",
	}
	if !fs.match(func(name string) []string { return []string{attrs[name]} }) {
		return &ec2model.DescribeRegionsOutput{}, nil
	}
	return &ec2model.DescribeRegionsOutput{Regions: []ec2model.Region{{
		Endpoint: model.Ptr(attrs["endpoint"]), OptInStatus: model.Ptr(attrs["opt-in-status"]),
		RegionName: model.Ptr(s.cfg.Region),
	}}}, nil
}
