package ec2

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

var _ iam.ResourceKeys = (*Service)(nil)

// The actions whose condition keys need a look at more than their parameters.
const (
	actionRun        = "ec2:RunInstances"
	actionCreateTags = "ec2:CreateTags"
)

// The kinds of resource in EC2's ARNs that have condition keys here.
const (
	instanceResource = "instance"
	imageResource    = "image"
)

// The condition keys of IMDS options and of profiles, which requests and instances both have (Service Authorization
// Reference, Amazon EC2).
const (
	keyTokens   = "ec2:MetadataHttpTokens" //nolint:gosec // a condition key's name
	keyEndpoint = "ec2:MetadataHttpEndpoint"
	keyHopLimit = "ec2:MetadataHttpPutResponseHopLimit"
)

// rootDeviceType is that of all images and instances here: their root is in their memory.
const rootDeviceType = "instance-store"

// arn is an ARN of the cloud's own region. Images have no account there.
func (s *Service) arn(account, kind, id string) string {
	return "arn:aws:ec2:" + s.cfg.Region + ":" + account + ":" + kind + "/" + id
}

// Conditions names the condition keys that an operation's own parameters answer, for the front door's authorisation.
func (s *Service) Conditions(ctx context.Context, _ string, caller authn.Caller, input any) (
	map[string][]string, error) {
	switch in := input.(type) {
	case *ec2model.RunInstancesInput:
		return s.launchKeys(ctx, caller, in)
	case *ec2model.CreateTagsInput:
		return tagKeys(in.Tags), nil
	case *ec2model.DeleteTagsInput:
		return tagKeys(in.Tags), nil
	case *ec2model.CreateKeyPairInput:
		return tagKeys(specified(in.TagSpecifications, ec2model.ResourceTypeKeyPair)), nil
	case *ec2model.ImportKeyPairInput:
		return tagKeys(specified(in.TagSpecifications, ec2model.ResourceTypeKeyPair)), nil
	case *ec2model.ModifyInstanceMetadataOptionsInput:
		return attributeKeys(in), nil
	case *ec2model.AssociateIamInstanceProfileInput:
		return s.profileKeys(ctx, caller, "ec2:NewInstanceProfile", in.IamInstanceProfile)
	case *ec2model.ReplaceIamInstanceProfileAssociationInput:
		return s.profileKeys(ctx, caller, "ec2:NewInstanceProfile", in.IamInstanceProfile)
	}
	return nil, nil
}

// launchKeys are what the instances of a launch will be, as far as its parameters say or leave it to the defaults.
func (s *Service) launchKeys(ctx context.Context, caller authn.Caller, in *ec2model.RunInstancesInput) (
	map[string][]string, error) {
	keys, err := s.profileKeys(ctx, caller, "ec2:InstanceProfile", in.IamInstanceProfile)
	if err != nil {
		return nil, err
	}
	maps.Copy(keys, tagKeys(specified(in.TagSpecifications, ec2model.ResourceTypeInstance)))
	options := in.MetadataOptions
	if options == nil {
		options = &ec2model.InstanceMetadataOptionsRequest{}
	}
	for name, value := range map[string]string{
		"ec2:InstanceType":       cmp.Or(model.Val(in.InstanceType), DefaultInstanceType),
		"ec2:AvailabilityZone":   zoneOf(s.cfg.Region),
		"ec2:Tenancy":            "default",
		"ec2:RootDeviceType":     rootDeviceType,
		"ec2:EbsOptimized":       "false",
		"ec2:InstanceMarketType": "on-demand",
		keyTokens:                cmp.Or(model.Val(options.HttpTokens), ec2model.HttpTokensStateOptional),
		keyEndpoint:              cmp.Or(model.Val(options.HttpEndpoint), enabled),
		keyHopLimit:              strconv.FormatInt(max(1, model.Val(options.HttpPutResponseHopLimit)), 10),
	} {
		keys[name] = []string{value}
	}
	return keys, nil
}

// specified are the tags of a request for one type of resource.
func specified(specs []ec2model.TagSpecification, resourceType string) (tags []ec2model.Tag) {
	for i := range specs {
		if model.Val(specs[i].ResourceType) == resourceType {
			tags = append(tags, specs[i].Tags...)
		}
	}
	return tags
}

// tagKeys are those of the tags in a request. A tag that is to be deleted whatever its value tells its key alone.
func tagKeys(tags []ec2model.Tag) map[string][]string {
	keys := make(map[string][]string, len(tags)+1)
	for _, t := range tags {
		if t.Value != nil {
			keys["aws:RequestTag/"+model.Val(t.Key)] = []string{*t.Value}
		}
		keys["aws:TagKeys"] = append(keys["aws:TagKeys"], model.Val(t.Key))
	}
	return keys
}

// attributeKeys are what an instance's metadata options are to be changed to.
func attributeKeys(in *ec2model.ModifyInstanceMetadataOptionsInput) map[string][]string {
	keys := make(map[string][]string)
	add := func(name, value string) {
		if value != "" {
			keys["ec2:Attribute/"+name] = []string{value}
			keys["ec2:Attribute"] = append(keys["ec2:Attribute"], name)
		}
	}
	add("HttpTokens", model.Val(in.HttpTokens))
	add("HttpEndpoint", model.Val(in.HttpEndpoint))
	add("InstanceMetadataTags", model.Val(in.InstanceMetadataTags))
	if in.HttpPutResponseHopLimit != nil {
		add("HttpPutResponseHopLimit", strconv.FormatInt(*in.HttpPutResponseHopLimit, 10))
	}
	return keys
}

// profileKeys tell the ARN of the profile that a request names, if there is such a profile: the handler refuses others.
func (s *Service) profileKeys(ctx context.Context, caller authn.Caller, key string,
	in *ec2model.IamInstanceProfileSpecification) (map[string][]string, error) {
	keys := make(map[string][]string)
	if in == nil || model.Val(in.Name) == "" && model.Val(in.Arn) == "" {
		return keys, nil
	}
	profile, err := s.cfg.IAM.InstanceProfile(ctx, caller.AccountID, cmp.Or(model.Val(in.Arn), model.Val(in.Name)))
	if known, ok := errors.AsType[*model.Error](err); ok && known.Status < http.StatusInternalServerError {
		return keys, nil
	}
	if err == nil {
		keys[key] = []string{profile.ARN}
	}
	return keys, err
}

// CountsFor implements iam.ResourceKeys: what a launch says is about its instances, not about image and key pair.
func (s *Service) CountsFor(action, arn, _ string) bool {
	if action != actionRun {
		return true
	}
	_, kind, _ := s.splitARN(arn)
	return kind == instanceResource
}

// ResourceKey implements iam.ResourceKeys for instances, images and key pairs.
func (s *Service) ResourceKey(ctx context.Context, arn, key string) ([]string, bool) {
	account, kind, id := s.splitARN(arn)
	switch kind {
	case instanceResource:
		e, ok := s.view.get(id)
		// What a service hides in an account is nobody's to ask about there.
		if !ok || e.inst.AccountID != account || e.inst.Hidden {
			return nil, false
		}
		return s.instanceKey(&e.inst, key)
	case imageResource:
		image, ok := s.images.byID[id]
		if !ok {
			return nil, false
		}
		return imageKey(&image, key)
	case keyPairResource:
		// One that cannot be read has no keys: the condition decides as for keys that are not there.
		pair, err := s.keyPairs.Get(ctx, keyPairKey(account, id))
		if err != nil {
			return nil, false
		}
		return pair.key(key)
	}
	return nil, false
}

// splitARN takes an ARN of this region apart; all is empty when it is none.
func (s *Service) splitARN(arn string) (account, kind, id string) {
	rest, ok := strings.CutPrefix(arn, "arn:aws:ec2:"+s.cfg.Region+":")
	if !ok {
		return "", "", ""
	}
	account, rest, _ = strings.Cut(rest, ":")
	kind, id, _ = strings.Cut(rest, "/")
	return account, kind, id
}

func (s *Service) instanceKey(i *Instance, key string) ([]string, bool) {
	if values, ok := tagValues(i.Tags, key); ok {
		return values, true
	}
	value := ""
	switch key {
	case "ec2:instanceid":
		value = i.ID
	case "ec2:instancetype":
		value = i.InstanceType
	case "ec2:instanceprofile":
		value = i.ProfileARN
	case "ec2:availabilityzone":
		value = zoneOf(s.cfg.Region)
	case "ec2:tenancy":
		value = "default"
	case "ec2:rootdevicetype":
		value = rootDeviceType
	case "ec2:ebsoptimized":
		value = "false"
	case "ec2:instancemarkettype":
		value = "on-demand"
	default:
		value = i.Metadata.key(key)
	}
	return []string{value}, value != ""
}

// key returns a condition key that metadata options answer; empty when it is another.
func (m MetadataOptions) key(key string) string {
	wire := wireMetadata(m)
	switch key {
	case strings.ToLower(keyTokens):
		return model.Val(wire.HttpTokens)
	case strings.ToLower(keyEndpoint):
		return model.Val(wire.HttpEndpoint)
	case strings.ToLower(keyHopLimit):
		return strconv.FormatInt(model.Val(wire.HttpPutResponseHopLimit), 10)
	case "ec2:instancemetadatatags":
		return model.Val(wire.InstanceMetadataTags)
	}
	return ""
}

func imageKey(image *ImageInfo, key string) ([]string, bool) {
	value := ""
	switch key {
	case "ec2:imageid":
		value = ImageID(image.Name)
	case "ec2:imagetype":
		value = ec2model.ImageTypeValuesMachine
	case "ec2:public":
		value = strconv.FormatBool(image.Public)
	case "ec2:owner":
		value = imageOwner
	case "ec2:rootdevicetype":
		value = rootDeviceType
	}
	return []string{value}, value != ""
}

func (p *KeyPair) key(key string) ([]string, bool) {
	switch key {
	case "ec2:keypairname":
		return []string{p.Name}, true
	case "ec2:keypairtype":
		return []string{p.Type}, true
	}
	return tagValues(p.Tags, key)
}

// tagValues returns a resource's tag that a condition key asks for. Condition keys know no case, but EC2's tags do: the
// values of all tags whose keys differ in that alone come in the order of those.
func tagValues(tags map[string]string, key string) (values []string, ok bool) {
	name, isTag := strings.CutPrefix(key, "aws:resourcetag/")
	if !isTag {
		if name, isTag = strings.CutPrefix(key, "ec2:resourcetag/"); !isTag {
			return nil, false
		}
	}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		if strings.EqualFold(k, name) {
			values = append(values, tags[k])
		}
	}
	return values, len(values) > 0
}

// authorizeTags asks whether the caller may give tags to what an operation is about to make: that is a permission of
// its own, which policies tell from later changes by the key ec2:CreateAction.
func (s *Service) authorizeTags(ctx context.Context, caller authn.Caller, operation, arn string,
	tags map[string]string) error {
	if len(tags) == 0 {
		return nil
	}
	keys := tagKeys(wireTags(tags))
	keys["ec2:CreateAction"] = []string{operation}
	return s.cfg.IAM.Authorize(ctx, caller, actionCreateTags, []string{arn}, keys)
}

// authorizePairTags is authorizeTags for a key pair.
func (s *Service) authorizePairTags(ctx context.Context, operation, name string, tags map[string]string) error {
	caller, err := callerFrom(ctx)
	if err != nil {
		return err
	}
	return s.authorizeTags(ctx, caller, operation, s.arn(caller.AccountID, keyPairResource, name), tags)
}
