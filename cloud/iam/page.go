package iam

import (
	"encoding/base64"
	"sort"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

const (
	defaultPage = 100
	largestPage = 1000
)

// page is the part of a list that one answer holds.
type page[T any] struct {
	items     []T
	truncated *bool
	marker    *string // set when truncated
}

// paginate cuts one page out of items, which are sorted by key. A marker is the last key of the page before, so that
// entities created or deleted between two pages shift nothing.
func paginate[T any](items []T, key func(T) string, marker *string, maxItems *int64) (page[T], error) {
	size := int64(defaultPage)
	if maxItems != nil {
		size = min(max(*maxItems, 1), largestPage)
	}
	if marker != nil {
		after, err := base64.RawURLEncoding.DecodeString(*marker)
		if err != nil {
			return page[T]{}, iammodel.ErrInvalidInput("Invalid Marker: %s", *marker)
		}
		from := sort.Search(len(items), func(i int) bool { return key(items[i]) > string(after) })
		items = items[from:]
	}
	p := page[T]{items: items, truncated: model.Ptr(false)}
	if int64(len(items)) > size {
		p.items = items[:size]
		last := key(items[size-1])
		p.truncated = model.Ptr(true)
		p.marker = model.Ptr(base64.RawURLEncoding.EncodeToString([]byte(last)))
	}
	return p, nil
}

// underPath keeps the records whose path begins with prefix; nil keeps all.
func underPath[T any](records []T, path func(*T) string, prefix *string) []T {
	if prefix == nil || *prefix == "/" {
		return records
	}
	kept := records[:0]
	for i := range records {
		if strings.HasPrefix(path(&records[i]), *prefix) {
			kept = append(kept, records[i])
		}
	}
	return kept
}

func sameText(s string) string { return s }
