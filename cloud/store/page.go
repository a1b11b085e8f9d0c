package store

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Page returns at most limit records whose keys begin with keyPrefix and come after the key after, which may be empty,
// with their keys, in key order, and whether there are more. It costs what the page costs, not what the table does.
func (t *Table[T]) Page(ctx context.Context, keyPrefix, after string, limit int) (
	values []T, keys []string, more bool, err error,
) {
	from, end := t.prefix+keyPrefix, clientv3.GetPrefixRangeEnd(t.prefix+keyPrefix)
	if after != "" && t.prefix+after >= from {
		from = t.prefix + after + "\x00"
	}
	if from >= end {
		return nil, nil, false, nil
	}
	resp, err := t.store.client.Get(ctx, from, append(t.store.readOptions(), clientv3.WithRange(end),
		clientv3.WithLimit(int64(limit)))...)
	if err != nil {
		return nil, nil, false, t.wrap("list", keyPrefix, err)
	}
	t.store.read.Add(uint64(len(resp.Kvs)))
	values, keys = make([]T, len(resp.Kvs)), make([]string, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		if values[i], err = t.decode(kv.Value); err != nil {
			return nil, nil, false, fmt.Errorf("record %s: %w", kv.Key, err)
		}
		keys[i] = strings.TrimPrefix(string(kv.Key), t.prefix)
	}
	return values, keys, resp.More, nil
}
