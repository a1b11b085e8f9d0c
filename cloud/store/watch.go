package store

import (
	"context"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Change is one write to a table.
type Change[T any] struct {
	Key      string
	Value    *T // nil: the record was deleted
	Revision int64
}

// Watch returns the records whose keys begin with keyPrefix and every change after them, without a gap. The
// channel is closed when ctx ends, the store is closed, or the watcher fell so far behind that changes are lost;
// in the last case call Watch again.
func (t *Table[T]) Watch(ctx context.Context, keyPrefix string) ([]T, <-chan Change[T], error) {
	return t.WatchNews(ctx, keyPrefix, func(string, int64) bool { return false })
}

// WatchNews is Watch for somebody who has many changes from elsewhere, because they are its own: known says so of
// one, by its key and revision, and spares it being read and sent.
func (t *Table[T]) WatchNews(ctx context.Context, keyPrefix string, known func(key string, revision int64) bool) (
	[]T, <-chan Change[T], error) {
	initial, revision, err := t.list(ctx, keyPrefix)
	if err != nil {
		return nil, nil, err
	}
	changes := make(chan Change[T], 64)
	responses := t.store.client.Watch(ctx, t.prefix+keyPrefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	go func() {
		defer close(changes)
		for resp := range responses {
			if resp.Err() != nil {
				return
			}
			for _, ev := range resp.Events {
				if !known(t.key(ev), ev.Kv.ModRevision) && !t.forward(ctx, changes, ev) {
					return
				}
			}
		}
	}()
	return initial, changes, nil
}

// WatchKeys sends the key of every record that is written or removed from now on. The channel is closed as Watch's.
func (t *Table[T]) WatchKeys(ctx context.Context) (<-chan string, error) {
	now, err := t.store.client.Get(ctx, t.prefix, clientv3.WithCountOnly())
	if err != nil {
		return nil, t.wrap("watch", "", err)
	}
	keys := make(chan string, 64)
	responses := t.store.client.Watch(ctx, t.prefix, clientv3.WithPrefix(), clientv3.WithRev(now.Header.Revision+1))
	go func() {
		defer close(keys)
		for resp := range responses {
			if resp.Err() != nil {
				return
			}
			for _, ev := range resp.Events {
				select {
				case keys <- t.key(ev):
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return keys, nil
}

func (t *Table[T]) key(ev *clientv3.Event) string {
	return strings.TrimPrefix(string(ev.Kv.Key), t.prefix)
}

func (t *Table[T]) forward(ctx context.Context, changes chan<- Change[T], ev *clientv3.Event) bool {
	c := Change[T]{Key: t.key(ev), Revision: ev.Kv.ModRevision}
	if ev.Type == clientv3.EventTypePut {
		value, err := t.decode(ev.Kv.Value)
		if err != nil {
			return false
		}
		c.Value = &value
	}
	select {
	case changes <- c:
		return true
	case <-ctx.Done():
		return false
	}
}
