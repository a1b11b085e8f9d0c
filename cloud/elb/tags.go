package elb

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

// maxTags is how many tags a load balancer can have.
const maxTags = 50

// mergeTags returns old with the tags of a request put in.
func mergeTags(old map[string]string, in []elbmodel.Tag) (map[string]string, error) {
	merged := maps.Clone(old)
	if merged == nil {
		merged = map[string]string{}
	}
	seen := map[string]bool{}
	for _, tag := range in {
		key := model.Val(tag.Key)
		if key == "" || strings.HasPrefix(strings.ToLower(key), "aws:") {
			return nil, invalidParameter("Tags: the key %q is not valid: it must not be empty nor begin with aws:", key)
		}
		if seen[key] {
			return nil, elbmodel.ErrDuplicateTagKeys("Tags: the key %q is given twice", key)
		}
		seen[key] = true
		merged[key] = model.Val(tag.Value)
	}
	if len(merged) > maxTags {
		return nil, elbmodel.ErrTooManyTags("Tags: a load balancer can have at most %d tags", maxTags)
	}
	return merged, nil
}

// AddTags puts tags on load balancers; a key that is there gets the new value.
func (s *Service) AddTags(ctx context.Context, in *elbmodel.AddTagsInput) (*elbmodel.AddTagsOutput, error) {
	err := s.changeEach(ctx, in.LoadBalancerNames, func(lb *LoadBalancer) (err error) {
		lb.Tags, err = mergeTags(lb.Tags, in.Tags)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &elbmodel.AddTagsOutput{}, nil
}

// RemoveTags takes tags off load balancers; a key that is not there is no error.
func (s *Service) RemoveTags(ctx context.Context, in *elbmodel.RemoveTagsInput) (*elbmodel.RemoveTagsOutput, error) {
	err := s.changeEach(ctx, in.LoadBalancerNames, func(lb *LoadBalancer) error {
		for _, tag := range in.Tags {
			delete(lb.Tags, model.Val(tag.Key))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elbmodel.RemoveTagsOutput{}, nil
}

// changeEach applies change to several load balancers once it is known that all of them are there and allow it.
func (s *Service) changeEach(ctx context.Context, names []string, change func(*LoadBalancer) error) error {
	if len(names) == 0 {
		return invalidParameter("LoadBalancerNames must hold at least one name")
	}
	for _, name := range names {
		lb, err := s.get(ctx, name)
		if err != nil {
			return err
		}
		if err := change(&lb); err != nil {
			return err
		}
	}
	for _, name := range names {
		if _, err := s.change(ctx, name, change); err != nil {
			return err
		}
	}
	return nil
}

// DescribeTags lists the tags of load balancers, by key.
func (s *Service) DescribeTags(ctx context.Context, in *elbmodel.DescribeTagsInput) (
	*elbmodel.DescribeTagsOutput, error) {
	out := &elbmodel.DescribeTagsOutput{TagDescriptions: []elbmodel.TagDescription{}}
	for _, name := range in.LoadBalancerNames {
		lb, err := s.get(ctx, name)
		if err != nil {
			return nil, err
		}
		d := elbmodel.TagDescription{LoadBalancerName: model.Ptr(name), Tags: []elbmodel.Tag{}}
		for _, key := range slices.Sorted(maps.Keys(lb.Tags)) {
			d.Tags = append(d.Tags, elbmodel.Tag{Key: model.Ptr(key), Value: model.Ptr(lb.Tags[key])})
		}
		out.TagDescriptions = append(out.TagDescriptions, d)
	}
	return out, nil
}
