package ec2

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

// Limits of EC2's tags.
const (
	maxTags     = 50
	maxTagKey   = 127 // characters
	maxTagValue = 255
)

// parseTags checks tags that a client sent and returns them by key.
func parseTags(in []ec2model.Tag) (map[string]string, error) {
	tags := map[string]string{}
	for _, t := range in {
		key, value := model.Val(t.Key), model.Val(t.Value)
		switch {
		case key == "" || utf8.RuneCountInString(key) > maxTagKey:
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"Tag key '%.140s' is invalid (parameter Tag.Key). Expecting 1 to %d characters", key, maxTagKey)
		case utf8.RuneCountInString(value) > maxTagValue:
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"Tag value exceeds the maximum length of %d characters (parameter Tag.Value)", maxTagValue)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"Tag keys starting with 'aws:' are reserved for internal use (parameter Tag.Key)")
		}
		if _, twice := tags[key]; twice {
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"Duplicate tag key '%s' specified (parameter Tag.Key)", key)
		}
		tags[key] = value
	}
	if len(tags) > maxTags {
		return nil, tooManyTags()
	}
	return tags, nil
}

func tooManyTags() error {
	return model.Errorf("TagLimitExceeded", http.StatusBadRequest,
		"The maximum number of tags for a resource is %d", maxTags)
}

func parseTagSpecifications(in []ec2model.TagSpecification) (map[string]string, error) {
	var all []ec2model.Tag
	for _, spec := range in {
		switch t := model.Val(spec.ResourceType); t {
		case "instance":
			all = append(all, spec.Tags...)
		case "volume", "network-interface", "spot-instances-request":
			// A launch here makes none of these, so there is nothing to tag.
		default:
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"'%.64s' is not a valid taggable resource type for this operation (parameter TagSpecification.ResourceType)", t)
		}
	}
	return parseTags(all)
}

// CreateTags adds tags to instances and key pairs or changes them.
func (s *Service) CreateTags(ctx context.Context, in *ec2model.CreateTagsInput) (*ec2model.CreateTagsOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	tags, err := parseTags(in.Tags)
	if err != nil {
		return nil, err
	}
	list, err := s.taggable(ctx, caller, in.Resources)
	if err != nil {
		return nil, err
	}
	// All or nothing: the limits are checked for every resource before the first is written.
	add := func(old map[string]string) (map[string]string, error) { return withTags(old, tags) }
	if err := list.try(add); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	return &ec2model.CreateTagsOutput{}, s.changeTags(ctx, list, add)
}

func withTags(old, more map[string]string) (map[string]string, error) {
	merged := maps.Clone(old)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, more)
	if len(merged) > maxTags {
		return nil, tooManyTags()
	}
	return merged, nil
}

// DeleteTags removes the named tags, one with a value only if it has that value; without tags it removes all.
func (s *Service) DeleteTags(ctx context.Context, in *ec2model.DeleteTagsInput) (*ec2model.DeleteTagsOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range in.Tags {
		if model.Val(t.Key) == "" {
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"Tag key cannot be empty (parameter Tag.Key)")
		}
	}
	list, err := s.taggable(ctx, caller, in.Resources)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	return &ec2model.DeleteTagsOutput{}, s.changeTags(ctx, list, func(old map[string]string) (map[string]string, error) {
		if len(in.Tags) == 0 {
			return nil, nil
		}
		kept := maps.Clone(old)
		for _, t := range in.Tags {
			if value, has := kept[*t.Key]; has && (t.Value == nil || *t.Value == value) {
				delete(kept, *t.Key)
			}
		}
		return kept, nil
	})
}

type tagOf struct{ resource, kind, key, value string }

func (t tagOf) id() string { return t.resource + "/" + t.key }

// DescribeTags lists the tags of the account's instances and key pairs, in the order of resource and key.
func (s *Service) DescribeTags(ctx context.Context, in *ec2model.DescribeTagsInput) (*ec2model.DescribeTagsOutput,
	error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	fs, err := parseFilters(in.Filters, "key", "value", "resource-id", "resource-type", "tag:")
	if err != nil {
		return nil, err
	}
	var list []tagOf
	add := func(resource, kind string, tags map[string]string) {
		for key, value := range tags {
			if t := (tagOf{resource, kind, key, value}); fs.match(t.attributes) {
				list = append(list, t)
			}
		}
	}
	for _, e := range s.visible(caller) {
		add(e.inst.ID, instanceResource, e.inst.Tags)
	}
	pairs, err := s.keyPairs.List(ctx, caller.AccountID+"/")
	if err != nil {
		return nil, err
	}
	for i := range pairs {
		add(pairs[i].ID, keyPairResource, pairs[i].Tags)
	}
	sortBy(list, tagOf.id)
	shown, next, err := page(list, in.MaxResults, 5, in.NextToken, tagOf.id,
		func(t tagOf, last string) bool { return t.id() > last })
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2model.DescribeTagsOutput{NextToken: next}
	for _, t := range shown {
		out.Tags = append(out.Tags, ec2model.TagDescription{
			Key: model.Ptr(t.key), Value: model.Ptr(t.value), ResourceId: model.Ptr(t.resource),
			ResourceType: model.Ptr(t.kind),
		})
	}
	return out, nil
}

func (t tagOf) attributes(name string) []string {
	switch name {
	case "key":
		return []string{t.key}
	case "value":
		return []string{t.value}
	case "resource-id":
		return []string{t.resource}
	case "resource-type":
		return []string{t.kind}
	}
	if key, ok := strings.CutPrefix(name, "tag:"); ok && key == t.key {
		return []string{t.value}
	}
	return nil
}
