package ec2

import (
	"net/http"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

// Limits of EC2's filters.
const (
	maxFilters      = 50
	maxFilterValues = 200
)

// attributes gives a resource's values for a filter's name. A filter matches when one of its values matches one
// of them.
type attributes func(name string) []string

// filters are parsed filters; all of them must match.
type filters []ec2model.Filter

// parseFilters refuses a name that known does not allow. A known name that ends in a colon allows any rest.
func parseFilters(in []ec2model.Filter, known ...string) (filters, error) {
	if len(in) > maxFilters {
		return nil, model.Errorf("FilterLimitExceeded", http.StatusBadRequest,
			"The maximum number of filters is %d", maxFilters)
	}
	for _, f := range in {
		name := model.Val(f.Name)
		if !knownFilter(name, known) {
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest, "The filter '%s' is invalid", name)
		}
		if len(f.Values) == 0 {
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"The filter '%s' has no value (parameter Filter.N.Value)", name)
		}
		if len(f.Values) > maxFilterValues {
			return nil, model.Errorf("FilterLimitExceeded", http.StatusBadRequest,
				"The maximum number of filter values specified on a single call is %d", maxFilterValues)
		}
	}
	return in, nil
}

func knownFilter(name string, known []string) bool {
	for _, k := range known {
		open := strings.HasSuffix(k, ":")
		if !open && name == k || open && len(name) > len(k) && strings.HasPrefix(name, k) {
			return true
		}
	}
	return false
}

func (fs filters) match(attrs attributes) bool {
	for _, f := range fs {
		if !anyMatch(f.Values, attrs(model.Val(f.Name))) {
			return false
		}
	}
	return true
}

func anyMatch(patterns, values []string) bool {
	for _, p := range patterns {
		for _, v := range values {
			if wildcard(p, v) {
				return true
			}
		}
	}
	return false
}

// wildcard matches as EC2's filters do: * is any text, ? any one character, and a backslash takes the next
// character as it is. It takes time in proportion to the product of the lengths at worst.
func wildcard(pattern, text string) bool {
	p, t := 0, 0
	star, mark := -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p+1 < len(pattern) && pattern[p] == '\\' && pattern[p+1] == text[t]:
			p += 2
			t++
		case p < len(pattern) && pattern[p] != '\\' && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// tagAttributes serves the filters tag:KEY and tag-key.
func tagAttributes(tags map[string]string, name string) []string {
	if key, ok := strings.CutPrefix(name, "tag:"); ok {
		if value, has := tags[key]; has {
			return []string{value}
		}
		return nil
	}
	if name != "tag-key" {
		return nil
	}
	keys := make([]string, 0, len(tags))
	for key := range tags {
		keys = append(keys, key)
	}
	return keys
}
