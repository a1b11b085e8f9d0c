package iam

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sort"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
)

const (
	defaultPage = 100
	largestPage = 1000
	// maxScanned bounds the records that are read for one answer which leaves some out. An answer may hold fewer items
	// than were asked for although there are more, as AWS's documentation of MaxItems says.
	maxScanned = 2000
	// leastScanned is how many records are read at once where some are left out.
	leastScanned = 100
)

// page is the part of a list that one answer holds.
type page[T any] struct {
	items     []T
	truncated *bool
	marker    *string // set when truncated
}

// markerSum is how many bytes of a marker tell that it is as it was given.
const markerSum = 6

// markerOf makes the marker that has a list go on after last.
func markerOf(last string) *string {
	sum := sha256.Sum256([]byte("marker " + last))
	return model.Ptr(base64.RawURLEncoding.EncodeToString(append(sum[:markerSum:markerSum], last...)))
}

// readMarker is empty without a marker; the error is AWS's of one that it has not given for this list, whose keys begin
// with prefix.
func readMarker(marker *string, prefix string) (last string, err error) {
	if marker == nil {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(*marker)
	if err == nil && len(raw) > markerSum {
		last = string(raw[markerSum:])
		sum := sha256.Sum256([]byte("marker " + last))
		if bytes.Equal(sum[:markerSum], raw[:markerSum]) && strings.HasPrefix(last, prefix) {
			return last, nil
		}
	}
	return "", model.Errorf("ValidationError", http.StatusBadRequest, "Invalid Marker.")
}

// paginate cuts one page out of items, which are sorted by key. A marker is the last key of the page before, so that
// entities created or deleted between two pages shift nothing.
func paginate[T any](items []T, key func(T) string, marker *string, maxItems *int64) (page[T], error) {
	size := pageSize(maxItems)
	after, err := readMarker(marker, "")
	if err != nil {
		return page[T]{}, err
	}
	if marker != nil {
		items = items[sort.Search(len(items), func(i int) bool { return key(items[i]) > after }):]
	}
	p := page[T]{items: items, truncated: model.Ptr(false)}
	if len(items) > size {
		p.items = items[:size]
		p.truncated, p.marker = model.Ptr(true), markerOf(key(items[size-1]))
	}
	return p, nil
}

// pager is a table whose records can be read in part; see store.Table.Page.
type pager[T any] interface {
	Page(ctx context.Context, prefix, after string, limit int) (values []T, keys []string, more bool, err error)
}

// listPage reads one page of a table, so that a list costs what its page costs. keep leaves records out; nil keeps all.
// The records' keys begin with prefix. The records are shared and must not be changed.
func listPage[T any](ctx context.Context, t pager[T], prefix string, keep func(*T) bool, marker *string,
	maxItems *int64,
) (page[*T], error) {
	return chainPage(ctx, []part[*T]{tablePart("", t, prefix, keep, same[T])}, marker, maxItems)
}

// below makes listPage keep the records whose path begins with prefix; nil keeps all.
func below[T any](prefix *string, path func(*T) string) func(*T) bool {
	if prefix == nil || *prefix == "/" {
		return nil
	}
	return func(r *T) bool { return strings.HasPrefix(path(r), *prefix) }
}

func pageSize(maxItems *int64) int {
	if maxItems == nil {
		return defaultPage
	}
	return int(min(max(*maxItems, 1), largestPage))
}

func sameText(s string) string { return s }
