package ec2

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

const (
	maxUserData = 16 * 1024 // bytes, decoded
	maxLaunch   = 1000      // instances in one request
)

// RunInstances launches between MinCount and MaxCount instances, or none.
func (s *Service) RunInstances(ctx context.Context, in *ec2model.RunInstancesInput) (*ec2model.RunInstancesOutput,
	error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	spec, err := s.parseRun(ctx, caller, in)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	launched, err := s.launch(ctx, spec)
	if err != nil {
		return nil, err
	}
	out := &ec2model.RunInstancesOutput{
		OwnerId: model.Ptr(caller.AccountID), ReservationId: model.Ptr(launched[0].ReservationID),
	}
	for i := range launched {
		out.Instances = append(out.Instances, wireInstance(&launched[i], s.cfg.Region))
	}
	return out, nil
}

// parseRun checks everything about a request that needs no reservation, and writes nothing.
func (s *Service) parseRun(ctx context.Context, caller authn.Caller, in *ec2model.RunInstancesInput) (launchSpec,
	error) {
	spec := launchSpec{
		account: caller.AccountID, system: caller.System,
		minCount: int(model.Val(in.MinCount)), maxCount: int(model.Val(in.MaxCount)),
		clientToken: model.Val(in.ClientToken),
	}
	if err := checkCounts(model.Val(in.MinCount), model.Val(in.MaxCount)); err != nil {
		return spec, err
	}
	if len(spec.clientToken) > 64 || strings.ContainsFunc(spec.clientToken,
		func(r rune) bool { return r < '!' || r > '~' }) {
		return spec, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"The value for parameter ClientToken is invalid: want at most 64 visible ASCII characters")
	}
	if err := s.refuseForeign(in); err != nil {
		return spec, err
	}
	if model.Val(in.ImageId) == "" {
		return spec, model.Errorf("MissingParameter", http.StatusBadRequest,
			"The request must contain the parameter ImageId")
	}
	var err error
	if spec.image, err = s.images.find(caller, *in.ImageId); err != nil {
		return spec, err
	}
	var ok bool
	if spec.itype, ok = findInstanceType(model.Val(in.InstanceType)); !ok {
		return spec, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"Invalid value '%.64s' for InstanceType.", model.Val(in.InstanceType))
	}
	if spec.tags, err = parseTagSpecifications(in.TagSpecifications); err != nil {
		return spec, err
	}
	if spec.metadata, err = parseMetadata(in.MetadataOptions); err != nil {
		return spec, err
	}
	userData, err := decodeUserData(model.Val(in.UserData))
	if err != nil {
		return spec, err
	}
	if err := spec.setUserData(userData); err != nil {
		return spec, err
	}
	if spec.keyPair, err = s.keyPairOf(ctx, caller.AccountID, in.KeyName); err != nil {
		return spec, err
	}
	if err := s.parsePermitted(ctx, caller, in, &spec); err != nil {
		return spec, err
	}
	spec.tokenHash, err = hashRequest(in)
	return spec, err
}

// parsePermitted takes up what needs a permission beside that to launch: an instance profile and tags.
func (s *Service) parsePermitted(ctx context.Context, caller authn.Caller, in *ec2model.RunInstancesInput,
	spec *launchSpec) error {
	instances := s.arn(caller.AccountID, instanceResource, "*")
	if err := s.parseProfile(ctx, caller, in.IamInstanceProfile, instances, spec); err != nil {
		return err
	}
	return s.authorizeTags(ctx, caller, "RunInstances", instances, spec.tags)
}

func checkCounts(lowest, highest int64) error {
	switch {
	case lowest < 1:
		return model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"Invalid value '%d' for MinCount. min count must be greater than zero.", lowest)
	case highest < lowest:
		return model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"Invalid value '%d' for MaxCount. max count must not be below min count (%d).", highest, lowest)
	case highest > maxLaunch:
		return model.Errorf("InstanceLimitExceeded", http.StatusBadRequest,
			"You have requested more instances (%d) than one request may launch (%d, parameter MaxCount).", highest, maxLaunch)
	}
	return nil
}

// refuseForeign refuses what this cloud does not have, with EC2's error for a thing that is not there. A parameter
// that would silently do nothing is worse than an error.
func (s *Service) refuseForeign(in *ec2model.RunInstancesInput) error {
	notFound := func(code, what, id string) error {
		return model.Errorf(code, http.StatusBadRequest, "The %s '%.128s' does not exist", what, id)
	}
	switch {
	case in.SubnetId != nil:
		return notFound("InvalidSubnetID.NotFound", "subnet ID", *in.SubnetId)
	case len(in.SecurityGroupIds) > 0:
		return notFound("InvalidGroup.NotFound", "security group", in.SecurityGroupIds[0])
	case len(in.SecurityGroups) > 0 && (len(in.SecurityGroups) > 1 || in.SecurityGroups[0] != "default"):
		return notFound("InvalidGroup.NotFound", "security group", in.SecurityGroups[0])
	case in.Placement != nil && in.Placement.AvailabilityZone != nil &&
		*in.Placement.AvailabilityZone != zoneOf(s.cfg.Region):
		return model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"Invalid availability zone: [%.64s] (parameter Placement.AvailabilityZone)", *in.Placement.AvailabilityZone)
	}
	for _, p := range []struct {
		name string
		sent bool
	}{
		{"BlockDeviceMapping", len(in.BlockDeviceMappings) > 0},
		{"DisableApiTermination", model.Val(in.DisableApiTermination)},
		{"DisableApiStop", model.Val(in.DisableApiStop)},
		{"ElasticGpuSpecification", len(in.ElasticGpuSpecification) > 0},
		{"ElasticInferenceAccelerator", len(in.ElasticInferenceAccelerators) > 0},
		{"EnclaveOptions", in.EnclaveOptions != nil && model.Val(in.EnclaveOptions.Enabled)},
		{"HibernationOptions", in.HibernationOptions != nil && model.Val(in.HibernationOptions.Configured)},
		{"InstanceMarketOptions", in.InstanceMarketOptions != nil},
		{"Ipv6AddressCount", model.Val(in.Ipv6AddressCount) > 0},
		{"Ipv6Address", len(in.Ipv6Addresses) > 0},
		{"KernelId", in.KernelId != nil},
		{"LaunchTemplate", in.LaunchTemplate != nil},
		{"NetworkInterface", len(in.NetworkInterfaces) > 0},
		{"PrivateIpAddress", in.PrivateIpAddress != nil},
		{"RamdiskId", in.RamdiskId != nil},
	} {
		if p.sent {
			return model.Errorf("UnsupportedOperation", http.StatusBadRequest,
				"The parameter %s is not supported by this cloud.", p.name)
		}
	}
	return nil
}

func parseMetadata(in *ec2model.InstanceMetadataOptionsRequest) (MetadataOptions, error) {
	if in == nil {
		return MetadataOptions{}, nil
	}
	return MetadataOptions{}.apply(in)
}

func decodeUserData(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > 2*maxUserData {
		return nil, userDataTooLong()
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, model.Errorf("InvalidUserData.Malformed", http.StatusBadRequest,
			"Invalid BASE64 encoding of user data (parameter UserData)")
	}
	if len(data) > maxUserData {
		return nil, userDataTooLong()
	}
	return data, nil
}

func userDataTooLong() error {
	return model.Errorf("InvalidParameterValue", http.StatusBadRequest,
		"User data is limited to %d bytes (parameter UserData)", maxUserData)
}

// setUserData looks for the credential keyword when a system account launches. For anybody else the keyword's
// line is a part of their user data like any other.
func (spec *launchSpec) setUserData(userData []byte) error {
	spec.userData = userData
	if !spec.system {
		return nil
	}
	payload, count, wanted, err := keydelivery.ParseUserData(userData)
	if err != nil {
		return model.Errorf("InvalidParameterValue", http.StatusBadRequest, "UserData: %w", err)
	}
	spec.userData, spec.credential, spec.life = payload, wanted, time.Duration(count)*24*time.Hour
	return nil
}

// parseProfile finds the instance profile and checks that the caller may pass its role to EC2 for the instance.
func (s *Service) parseProfile(ctx context.Context, caller authn.Caller, in *ec2model.IamInstanceProfileSpecification,
	instanceARN string, spec *launchSpec) error {
	if in == nil {
		return nil
	}
	name, arn := model.Val(in.Name), model.Val(in.Arn)
	if name != "" && arn != "" {
		return model.Errorf("InvalidParameterCombination", http.StatusBadRequest,
			"The parameter IamInstanceProfile.Name may not be used in combination with IamInstanceProfile.Arn")
	}
	parameter, value := "IamInstanceProfile.Name", name
	if arn != "" {
		parameter, value = "IamInstanceProfile.Arn", arn
	}
	if value == "" {
		return nil
	}
	profile, err := s.cfg.IAM.InstanceProfile(ctx, caller.AccountID, value)
	if err != nil {
		return profileError(err, parameter, value)
	}
	if profile.RoleName != "" {
		if err := s.cfg.IAM.AuthorizePassRole(ctx, caller, profile.RoleARN, iam.ServiceEC2, instanceARN); err != nil {
			return err
		}
	}
	spec.profile = profile
	return nil
}

// profileError turns IAM's answer about a profile into EC2's; faults of the cloud stay what they are.
func profileError(err error, parameter, value string) error {
	var known *model.Error
	if !errors.As(err, &known) || known.Status >= http.StatusInternalServerError {
		return err
	}
	return model.Errorf("InvalidParameterValue", http.StatusBadRequest,
		"Value (%.256s) for parameter %s is invalid. Invalid IAM Instance Profile", value, parameter)
}

// hashRequest stands for all parameters of a request, so that a client token used for another request is noticed.
func hashRequest(in *ec2model.RunInstancesInput) ([]byte, error) {
	if in.ClientToken == nil {
		return nil, nil
	}
	text, err := json.Marshal(in) //nolint:gosec // an idempotency token is no secret, and only its hash is kept
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	return sum[:], nil
}
