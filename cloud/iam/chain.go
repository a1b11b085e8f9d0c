package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// part is one of the lists that a longer list is made of, one after the other.
type part[V any] struct {
	// name begins the markers that go on in this part; no part's name begins another's.
	name string
	// read returns what the part holds after a key, from at most limit records in the order of their keys.
	read func(ctx context.Context, after string, limit int) (batch[V], error)
	// filtered says that records may be left out, so that more than a page's may have to be read for one.
	filtered bool
	// prefix begins the keys.
	prefix string
}

// batch is what was read of a part at once.
type batch[V any] struct {
	items []V
	keys  []string // of the items
	last  string   // key of the last record that was looked at
	more  bool
}

// tablePart is the part of a list that a table holds, as show shows its records. keep leaves records out; nil keeps
// all.
func tablePart[T, V any](name string, t pager[T], prefix string, keep func(*T) bool, show func(*T) (V, error),
) part[V] {
	read := func(ctx context.Context, after string, limit int) (b batch[V], err error) {
		values, keys, more, err := t.Page(ctx, prefix, after, limit)
		if err != nil {
			return b, err
		}
		b.more, b.items, b.keys = more, make([]V, 0, len(values)), make([]string, 0, len(values))
		for i := range values {
			b.last = keys[i]
			if keep != nil && !keep(&values[i]) {
				continue
			}
			v, err := show(&values[i])
			if err != nil {
				return b, err
			}
			b.items, b.keys = append(b.items, v), append(b.keys, keys[i])
		}
		return b, nil
	}
	return part[V]{name: name, prefix: prefix, filtered: keep != nil, read: read}
}

// chainPage reads one page of parts that follow one another. It reads about as many records as the page has items, and
// at most maxScanned where records are left out.
func chainPage[V any](ctx context.Context, parts []part[V], marker *string, maxItems *int64) (page[V], error) {
	begin, after, err := whereMarked(parts, marker)
	if err != nil {
		return page[V]{}, err
	}
	size, scanned := pageSize(maxItems), 0
	p := page[V]{items: []V{}, truncated: model.Ptr(false)}
	cut := func(last string) page[V] {
		p.truncated, p.marker = model.Ptr(true), markerOf(last)
		return p
	}
	last := ""
	for i := begin; i < len(parts); i, after = i+1, "" {
		for more := true; more; {
			// One more than there is room for tells whether something follows.
			limit := size + 1 - len(p.items)
			if parts[i].filtered {
				if scanned >= maxScanned {
					return cut(parts[i].name + max(after, parts[i].prefix)), nil
				}
				limit = max(limit, leastScanned)
			}
			b, err := parts[i].read(ctx, after, limit)
			if err != nil {
				return page[V]{}, err
			}
			p.items = slices.Grow(p.items, min(size-len(p.items), len(b.items)))
			for j, item := range b.items {
				if len(p.items) == size {
					return cut(last), nil
				}
				p.items, last = append(p.items, item), parts[i].name+b.keys[j]
			}
			more, after, scanned = b.more, b.last, scanned+limit
		}
	}
	return p, nil
}

// whereMarked returns in which part, and after which of its keys, a list goes on.
func whereMarked[V any](parts []part[V], marker *string) (i int, after string, err error) {
	if marker == nil {
		return 0, "", nil
	}
	for i, part := range parts {
		if last, err := readMarker(marker, part.name+part.prefix); err == nil {
			return i, strings.TrimPrefix(last, part.name), nil
		}
	}
	_, err = readMarker(marker, "\x00")
	return 0, "", err
}

// wholeList reads all pages.
func wholeList[V any](ctx context.Context, parts []part[V]) (all []V, err error) {
	for marker := (*string)(nil); ; {
		p, err := chainPage(ctx, parts, marker, model.Ptr[int64](largestPage))
		if err != nil {
			return nil, err
		}
		if all, marker = append(all, p.items...), p.marker; marker == nil {
			return all, nil
		}
	}
}
