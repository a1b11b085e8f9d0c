package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
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
	responses := t.store.watch(ctx, t.prefix+keyPrefix, revision+1)
	go func() {
		defer close(changes)
		for resp := range responses {
			if resp.Err() != nil || !t.store.readable(ctx, resp.Events) {
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
	responses := t.store.watch(ctx, t.prefix, now.Header.Revision+1)
	go func() {
		defer close(keys)
		for resp := range responses {
			if resp.Err() != nil || !t.store.readable(ctx, resp.Events) {
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

// watch asks etcd for the changes under a prefix from a revision on, over a stream of its own. etcd's client puts all
// watches into one stream, whose two ends wait for each other for ever when more than a few of them are ended at once
// and the server is in the same process (seen with thirteen; client v3.7.3).
func (s *Store) watch(ctx context.Context, prefix string, revision int64) clientv3.WatchChan {
	ctx = metadata.AppendToOutgoingContext(ctx, "watch", strconv.FormatUint(s.watches.Add(1), 10))
	return s.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
}

// notYet is how long a write that a watch told of mostly takes to be there for readers; it is looked for again then.
const notYet = 50 * time.Microsecond

// readable returns when whoever reads sees the changes, and false when ctx ends before. etcd tells watches of a write
// just before it lets readers see it, and reads of the embedded server wait for nothing (readOptions): whoever read
// again because of a change could get what was there before it, and keep that. Reads of an external cluster wait
// themselves.
func (s *Store) readable(ctx context.Context, changes []*clientv3.Event) bool {
	if s.server == nil || len(changes) == 0 {
		return true
	}
	revision := changes[len(changes)-1].Kv.ModRevision
	for s.server.Server.KV().Rev() < revision {
		if ctx.Err() != nil {
			return false
		}
		time.Sleep(notYet)
	}
	return true
}
