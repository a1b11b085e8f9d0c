package iam

import (
	"context"
	"maps"
	"strings"
)

// ResourceKeys tells the condition keys of one service's resources, such as the tags of EC2's instances. Its methods
// are asked while a request is decided, only for what a policy asks for, and from any goroutine.
type ResourceKeys interface {
	// ResourceKey returns the values that a resource has under a condition key, in lower case (aws:resourcetag/team), as
	// it is now. One that is not there has none.
	ResourceKey(ctx context.Context, arn, key string) (values []string, ok bool)
	// CountsFor says whether a key that a request of action answers by itself counts for one of the resources that the
	// request is about: the type of an instance to be launched does not count for its image.
	CountsFor(action, arn, key string) bool
}

// SetResourceKeys plugs in the keys of a service's resources. service is what stands in their ARNs and before the colon
// of the service's actions, such as ec2.
func (s *Service) SetResourceKeys(service string, keys ResourceKeys) {
	for {
		old := s.resourceKeys.Load()
		all := map[string]ResourceKeys{service: keys}
		if old != nil {
			all = maps.Clone(*old)
			all[service] = keys
		}
		if s.resourceKeys.CompareAndSwap(old, &all) {
			return
		}
	}
}

// resourceKeysOf returns what knows the keys of a resource; nil when nobody does.
func (s *Service) resourceKeysOf(arn string) ResourceKeys {
	all := s.resourceKeys.Load()
	if all == nil {
		return nil
	}
	rest, ok := strings.CutPrefix(arn, "arn:aws:")
	if !ok {
		return nil
	}
	service, _, _ := strings.Cut(rest, ":")
	return (*all)[service]
}

// own returns a key that the request answers by itself.
func (c *conditionContext) own(key string) ([]string, bool) {
	values, ok := c.extra[key]
	if !ok {
		for k, v := range c.extra {
			if strings.EqualFold(k, key) {
				values, ok = v, true
				break
			}
		}
	}
	if !ok {
		return nil, false
	}
	if keys := c.service.resourceKeysOf(c.request.Resource); keys != nil && !keys.CountsFor(c.request.Action,
		c.request.Resource, key) {
		return nil, false
	}
	return values, true
}

// ofResource returns a key of a resource of another service than IAM.
func (c *conditionContext) ofResource(key string) ([]string, bool) {
	keys := c.service.resourceKeysOf(c.request.Resource)
	if keys == nil {
		return nil, false
	}
	return keys.ResourceKey(c.ctx, c.request.Resource, key)
}
