package store

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Count returns how many records' keys begin with keyPrefix. No record is read.
func (t *Table[T]) Count(ctx context.Context, keyPrefix string) (int, error) {
	resp, err := t.store.client.Get(ctx, t.prefix+keyPrefix,
		append(t.store.readOptions(), clientv3.WithPrefix(), clientv3.WithCountOnly())...)
	if err != nil {
		return 0, t.wrap("count", keyPrefix, err)
	}
	return int(resp.Count), nil
}

// GetMany returns those of the records under keys that there are, by their keys, with few questions to etcd. What it
// returns of more than MaxOps keys may be of more than one state of the store.
func (t *Table[T]) GetMany(ctx context.Context, keys []string) (map[string]T, error) {
	found := make(map[string]T, len(keys))
	for most := t.store.MaxOps(); len(keys) > 0; {
		now := keys[:min(len(keys), most)]
		keys = keys[len(now):]
		ops := make([]clientv3.Op, len(now))
		for i, key := range now {
			ops[i] = clientv3.OpGet(t.prefix+key, t.store.readOptions()...)
		}
		resp, err := t.store.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return nil, t.wrap("read", now[0]+" and others", err)
		}
		for i, part := range resp.Responses {
			kvs := part.GetResponseRange().Kvs
			t.store.read.Add(uint64(len(kvs)))
			if len(kvs) == 0 {
				continue
			}
			if found[now[i]], err = t.decode(kvs[0].Value); err != nil {
				return nil, t.wrap("read", now[i], err)
			}
		}
	}
	return found, nil
}

// RecordsRead returns how many records were read since the store was opened, outside of transactions that write: what
// an operation costs shows by it, whatever the machine.
func (s *Store) RecordsRead() uint64 { return s.read.Load() }
